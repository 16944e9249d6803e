"""`oneshot-emit` and a real daemon: what was said to be sent is in the scrape, once."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.daemon import Daemon
from support.emit_process import PATIENCE, emit, started
from support.processes import until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running
        assert running.errors() == []


def scrape(daemon: Daemon) -> Counter[str]:
    """Samples of events that this scraper has not had yet: their sum by series."""
    found: Counter[str] = Counter()
    for line in daemon.get("/metrics?scraper=test").splitlines():
        if line.startswith("events_to_metrics"):
            series, _, value = line.rpartition(" ")
            found[series] += int(float(value)) if "exit_code" not in series else 1
    return found


def only(daemon: Daemon, label: str, count: int) -> Counter[str]:
    """All samples until those with this label are so many events."""
    found: Counter[str] = Counter()

    def complete() -> bool:
        found.update({series: n for series, n in scrape(daemon).items() if label in series})
        return found.total() >= count

    until(complete, PATIENCE, lambda: f"{count} events with {label}: {found}")
    return found


def test_every_way_of_sending_arrives(daemon: Daemon) -> None:
    """Somebody's event would be missing."""
    address = f"127.0.0.1:{daemon.port}"
    for words in (
        ["case=ways", "way=http", 'text=a b&c=d\n"e" % ü'],
        ["case=ways", "way=udp", "--udp", address],
        ["case=ways", "way=option", "--http", f"http://{address}/", "--retry", "5s"],
        ["--exec", "case=ways", "way=exec", "--", "sh", "-c", "exit 3"],
    ):
        done = emit(*words, url=daemon.url)
        assert done.returncode == (3 if "--exec" in words else 0), done
        assert done.stderr == b""
    assert emit("case=ways", "-", url=daemon.url, stdin=b"way=lines&n=1\nway=lines&n=1").returncode == 0
    assert only(daemon, 'case="ways"', 6) == {
        'events_to_metrics{case="ways",text="a b&c=d\\n\\"e\\" % ü",way="http"}': 1,
        'events_to_metrics{case="ways",way="udp"}': 1,
        'events_to_metrics{case="ways",way="option"}': 1,
        'events_to_metrics{case="ways",exit_code="3",status="failed",way="exec"}': 1,
        'events_to_metrics{case="ways",n="1",way="lines"}': 2,
    }


def test_a_key_counts_once(daemon: Daemon) -> None:
    """A report that is sent again by hand would count twice."""
    for _ in range(3):
        assert emit("case=key", "--id", "order-4711", url=daemon.url).returncode == 0
    done = emit("case=key", "n=other", "--id", "order-4711", url=daemon.url)
    assert done.returncode == 1
    assert b"refused (422): " in done.stderr
    assert only(daemon, 'case="key"', 1).total() == 1


def test_lines_are_counted_exactly_and_bad_ones_named(daemon: Daemon) -> None:
    """A long file with a slip in it would be lost, or its good part count twice."""
    lines = [f"case=lines&n={n % 7}" for n in range(5000)]
    bad = {17: "case=lines&value=x", 1000: "nonsense", 1001: "__a=1", 4999: "case=lines&case=2"}
    for number, line in bad.items():
        lines[number - 1] = line
    done = emit("--retry", "10s", "-", url=daemon.url, stdin="\n".join(lines).encode())
    assert done.returncode == 1
    said = done.stderr.decode().splitlines()
    assert [int(found[1]) for line in said if (found := re.match(r"oneshot-emit: line (\d+): ", line))] == [
        *bad
    ]
    assert said[-1] == "oneshot-emit: refused 4 of 5000 lines"
    assert only(daemon, 'case="lines"', 4996).total() == 4996
    assert not any('case="lines"' in series for series in scrape(daemon))


def test_a_growing_file_is_followed(daemon: Daemon) -> None:
    """`tail -f | oneshot-emit -` would show its events late, or at its end only."""
    with started("case=tail", "-", url=daemon.url) as child:
        assert child.stdin is not None
        for n in range(3):
            child.stdin.write(b"n=%d\n" % n)
            child.stdin.flush()
            assert only(daemon, f'case="tail",n="{n}"', 1).total() == 1
        child.terminate()
        assert child.wait(PATIENCE) == 143


@contextmanager
def forgetful_proxy(port: int, forgets: int) -> Iterator[str]:
    """The URL of a proxy that keeps the first answers for itself: they were given, and are lost."""
    ends = threading.Event()

    def serve() -> None:
        forgotten = 0
        while not ends.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            with client, socket.create_connection(("127.0.0.1", port), PATIENCE) as server:
                client.settimeout(PATIENCE)
                server.sendall(client.recv(65536))
                answer = server.recv(65536)
                if forgotten < forgets:
                    forgotten += 1
                else:
                    client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ends.set()
            thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("case", "words", "stdin"),
    [
        ("one", ["case=one"], b""),
        ("own", ["case=own", "--id", "own-key"], b""),
        ("exec", ["--exec", "case=exec", "--", "true"], b""),
        ("body", ["-"], b"case=body"),
        ("bodies", ["-"], b"case=bodies&n=1\ncase=bodies&n=1\ncase=bodies&n=2&__id__=mine"),
    ],
)
def test_what_is_sent_again_counts_once(daemon: Daemon, case: str, words: list[str], stdin: bytes) -> None:
    """An event whose answer was lost on the way would count twice, or not at all."""
    with forgetful_proxy(daemon.port, forgets=2) as url:
        done = emit("--retry", "20s", *words, url=url, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    events = max(1, stdin.count(b"case"))
    assert only(daemon, f'case="{case}"', events).total() == events


def test_a_restart_of_the_daemon_is_outlived(daemon: Daemon) -> None:
    """Events of a deployment that restarts the daemon as well would be missing."""
    daemon.stop()
    with (
        started("--retry", "1m", "case=away", url=daemon.url) as one,
        started("--retry", "1m", "-", url=daemon.url) as lines,
    ):
        assert lines.stdin is not None
        lines.stdin.write(b"case=away&way=lines\n" * 20)
        lines.stdin.close()
        daemon.start()
        assert one.wait(PATIENCE) == 0
        assert lines.wait(PATIENCE) == 0
    assert only(daemon, 'case="away"', 21).total() == 21
