"""The assembled daemon on a test clock: start, upkeep, stop."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_store import TroubledStore, logged
from support.service_in_memory import DaemonInMemory, lines
from twisted.internet.defer import Deferred, succeed

from oneshotd.core.events import NewEvent
from oneshotd.core.identity import Visit
from oneshotd.core.scrape_request import Wanted
from oneshotd.daemon import service as module
from oneshotd.daemon.config import Config
from oneshotd.daemon.option_values import UdpAddress
from oneshotd.daemon.service import REQUEST_DRAIN_TIMEOUT, UPKEEP_INTERVAL, WRITE_DRAIN_TIMEOUT
from oneshotd.errors import OneshotError, StoreRefused
from oneshotd.store.interface import Loss

Sent = list[NewEvent]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., DaemonInMemory]]:
    daemons = []

    def make_one(**options: Any) -> DaemonInMemory:
        daemons.append(DaemonInMemory(tmp_path, monkeypatch, **options))
        return daemons[-1]

    yield make_one
    for daemon in daemons:
        if hasattr(daemon, "real"):
            daemon.reactor.get(daemon.real.close())
        for sock in daemon.service._ports.udp:
            sock.close()


@pytest.fixture
def daemon(make: Callable[..., DaemonInMemory]) -> DaemonInMemory:
    made = make()
    made.start()
    made.quiet()
    return made


# ---- the start -------------------------------------------------------------------------------


def test_the_daemon_is_ready_when_it_has_read_its_scrapers(make: Callable[..., DaemonInMemory]) -> None:
    """Right after the start a person's curl would consume the events of a scraper known by its timeout."""
    first = make()
    first.start()
    assert first.not_ready_reason == "starting"
    first.quiet()
    assert first.not_ready_reason is None
    visit = Visit(name="ann", named=True, timed=True)
    reservation = first.reactor.get(first.real.reserve(visit, 60.0, 10))
    assert reservation.token is not None
    first.reactor.get(first.real.settle(reservation.token, True, 0, (), ()))
    first.reactor.get(first.stop())
    second = make()
    second.start()
    second.quiet()
    assert second.service._delivery.timed_before("ann")


@pytest.mark.parametrize(("given", "name"), [("", f"{socket.gethostname()} somewhere"), ("web1", "web1")])
def test_the_store_learns_the_daemons_name(
    make: Callable[..., DaemonInMemory], given: str, name: str
) -> None:
    """After a crash its scrapers would wait for the leases that it left behind in a shared database."""
    daemon = make(daemon_name=given)
    daemon.start()
    assert daemon.name == name


def test_the_margin_of_a_lease_is_an_option(make: Callable[..., DaemonInMemory]) -> None:
    """The scrapers of a dead daemon would wait longer, or a failover last longer than the leases."""
    daemon = make(lease_margin=4.0)
    daemon.start()
    daemon.quiet()
    visit = Visit(name="ann", named=True)
    asked = daemon.service._delivery.scrape(visit, Wanted(), timeout=10.0)
    daemon.reactor.get(Deferred.fromCoroutine(asked))
    assert daemon.store.leases == [14.0]


