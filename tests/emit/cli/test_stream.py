"""Lines of standard input: cut as the daemon cuts them, sent in time, and none lost in silence."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.emit_process import PATIENCE

from oneshotd.core.parsing.formats import _split
from oneshotd.emit.answers import EmitRefused, EmitUnavailable
from oneshotd.emit.cli import stream as emit_stream
from oneshotd.emit.cli.progress import Progress
from oneshotd.emit.cli.stream import BATCH_LINES, LONGEST_LINE, Lines, Numbered, Outlet, Stop, batches

_PIECES = [b"a=1", b"\n", b"\r\n", b"\r", b" ", b"", b"b", b"\x0b", b"\n\n", b"\0", b"\t", b"\xef\xbb\xbf"]
TEXT = st.lists(st.sampled_from(_PIECES)).map(b"".join)


@given(text=TEXT, cuts=st.lists(st.integers(0, 40)))
def test_lines_are_those_of_the_daemon_however_they_arrive(text: bytes, cuts: list[int]) -> None:
    """A line number in a message would be another line's; or a line be cut in two by a slow pipe."""
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[start:end] for start, end in pairwise(edges)]
    lines = Lines()
    assert [line for part in [*parts, b"\n"] for line in lines.feed(part)] == list(_split(text))


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    """`cat /dev/zero | oneshot-emit -` would take all there is; now it is one line that is refused."""
    lines = Lines()
    for _ in range(40):
        assert list(lines.feed(b"x" * 65536)) == []
    found = list(lines.feed(b"\nb=1\n"))
    assert [(number, len(line)) for number, line in found] == [(1, LONGEST_LINE), (2, 3)]


@contextmanager
def piped() -> Iterator[tuple[int, int]]:
    source, sink = os.pipe()
    try:
        yield source, sink
    finally:
        os.close(source)


def read(source: int) -> list[list[Numbered]]:
    return list(batches(source, Stop(), Progress(source)))


def test_a_long_input_goes_in_large_batches() -> None:
    """Each line would cost a request."""
    text = b"".join(b"n=%d\n" % n for n in range(2 * BATCH_LINES + 5))
    with piped() as (source, sink):
        writer = threading.Thread(target=_write_all, args=(sink, text))
        writer.start()
        found = read(source)
        writer.join(PATIENCE)
    assert [line for batch in found for _, line in batch] == text.split()
    assert [number for batch in found for number, _ in batch] == list(range(1, 2 * BATCH_LINES + 6))
    assert max(map(len, found)) == BATCH_LINES
    assert len(found) < 50


def _write_all(sink: int, text: bytes) -> None:
    with os.fdopen(sink, "wb") as file:
        file.write(text)


def test_a_batch_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon would refuse its body as too large."""
    monkeypatch.setattr(emit_stream, "BATCH_BYTES", 10)
    with piped() as (source, sink):
        os.write(sink, b"a=1234\nb=1234\nc=1234\n")
        os.close(sink)
        assert [len(batch) for batch in read(source)] == [2, 1]


def test_the_last_line_may_lack_its_end() -> None:
    """`printf a=1 | oneshot-emit -` would send nothing."""
    with piped() as (source, sink):
        os.write(sink, b"a=1\nb=2")
        os.close(sink)
        assert read(source) == [[(1, b"a=1"), (2, b"b=2")]]


class Daemon:
    """Takes lines, but those with "bad" in them; all or none."""

    def __init__(self, away_from: bytes | None = None) -> None:
        self.got: list[bytes] = []
        self.requests = 0
        self._away_from = away_from

    def event(self, line: bytes) -> None:
        assert line.endswith(b"\n"), "the daemon could not tell it from lines that were joined"
        self.lines([line.removesuffix(b"\n")])

    def lines(self, lines: Sequence[bytes]) -> int:
        self.requests += 1
        if self._away_from in lines:
            raise EmitUnavailable("away")
        if b"forbidden" in lines:
            raise EmitRefused("you may not", status=403)
        if any(b"bad" in line for line in lines):
            raise EmitRefused("because", status=400)
        self.got += lines
        return len(lines)

    def give_up(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def outlet_to(said: list[str]) -> Callable[[Daemon], Outlet]:
    return lambda daemon: Outlet(daemon, b"", Progress(0), said.append)


def numbered(*lines: bytes) -> list[Numbered]:
    return list(enumerate(lines, 1))


@given(bad=st.sets(st.integers(1, 60)))
def test_good_lines_go_and_bad_ones_are_named(bad: set[int]) -> None:
    """One bad line would keep a thousand good ones back, or go in silence."""
    daemon, said = Daemon(), list[str]()
    outlet = Outlet(daemon, b"", Progress(0), said.append)
    lines = [(n, b"%s=%d" % (b"bad" if n in bad else b"good", n)) for n in range(1, 61)]
    outlet.send(lines)
    assert daemon.got == [line for n, line in lines if n not in bad]
    assert (outlet.sent, outlet.refused) == (60 - len(bad), len(bad))
    named = [f"line {n}: because" for n in sorted(bad)][:20]
    assert said == [*named, *(["further lines that are refused are only counted"] if len(bad) >= 20 else [])]
    assert daemon.requests <= 1 + 2 * 6 * max(1, len(bad))


def test_labels_for_all_are_added_to_each_line() -> None:
    """`oneshot-emit host=web1 -` would lose the host."""
    daemon = Daemon()
    Outlet(daemon, b"host=web1&site=x", Progress(0), print).send(numbered(b"a=1", b"b=2"))
    assert daemon.got == [b"a=1&host=web1&site=x", b"b=2&host=web1&site=x"]


@pytest.mark.parametrize(("stop", "error"), [(b"forbidden", EmitRefused), (b"here", EmitUnavailable)])
def test_what_more_lines_would_not_mend_ends_it_with_the_place(
    stop: bytes,
    error: type[Exception],
    outlet_to: Callable[[Daemon], Outlet],
    said: list[str],
) -> None:
    """Nobody would know from which line on to send again."""
    daemon = Daemon(away_from=b"here")
    outlet = outlet_to(daemon)
    outlet.send(numbered(b"a=1", b"bad", b"a=3"))
    with pytest.raises(error):
        outlet.send([(4, b"a=4"), (7, b"bad"), (9, stop), (10, b"a=10")])
    outlet.stopped("why")
    assert said[-1] in ("why; stopped before line 4, with 2 sent", "why; stopped before line 9, with 3 sent")
    assert daemon.got[:2] == [b"a=1", b"a=3"]


def test_the_second_signal_ends_it_at_once() -> None:
    """A second Ctrl-C would not end the process."""
    stop = Stop()
    stop.heard(signal.SIGUSR1, None)
    child = os.fork()
    if child == 0:
        stop.heard(signal.SIGUSR1, None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGUSR1
