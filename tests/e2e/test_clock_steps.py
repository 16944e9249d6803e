"""The wall clock is set while the daemon works: nobody waits, and every event goes out once.

The clock is libfaketime's; the monotonic one is left alone.
"""

from __future__ import annotations

import http.client
import re
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from support.clients import Scraper, emitting, figures, post, readiness, send
from support.daemon import Daemon
from support.faketime import WallClock
from support.processes import until
from support.response_reader import Reader

from oneshotd.core.negotiation import Format

pytestmark = pytest.mark.e2e

#: Seconds within which each thing must go on after a step; well below the shortest step.
AT_ONCE = 12.0

#: Seconds between two signs of life that the service manager wants; the daemon gives two.
WATCHDOG = 1.0

HOUR = 3600.0

#: Answers of each kind that are awaited after a step. With libfaketime, which reads a file whenever the
#: time is asked for, a daemon is slow.
FEW = 10


class Manager:
    """Systemd's ear."""

    def __init__(self, folder: Path) -> None:
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(folder / "notify"))
        self.variables = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": str(int(WATCHDOG * 1e6)),
        }

        self._signs = 0

    def signs_of_life(self) -> int:
        """How many have come since `forget`."""
        while select.select([self._ear], [], [], 0)[0]:
            self._signs += b"WATCHDOG=1" in self._ear.recv(4096)
        return self._signs

    def forget(self) -> None:
        """Count anew."""
        self.signs_of_life()
        self._signs = 0

    def close(self) -> None:
        self._ear.close()


@contextmanager
def managed(folder: Path, clock: WallClock) -> Iterator[tuple[Daemon, Manager]]:
    manager = Manager(folder)
    try:
        with Daemon(folder, variables={**clock.variables, **manager.variables}) as daemon:
            yield daemon, manager
    finally:
        manager.close()


def date(daemon: Daemon, method: str, path: str) -> float:
    """Unix seconds of the answer's Date."""
    line = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=AT_ONCE)
    try:
        line.request(method, path)
        with line.getresponse() as answer:
            answer.read()
            assert answer.status == 200
            return parsedate_to_datetime(str(answer.headers["Date"])).timestamp()
    finally:
        line.close()


def accepted_by_udp(daemon: Daemon) -> float:
    return figures(daemon)['oneshotd_events_accepted_total{source="udp"}']


def logged_refusals(daemon: Daemon) -> int:
    """Of datagrams, as far as the log has told of them: the first at once, the others after a second."""
    return sum(map(int, re.findall(r"UDP: (\d+) refused", daemon.process.log_text())))


def shows_new(daemon: Daemon, kind: str) -> bool:
    """Whether the status page shows an event of this type, of which one more is reported before."""
    assert post(daemon, f"type={kind}", timeout=AT_ONCE).status == 200
    return shows(daemon, kind)


def shows(daemon: Daemon, text: str) -> bool:
    """Whether the status page has it."""
    return text in daemon.get("/", accept="text/html")


def check_that_all_goes_on(
    number: int, clock: WallClock, daemon: Daemon, manager: Manager, scraper: Scraper, accepted: list[int]
) -> None:
    """After the step with this number."""
    posted, udp = len(accepted), accepted_by_udp(daemon)
    manager.forget()
    send(daemon, *[b"type=udp-%d" % number] * 3)
    send(daemon, *[b"__bad=%d-%d" % (number, again) for again in range(3)])
    assert post(daemon, f"type=after-{number}", timeout=AT_ONCE).status == 200
    until(lambda: len(accepted) > posted + FEW, AT_ONCE, "clients are answered")
    until(lambda: accepted_by_udp(daemon) == udp + 3, AT_ONCE, "datagrams are stored")
    for _ in range(3):
        scraper.scrape()  # raises where it is not answered within the timeout
    until(lambda: manager.signs_of_life() >= 3, AT_ONCE, "the watchdog gets its signs of life")
    # The page lists some of the newest events only, so each look comes after an event of its own.
    until(lambda: shows_new(daemon, f"shown-{number}"), AT_ONCE, "the page shows what is new")
    refused = 3 * (number + 1)
    until(lambda: logged_refusals(daemon) == refused, AT_ONCE, "the throttled line comes")
    for method, path in (("POST", "/event?type=dated"), ("GET", "/healthz")):
        assert abs(date(daemon, method, path) - clock.time()) < AT_ONCE
    assert readiness(daemon).status == 200


@pytest.mark.parametrize("step", [-20.0, 20.0, -2 * HOUR, 2 * HOUR])
def test_a_step_of_the_clock_holds_nobody_up(tmp_path: Path, step: float) -> None:
    """For the length of the step no POST would be answered, systemd would kill the daemon, and the page
    would stand still."""
    clock = WallClock(tmp_path)
    with managed(tmp_path, clock) as (daemon, manager):
        scraper = Scraper(daemon)
        scraper.scrape()
        with emitting(daemon, 2) as accepted:
            for number, offset in enumerate((step, 0.0, step)):
                clock.set(offset)
                check_that_all_goes_on(number, clock, daemon, manager, scraper, accepted)
        until(lambda: not scraper.scrape(), 30, "everything is scraped")
        scraper.close()
        own = figures(daemon)
        stored = sum(
            value for name, value in own.items() if name.startswith("oneshotd_events_accepted_total")
        )
        assert scraper.events == stored
        assert set(accepted) == scraper.numbers.keys() and set(scraper.numbers.values()) == {1}
        lost = [value for name, value in own.items() if name.startswith("oneshotd_scraper_lost_events")]
        assert not any(lost)
        assert not daemon.errors()
        daemon.stop()


@pytest.mark.parametrize("end", ["in one run", "over a restart"])
def test_a_clock_that_was_ahead_and_is_corrected(tmp_path: Path, end: str) -> None:
    """With timestamps=event nothing would come for two hours, and nothing would say why."""
    clock = WallClock(tmp_path, 2 * HOUR)
    with Daemon(tmp_path, variables=clock.variables) as daemon:
        reader = Reader(daemon, "p", Format.TEXT, "event")
        reader.read()
        for kind in ("taken", "other"):
            assert post(daemon, f"type={kind}").status == 200
        [taken, _] = reader.drain()
        assert abs(float(taken.timestamp or 0) - clock.time()) < AT_ONCE
        assert post(daemon, "type=pending").status == 200
        if end == "in one run":
            clock.set(0)
        else:
            daemon.stop()
            clock.set(0)
            daemon.start()
        for kind in ("taken", "new"):
            assert post(daemon, f"type={kind}").status == 200
        found = {sample.labels["type"]: sample for sample in reader.drain()}
        assert found.keys() == {"pending", "new"}
        assert all(abs(float(sample.timestamp or 0) - clock.time()) < AT_ONCE for sample in found.values())
        assert figures(daemon)['oneshotd_scraper_lost_events_total{reason="clock",scraper="p"}'] == 1
        assert shows(daemon, "The clock was ")
        assert shows(daemon, "later samples of their series")
        assert shows(daemon, "taken") and shows(daemon, "new")
        assert daemon.process.log_text().count("the wall clock was ahead by 7") == 1
        assert post(daemon, "type=new").status == 200
        assert [sample.labels["type"] for sample in reader.drain()] == ["new"]
        daemon.stop()
