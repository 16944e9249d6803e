"""A daemon that is killed or held up in the middle of a delivery."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import BROWSER, Daemon
from processes import until
from soak.line import CutShort, Line, body_of

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
