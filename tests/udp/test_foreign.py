"""Datagrams of other programs: refused, counted, and logged with what they look like."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.foreign_lines import FOREIGN
from support.udp_bench import Bench, log_lines

from oneshotd.ingest.dialects.dogstatsd import begins
from oneshotd.udp.blocks import BLOCK_SIZES, MAX_SENDERS, REST_SECONDS, Blocks


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.fixture
def logged() -> Iterator[list[str]]:
    with log_lines() as lines:
        yield lines


@pytest.mark.parametrize(("line", "what"), [pair for pair in FOREIGN if not begins(pair[0])])
def test_a_foreign_datagram_is_counted_and_logged_with_its_format(
    bench: Bench, logged: list[str], line: bytes, what: str
) -> None:
    """A StatsD client or logger that has the wrong port made series of garbage, in silence."""
    bench.send(line, b"type=a")
    bench.reader.doRead()
    assert bench.offered.types() == ["a"]
    assert sum(bench.figure("refused", reason=reason) or 0 for reason in ("label", "syntax", "encoding")) == 1
    assert len(logged) == 1
    assert logged[0].startswith("UDP: 1 refused (")
    assert logged[0].endswith(f"(this looks like {what}; see docs/emitting.md)")


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbftype=a", b"type=a\0", b"type=a \r\n\0\0", b"\xef\xbb\xbftype=a&value= 1 \n"]
)
def test_what_editors_and_c_buffers_leave_is_cut_off(bench: Bench, data: bytes) -> None:
    """`type=a` and `type=a\\0` would be two series."""
    bench.send(data, data)
    bench.reader.doRead()
    assert bench.offered.types() == ["a", "a"]
    assert [event.series for event in bench.offered.events] == ['events_to_metrics{type="a"}'] * 2


# Blocks of a text, as `nc -u < file` sends them


TEXT = b"".join(b"type=t%d&text=%s\n" % (n, b"x" * (n % 7)) for n in range(5000))


@pytest.mark.parametrize("size", sorted(BLOCK_SIZES))
def test_the_halves_of_a_cut_line_are_refused(bench: Bench, logged: list[str], size: int) -> None:
    """`pe=t95&text=x` would be an event."""
    text = TEXT[: 2 * size + 100].rpartition(b"\n")[0] + b"\n"
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    cut = [text[: len(b"".join(parts[:n]))].count(b"\n") for n in range(1, len(parts))]
    bench.send(*parts)
    bench.reader.doRead()
    bench.reader.drain()
    lines = text.count(b"\n")
    assert bench.offered.types() == [f"t{n}" for n in range(lines) if n not in cut]
    assert bench.figure("refused", reason="syntax") == 2 * len(cut)
    assert bench.figure("udp_datagrams") == len(parts)
    assert bench.figure("udp_lines") == lines + len(cut)
    assert "is a part of a line, as nc -u cuts a file; see docs/emitting.md" in logged[0]


def test_nothing_but_the_rest_of_a_line(bench: Bench) -> None:
    block = TEXT[:2048]
    bench.send(block, b"the rest of it", b"type=a")
    bench.reader.doRead()
    assert bench.offered.types()[-1] == "a"
    assert bench.figure("refused", reason="syntax") == 2
    assert bench.figure("udp_datagrams") == 3


def test_a_rest_is_expected_from_the_same_sender_and_not_for_long() -> None:
    """Another sender's event, or a later one, would be refused for it."""
    now = 5.0
    blocks = Blocks(lambda: now)
    assert not blocks.concerns(b"type=a")
    assert blocks.concerns(TEXT[:4096])
    data, halves = blocks.whole_lines(TEXT[:4096], ("a", 1))
    assert [data, *halves] == [TEXT[:4096].rpartition(b"\n")[0], TEXT[:4096].rpartition(b"\n")[2]]
    assert blocks.whole_lines(b"type=b", ("a", 2)) == (b"type=b", [])
    now += REST_SECONDS
    assert blocks.whole_lines(b"type=a", ("a", 1)) == (b"type=a", [])
    assert not blocks.concerns(b"type=a")


@pytest.mark.parametrize("data", [TEXT[:2047], b"x" * 2048, b"a=1\n" * 512])
def test_other_datagrams_are_left_alone(data: bytes) -> None:
    """One line, whole lines, or a size that only a client would choose."""
    assert Blocks(lambda: 0.0).whole_lines(data, "a") == (data, [])


def test_senders_without_end_take_no_memory() -> None:
    blocks = Blocks(lambda: 0.0)
    for sender in range(3 * MAX_SENDERS):
        blocks.whole_lines(TEXT[:2048], sender)
    assert len(blocks._expecting) <= MAX_SENDERS
