"""`oneshot-emit` with two daemons over one PostgreSQL: an event counts once, whichever daemon fails."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.emit_process import PATIENCE, emit, started
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import free_port, until

pytestmark = pytest.mark.e2e

#: Each event is a sample of its own: their labels differ.
_EVENT = re.compile(r'^events_to_metrics\{.*n="([^"]*)".*\} \S+$', re.MULTILINE)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def daemons(tmp_path: Path, server: PostgreSQLServer) -> Iterator[tuple[Daemon, Daemon]]:
    store = f"--store=postgresql:{server.address(server.new_database())}"
    with ExitStack() as stack:
        found = []
        for name in ("ann", "bob"):
            (folder := tmp_path / name).mkdir()
            port = free_port()
            options = (f"--http=localhost:{port}", f"--udp=127.0.0.1:{port}", store)
            found.append(stack.enter_context(Daemon(folder, options=options, port=port)))
        yield found[0], found[1]


@contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    """Hold the daemon up, as a virtual machine that is paused."""
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


def addresses(*daemons: Daemon) -> list[str]:
    return [word for daemon in daemons for word in ("--http", daemon.url)]


def scraped(daemon: Daemon, count: int) -> Counter[str]:
    """Scrape until so many events have come, and once more."""
    found: Counter[str] = Counter()

    def scrape() -> bool:
        text = daemon.get("/metrics?scraper=p")
        found.update(_EVENT.findall(text))
        return found.total() >= count

    until(scrape, PATIENCE, lambda: f"{count} events: {found}")
    scrape()
    return found


def test_a_daemon_that_is_killed(daemons: tuple[Daemon, Daemon]) -> None:
    """Cron jobs would lose their reports with one of two machines."""
    ann, bob = daemons
    for number in range(4):
        if number == 2:
            ann.kill()
        done = emit(*addresses(ann, bob), f"n={number}")
        assert (done.returncode, done.stderr) == (0, b"")
    assert scraped(bob, 4) == Counter("0123")
    bob.kill()
    done = emit(*addresses(ann, bob), "n=4")
    assert done.returncode == 75
    for daemon in daemons:
        assert f"{daemon.url}: ".encode() in done.stderr


def test_a_daemon_that_is_stopped_and_goes_on(daemons: tuple[Daemon, Daemon]) -> None:
    """It has the request in its socket, and stores the event a second time when it goes on."""
    ann, bob = daemons
    with stopped(ann):
        began = time.monotonic()
        done = emit(*addresses(ann, bob), "n=0", "--timeout", "2s")
        assert (done.returncode, done.stderr) == (0, b"")
        assert time.monotonic() - began < 2.5
        done = emit("--exec", *addresses(ann, bob), "n=1", "--", "true")
        assert (done.returncode, done.stderr) == (0, b"")
    duplicates = "oneshotd_events_duplicate_total 2.0"
    until(lambda: duplicates in ann.get("/metrics/daemon"), PATIENCE, "both were found by their keys")
    assert scraped(ann, 2) == Counter("01")


def test_lines_while_the_daemons_take_turns_in_failing(daemons: tuple[Daemon, Daemon]) -> None:
    """A log that is followed would lose lines at a failover, or have them twice."""
    ann, bob = daemons
    with started(*addresses(ann, bob), "--retry", "30s", "-") as process:
        assert process.stdin is not None
        for number in range(60):
            process.stdin.write(f"n={number}\n".encode())
            process.stdin.flush()
            if number == 15:
                ann.kill()
            if number == 30:
                ann.start()
            if number == 45:
                bob.kill()
            time.sleep(0.03)  # no race: the pace of a log
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert scraped(ann, 60) == Counter(map(str, range(60)))
