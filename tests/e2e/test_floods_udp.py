"""More datagrams than anybody can take: each line is stored, refused or dropped, and counted so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.clients import Scraper, figures, send
from support.daemon import Daemon
from support.flood import flooded
from support.processes import until
from support.siege import besieged

from oneshotd.core.parsing.formats import MAX_DATAGRAM_LINES

pytestmark = [pytest.mark.e2e, pytest.mark.timed]

#: Seconds that a flood lasts; ``make soak`` may ask for more.
SECONDS = float(os.environ.get("ONESHOTD_FLOOD_SECONDS", "1.5"))

#: Four good lines and a bad one.
MIXED = b"".join(b"type=flood&line=%d\n" % number for number in range(4)) + b"no event"
LINES = 5

#: MiB. What the ingest holds at most (64 MiB of text, and its objects), a batch of the same size at the
#: store, and what a turn and the allocator need besides.
GROWTH = 150.0

ACCEPTED = 'oneshotd_events_accepted_total{source="udp"}'


def drops(now: dict[str, float]) -> int:
    return int(now["oneshotd_udp_kernel_drops_total"])


def refused(now: dict[str, float], *reasons: str) -> int:
    return sum(int(now[f'oneshotd_refused_total{{reason="{reason}"}}']) for reason in reasons)


def all_is_read(daemon: Daemon, datagrams: int) -> dict[str, float]:
    """The figures when each of these datagrams was read or dropped."""

    def read() -> bool:
        now = figures(daemon)
        return now["oneshotd_udp_datagrams_total"] + drops(now) == datagrams

    until(read, 20, lambda: f"{datagrams} datagrams: {figures(daemon)}")
    return figures(daemon)


def accounted_for(daemon: Daemon, sent: int, lines: int) -> dict[str, float]:
    """The figures when each line of these datagrams is stored, refused or was dropped."""
    now = all_is_read(daemon, sent)
    in_read = lines * (sent - drops(now))
    assert now["oneshotd_udp_lines_total"] == in_read

    def ended() -> int:
        now = figures(daemon)
        return int(now[ACCEPTED]) + refused(now, "syntax", "limit", "busy", "store")

    until(lambda: ended() == in_read, 20, lambda: f"{in_read} lines: {figures(daemon)}")
    return figures(daemon)


def test_every_line_of_a_flood_is_stored_refused_or_in_a_dropped_datagram(tmp_path: Path) -> None:
    """After the worst day the figures still add up, to the last line."""
    with Daemon(tmp_path) as daemon:
        with besieged(daemon, growth=GROWTH) as siege:
            sent = flooded(daemon.port, SECONDS, MIXED)
        now = accounted_for(daemon, sent, LINES)
        assert drops(now) > 0, f"{sent} datagrams were not beyond what it can take"
        assert refused(now, "syntax") == sent - drops(now)
        assert now["oneshotd_held_events"] == now[ACCEPTED] + siege.events
        daemon.kill()
        daemon.start()
        assert all_that_comes(daemon) == now["oneshotd_held_events"]
        daemon.stop()


def test_datagrams_of_the_largest_size_hold_nobody_up(tmp_path: Path) -> None:
    """One of 32 000 lines takes as long as thousands of ordinary ones."""
    junk = b"a\n" * 32_000
    with Daemon(tmp_path) as daemon:
        with besieged(daemon, growth=GROWTH):
            sent = flooded(daemon.port, SECONDS, junk)
        now = accounted_for(daemon, sent, 32_000)
        read = sent - drops(now)
        assert refused(now, "syntax") == MAX_DATAGRAM_LINES * read > 0
        assert refused(now, "limit") == (32_000 - MAX_DATAGRAM_LINES) * read
        daemon.stop()


def test_empty_datagrams_hold_nobody_up(tmp_path: Path) -> None:
    """The cheapest that can be sent; and the log does not grow with them."""
    with Daemon(tmp_path) as daemon:
        with besieged(daemon, growth=GROWTH):
            sent = flooded(daemon.port, SECONDS, b"")
        now = all_is_read(daemon, sent)
        assert refused(now, "empty") == sent - drops(now) > 0
        assert now["oneshotd_udp_lines_total"] == 0
        daemon.stop()
    assert len(daemon.process.log_text().splitlines()) < 100


@pytest.mark.parametrize("datagram", [b"a\n" * 1000, b"a=b\n" * 500], ids=["bad", "good"])
def test_a_full_buffer_does_not_hold_up_the_end(tmp_path: Path, datagram: bytes) -> None:
    """A restart takes some seconds, whatever somebody sends meanwhile; what is not looked into is
    said."""
    with Daemon(tmp_path) as daemon:
        with stopped(daemon):
            send(daemon, *[datagram] * 8000)
            os.kill(daemon.process.pid, signal.SIGTERM)
            began = time.monotonic()
        daemon.process.await_end(20, -signal.SIGTERM)
        took = time.monotonic() - began
    assert took < 10
    assert daemon.errors() == []


def test_what_is_in_the_buffer_at_the_end_is_stored(tmp_path: Path) -> None:
    """What came the moment before the daemon was stopped is there after the restart."""
    lines = [b"type=last&n=%d" % n for n in range(2000)]
    with Daemon(tmp_path) as daemon:
        with stopped(daemon):
            send(daemon, *lines)
            os.kill(daemon.process.pid, signal.SIGTERM)
        daemon.process.await_end(20, -signal.SIGTERM)
        daemon.start()
        assert all_that_comes(daemon) == len(lines)
        daemon.stop()


@contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    """The process stands still meanwhile."""
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


def all_that_comes(daemon: Daemon) -> int:
    """How many events a new scraper gets."""
    with closing(Scraper(daemon, "late")) as scraper:
        until(lambda: not scraper.scrape(), 20, "nothing more to come")
        return scraper.events