def test_a_store_that_fails_at_the_start_is_retried(
    make: Callable[..., DaemonInMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon would stay in "starting" until a restart, and never prune."""
    daemon = make()
    opened = daemon._open

    def failing(*args: Any, **options: Any) -> TroubledStore:
        store = opened(*args, **options)
        store.refuse("stats")
        return store

    monkeypatch.setattr(module, "open_store", failing)
    with logged() as events:
        daemon.start()
        daemon.pass_time(UPKEEP_INTERVAL)
        assert daemon.not_ready_reason == "starting"
        assert any("the disk is full" in line for line in lines(events, "warn"))
    daemon.store.resume()
    daemon.pass_time(UPKEEP_INTERVAL)
    assert daemon.not_ready_reason is None
    daemon.pass_time(UPKEEP_INTERVAL)
    assert "prune" in daemon.store.calls


def test_a_database_of_another_program_ends_the_start(make: Callable[..., DaemonInMemory]) -> None:
    """The daemon would write into another program's database, or end with a traceback."""
    daemon = make()
    with sqlite3.connect(daemon.config.store.path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    daemon.service.privilegedStartService()
    with pytest.raises(StoreRefused, match="not one of oneshotd"):
        daemon.service.startService()


def test_a_store_in_use_ends_the_start(make: Callable[..., DaemonInMemory], daemon: DaemonInMemory) -> None:
    """Two daemons would deliver the same events twice."""
    second = make()
    second.service.privilegedStartService()
    with pytest.raises(StoreRefused, match="in use by another process"):
        second.service.startService()


def test_a_busy_port_ends_the_start_before_the_store_is_touched(
    make: Callable[..., DaemonInMemory], tmp_path: Path
) -> None:
    """The daemon would run without UDP; or a second daemon would write into the first one's file."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        daemon = make()
        daemon.service._ports._config = Config(
            udp=(UdpAddress(host="127.0.0.1", port=taken.getsockname()[1]),)
        )
        with pytest.raises(OneshotError, match="in use"):
            daemon.service.privilegedStartService()
    assert list(tmp_path.iterdir()) == []


# ---- upkeep ----------------------------------------------------------------------------------


def test_upkeep_goes_on_after_errors(daemon: DaemonInMemory) -> None:
    """After one error the log would grow until the disk is full."""
    for fault in (None, "refuse", ZeroDivisionError("a bug"), None):
        if fault == "refuse":
            daemon.store.refuse("prune")
        elif isinstance(fault, Exception):
            daemon.store.faults["prune"] = fault
        before = daemon.store.calls.count("prune")
        with logged() as events:
            daemon.pass_time(UPKEEP_INTERVAL)
        assert daemon.store.calls.count("prune") == before + 1, fault
        assert len(lines(events, "warn", "critical")) == (fault is not None), "silent, or too loud"
        daemon.store.resume()


def test_a_short_hold_shortens_the_upkeep_interval(make: Callable[..., DaemonInMemory]) -> None:
    """Events would be held for twice the hold."""
    daemon = make(hold=40.0, newcomers=10.0)
    daemon.start()
    daemon.quiet()
    for _ in range(5):
        daemon.pass_time(2.0)
    assert daemon.store.calls.count("prune") == 5


def test_the_metric_says_whether_the_store_is_writable(daemon: DaemonInMemory) -> None:
    """No alert would fire while events are refused; or the alert would never end."""
    assert daemon.telemetry.writable
    daemon.disk.full = True
    daemon.pass_time(UPKEEP_INTERVAL)
    assert not daemon.telemetry.writable
    daemon.disk.full = False
    daemon.pass_time(UPKEEP_INTERVAL)
    assert daemon.telemetry.writable


def test_events_that_a_scraper_has_missed_are_logged(daemon: DaemonInMemory) -> None:
    """Events would be lost without a log line."""
    loss = Loss(scraper="ann", reason="away", events=7)
    daemon.store.prune = lambda: succeed([loss])  # type: ignore[method-assign]
    with logged() as events:
        daemon.pass_time(UPKEEP_INTERVAL)
    assert lines(events, "warn") == ["ann has missed 7 events: away"]


# ---- the stop --------------------------------------------------------------------------------


def test_the_stop_stores_received_datagrams_and_queued_events(daemon: DaemonInMemory) -> None:
    """Every restart would lose the events in the queue."""
    daemon.store.silent.add("append")
    daemon.submit("first")
    daemon.pass_time(0)
    daemon.submit("second")
    daemon.send_datagrams(b"__name__=third", b"__name__=fourth\n__name__=fifth")
    with logged() as events:
        ended = daemon.stop()
        assert daemon.not_ready_reason == "stopping"
        daemon.pass_time(1)
        assert not ended.called
        daemon.store.resume()
        daemon.quiet()
        daemon.pass_time(1)
        daemon.reactor.get(ended)
    assert daemon.closed == ["port"]
    assert daemon.stored() == ["first", "second", "third", "fourth", "fifth"]
    assert lines(events, "warn", "error", "critical") == []
    assert "all that was accepted is on disk" in lines(events, "info")[-1]
    assert daemon.reactor.getDelayedCalls() == []


def test_upkeep_ends_with_the_daemon(daemon: DaemonInMemory) -> None:
    """A running round of upkeep would use a closed store."""
    daemon.store.silent.add("prune")
    daemon.pass_time(UPKEEP_INTERVAL)
    ended = daemon.stop()
    with logged() as events:
        daemon.reactor.get(ended)
        daemon.store.resume()
        daemon.quiet()
    assert lines(events, "warn", "error", "critical") == []
    assert daemon.reactor.getDelayedCalls() == []


def test_a_daemon_that_is_stopped_while_it_starts_does_not_become_ready(
    make: Callable[..., DaemonInMemory],
) -> None:
    """A load balancer would send clients to a daemon without ports."""
    daemon = make()
    daemon.start()
    daemon.reactor.get(daemon.stop())
    assert daemon.not_ready_reason == "stopping"
    assert daemon.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("silent", [{"append", "close"}, {"append"}])
def test_the_stop_with_a_hanging_disk_ends_in_time_and_logs_what_is_missing(
    daemon: DaemonInMemory, silent: set[str]
) -> None:
    """systemd would kill the daemon after 90 s; or the log would claim that no event is lost."""
    daemon.store.silent |= silent
    daemon.submit("first")
    daemon.send_datagrams(b"__name__=second", b"__name__=third")
    with logged() as events:
        ended = daemon.stop()
        for _ in range(int(REQUEST_DRAIN_TIMEOUT + 3 * WRITE_DRAIN_TIMEOUT)):
            daemon.pass_time(1)
        daemon.reactor.get(ended)
    errors = lines(events, "error")
    assert any("commits did not finish within 10" in line for line in errors)
    assert any("3 events in the queue were not committed and may be lost" in line for line in errors)
    assert not any("all that was accepted" in line for line in lines(events, "info"))


def test_a_settlement_that_a_full_disk_refuses_is_logged_at_the_stop(daemon: DaemonInMemory) -> None:
    """After the restart its events are delivered again, and the log would not explain the double count."""
    daemon.submit("first")
    daemon.pass_time(0)
    scraping = Deferred.fromCoroutine(
        daemon.service._delivery.scrape(Visit(name="ann", named=True), Wanted(), timeout=10.0)
    )
    delivery = daemon.reactor.get(scraping)
    assert delivery.awaits_receipt
    daemon.disk.full = True
    delivery.delivered()
    delivery.final()
    daemon.quiet()
    with logged() as events:
        ended = daemon.stop()
        for _ in range(int(REQUEST_DRAIN_TIMEOUT + 2 * WRITE_DRAIN_TIMEOUT)):
            daemon.pass_time(1)
        daemon.reactor.get(ended)
    assert any("the last delivery to ann is not settled" in line for line in lines(events, "error"))
    assert not any("all that was accepted" in line for line in lines(events, "info"))


def test_a_settlement_that_a_full_disk_refuses_is_retried_at_the_stop(daemon: DaemonInMemory) -> None:
    """An operator who frees the disk and restarts the daemon would have events counted twice."""
    daemon.submit("first")
    daemon.pass_time(0)
    visit = Visit(name="ann", named=True)
    scraping = Deferred.fromCoroutine(daemon.service._delivery.scrape(visit, Wanted(), timeout=10.0))
    delivery = daemon.reactor.get(scraping)
    daemon.disk.full = True
    delivery.delivered()
    delivery.final()
    daemon.quiet()
    ended = daemon.stop()
    daemon.disk.full = False
    daemon.pass_time(1)
    daemon.reactor.get(ended)
    assert daemon.service._delivery.unsettled() == []
