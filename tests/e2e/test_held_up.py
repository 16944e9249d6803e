"""A daemon that is killed or held up in the middle of a delivery."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak.line import CutShort, Line, body_of
from support.daemon import BROWSER, Daemon
from support.processes import until

pytestmark = [pytest.mark.e2e, pytest.mark.timed]

DELIVERED = 'oneshotd_scraper_delivered_events_total{scraper="ann"} '
PENDING = 'oneshotd_scraper_pending_events{scraper="ann"} '


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as started:
        with Line(started.port) as line:
            scrape(line)
        yield started


def scrape(line: Line, timeout: float = 5.0) -> bytes:
    line.ask("ann", timeout)
    return read(line)


def read(line: Line) -> bytes:
    data, until = b"", time.monotonic() + 10
    while (body := body_of(data)) is None:
        data = line.receive(data, 1 << 20, until)
    return body


def emit(daemon: Daemon, events: int) -> None:
    body = "\n".join(f"n={n}" for n in range(events)).encode()
    request = urllib.request.Request(f"{daemon.url}/events", body, {"Content-Type": "text/plain"})
    with BROWSER.open(request, timeout=10) as answer:
        assert answer.status == 200


def figure(daemon: Daemon, series: str) -> float:
    """A figure of the daemon's own metrics."""
    return next(float(line[len(series) :]) for line in daemon.look().splitlines() if line.startswith(series))


def test_a_reset_in_time_counts_however_late_the_daemon_looks(daemon: Daemon) -> None:
    """A machine that sleeps for some seconds, or is short of processors, loses no events of a
    scraper that has thrown its response away meanwhile."""
    emit(daemon, 1)
    with Line(daemon.port) as line:
        asked = time.monotonic()
        line.ask("ann", 3.0)
        until(lambda: figure(daemon, DELIVERED) == 1, 2.5, "the response is acknowledged")
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            assert body_of(line.peek()) is not None
            line.close()  # unread
            assert time.monotonic() < asked + 3, "too slow for this test"
            until(lambda: time.monotonic() > asked + 3.2, 5, "the scrape's deadline is over")
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
    until(lambda: figure(daemon, PENDING) == 1, 5, "the event is to come again")
    with Line(daemon.port) as line:
        assert b'events_to_metrics{n="0"} 1\n' in scrape(line)


def leave_unread_after_the_deadline(daemon: Daemon, stopped: bool) -> bool:
    """Scrape, and reset the connection shortly after the deadline; whether that was in time.

    :param stopped: let the daemon see it when the time in which a reset counts is over.
    """
    emit(daemon, 1)
    before = figure(daemon, DELIVERED)
    with Line(daemon.port) as line:
        asked = time.monotonic()
        line.ask("ann", 1.0)
        until(lambda: figure(daemon, DELIVERED) > before, 5, "the response is acknowledged")
        until(lambda: time.monotonic() > asked + 1.3, 5, "the scrape's deadline is over")
        if stopped:
            os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            line.close()
            in_time = time.monotonic() < asked + 2.0
            if stopped:
                until(lambda: time.monotonic() > asked + 2.5, 5, "so is the time after it")
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
    return in_time


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_reset_a_moment_after_the_deadline_counts(daemon: Daemon, stopped: bool) -> None:
    """A scraper's timeout ends as the daemon's deadline does; what it leaves unread a moment later, on a
    machine that is short of processors, would be lost."""
    assert any(leave_unread_after_the_deadline(daemon, stopped) for _ in range(5)), "too slow a machine"
    until(lambda: figure(daemon, PENDING) >= 1, 5, "the event is to come again")
    with Line(daemon.port) as line:
        assert b'events_to_metrics{n="0"} ' in scrape(line)


def test_a_daemon_that_dies_takes_along_what_is_on_its_way(daemon: Daemon) -> None:
    """A kernel that goes on sending for a dead daemon delivers what nobody will ever note: after
    the restart it would come twice, however slow the line and however long it took."""
    emit(daemon, 5000)
    with Line(daemon.port, window=4096) as line:
        line.ask("ann", 10.0)
        line.await_answer(time.monotonic() + 5)
        until(lambda: 'oneshotd_scrapes_total{result="events"} 1.0' in daemon.look(), 5, "it is answered")
        daemon.kill()
        with pytest.raises(CutShort):
            read(line)
    daemon.start()
    with Line(daemon.port) as line:
        assert scrape(line).count(b"events_to_metrics{") == 5000
