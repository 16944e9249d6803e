"""The assembled daemon with clocks moved by hand: how it starts, looks after itself, and ends."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_store import TroubledStore, logged
from support.service_in_memory import House, lines
from twisted.internet.defer import Deferred, succeed

from oneshotd.core.events import NewEvent
from oneshotd.core.identity import Visit
from oneshotd.core.scrape_request import Wanted
from oneshotd.daemon import service as module
from oneshotd.daemon.config import Config, UdpAddress
from oneshotd.daemon.service import LAST_REQUESTS, LAST_WRITES, UPKEEP
from oneshotd.errors import OneshotError, StoreRefused
from oneshotd.store.interface import Loss

Sent = list[NewEvent]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., House]]:
    houses = []

    def make_one(**options: Any) -> House:
        houses.append(House(tmp_path, monkeypatch, **options))
        return houses[-1]

    yield make_one
    for house in houses:
        if hasattr(house, "real"):
            house.reactor.get(house.real.close())
        for sock in getattr(house.service, "_udp_sockets", []):
            sock.close()


@pytest.fixture
def house(make: Callable[..., House]) -> House:
    made = make()
    made.start()
    made.quiet()
    return made


# ---- the start -------------------------------------------------------------------------------


def test_it_is_ready_when_it_knows_its_scrapers(make: Callable[..., House]) -> None:
    """In the first moments a person's curl would take the events of a scraper known by its timeout."""
    first = make()
    first.start()
    assert first.trouble == "starting"
    first.quiet()
    assert first.trouble is None
    visit = Visit(name="ann", named=True, timed=True)
    reservation = first.reactor.get(first.real.reserve(visit, 60.0, 10))
    assert reservation.token is not None
    first.reactor.get(first.real.settle(reservation.token, True, 0, (), ()))
    first.reactor.get(first.stop())
    second = make()
    second.start()
    second.quiet()
    assert second.service._delivery.timed_before("ann")


def test_a_store_in_trouble_at_the_start_is_asked_again(
    make: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon would be "starting" until somebody restarts it, and never prune."""
    house = make()
    opened = house._open

    def in_trouble(*args: Any, **options: Any) -> TroubledStore:
        store = opened(*args, **options)
        store.refuse("census")
        return store

    monkeypatch.setattr(module, "open_store", in_trouble)
    with logged() as events:
        house.start()
        house.pass_time(UPKEEP)
        assert house.trouble == "starting"
        assert any("the disk is full" in line for line in lines(events, "warn"))
    house.store.resume()
    house.pass_time(UPKEEP)
    assert house.trouble is None
    house.pass_time(UPKEEP)
    assert "prune" in house.store.calls


def test_a_store_that_is_not_ours_ends_the_start(make: Callable[..., House]) -> None:
    """Somebody's database would be written into, or the reason would be a traceback."""
    house = make()
    with sqlite3.connect(house.config.store.path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    house.service.privilegedStartService()
    with pytest.raises(StoreRefused, match="not one of oneshotd"):
        house.service.startService()


def test_a_store_in_use_ends_the_start(make: Callable[..., House], house: House) -> None:
    """Two daemons would give the same events out twice."""
    second = make()
    second.service.privilegedStartService()
    with pytest.raises(StoreRefused, match="in use by another process"):
        second.service.startService()


def test_a_busy_port_ends_the_start_before_the_store_is_touched(
    make: Callable[..., House], tmp_path: Path
) -> None:
    """It would stay up, taking no datagrams; or a second daemon would write into the first one's file."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        house = make()
        house.service._config = Config(udp=(UdpAddress(host="127.0.0.1", port=taken.getsockname()[1]),))
        with pytest.raises(OneshotError, match="in use"):
            house.service.privilegedStartService()
    assert list(tmp_path.iterdir()) == []


# ---- upkeep ----------------------------------------------------------------------------------


def test_upkeep_goes_on_whatever_fails_in_it(house: House) -> None:
    """The log would grow until the disk is full, because of one bad moment a month ago."""
    for fault in (None, "refuse", ZeroDivisionError("a bug"), None):
        if fault == "refuse":
            house.store.refuse("prune")
        elif isinstance(fault, Exception):
            house.store.faults["prune"] = fault
        before = house.store.calls.count("prune")
        with logged() as events:
            house.pass_time(UPKEEP)
        assert house.store.calls.count("prune") == before + 1, fault
        assert len(lines(events, "warn", "critical")) == (fault is not None), "silent, or too loud"
        house.store.resume()


def test_with_a_short_hold_upkeep_comes_more_often(make: Callable[..., House]) -> None:
    """Events would be kept for twice the hold."""
    house = make(hold=40.0, newcomers=10.0)
    house.start()
    house.quiet()
    for _ in range(5):
        house.pass_time(2.0)
    assert house.store.calls.count("prune") == 5


def test_whether_the_store_can_be_written_is_shown(house: House) -> None:
    """No alert would tell that events are refused; or it would never end."""
    assert house.telemetry.writable
    house.disk.full = True
    house.pass_time(UPKEEP)
    assert not house.telemetry.writable
    house.disk.full = False
    house.pass_time(UPKEEP)
    assert house.telemetry.writable


def test_what_a_scraper_has_missed_is_logged(house: House) -> None:
    """Events would be lost in silence."""
    loss = Loss(scraper="ann", reason="away", events=7)
    house.store.prune = lambda: succeed([loss])  # type: ignore[method-assign]
    with logged() as events:
        house.pass_time(UPKEEP)
    assert lines(events, "warn") == ["ann has missed 7 events: away"]


# ---- the end ---------------------------------------------------------------------------------


def test_what_is_in_the_socket_or_waits_for_the_disk_is_stored(house: House) -> None:
    """Every restart would lose the events of that moment."""
    house.store.silent.add("append")
    house.submit("first")
    house.pass_time(0)
    house.submit("second")
    house.send_datagrams(b"__name__=third", b"__name__=fourth\n__name__=fifth")
    with logged() as events:
        ended = house.stop()
        assert house.trouble == "stopping"
        house.pass_time(1)
        assert not ended.called
        house.store.resume()
        house.quiet()
        house.pass_time(1)
        house.reactor.get(ended)
    assert house.closed == ["port"]
    assert house.stored() == ["first", "second", "third", "fourth", "fifth"]
    assert lines(events, "warn", "error", "critical") == []
    assert "all that was accepted is on disk" in lines(events, "info")[-1]
    assert house.reactor.getDelayedCalls() == []


def test_upkeep_ends_with_the_daemon(house: House) -> None:
    """A round that is under way would go on in a store that is closed."""
    house.store.silent.add("prune")
    house.pass_time(UPKEEP)
    ended = house.stop()
    with logged() as events:
        house.reactor.get(ended)
        house.store.resume()
        house.quiet()
    assert lines(events, "warn", "error", "critical") == []
    assert house.reactor.getDelayedCalls() == []


def test_a_daemon_that_is_ended_while_it_starts_does_not_become_ready(make: Callable[..., House]) -> None:
    """/readyz would send it clients that find nobody."""
    house = make()
    house.start()
    house.reactor.get(house.stop())
    assert house.trouble == "stopping"
    assert house.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("silent", [{"append", "close"}, {"append"}])
def test_with_a_disk_that_hangs_the_end_comes_all_the_same_and_says_what_is_missing(
    house: House, silent: set[str]
) -> None:
    """systemd would kill it after 90 s; or the log would say that all is well."""
    house.store.silent |= silent
    house.submit("first")
    house.send_datagrams(b"__name__=second", b"__name__=third")
    with logged() as events:
        ended = house.stop()
        for _ in range(int(LAST_REQUESTS + 3 * LAST_WRITES)):
            house.pass_time(1)
        house.reactor.get(ended)
    said = lines(events, "error")
    assert any("storing events: not done within 10" in line for line in said)
    assert any("3 events that waited for the disk may be lost" in line for line in said)
    assert not any("all that was accepted" in line for line in lines(events, "info"))


def test_a_settlement_that_a_full_disk_refuses_is_named_at_the_end(house: House) -> None:
    """After the restart its events come again, and nobody would know why they counted twice."""
    house.submit("first")
    house.pass_time(0)
    scraping = Deferred.fromCoroutine(
        house.service._delivery.scrape(Visit(name="ann", named=True), Wanted(), timeout=10.0)
    )
    shipment = house.reactor.get(scraping)
    assert shipment.awaits_receipt
    house.disk.full = True
    shipment.delivered()
    shipment.final()
    house.quiet()
    with logged() as events:
        ended = house.stop()
        for _ in range(int(LAST_REQUESTS + 2 * LAST_WRITES)):
            house.pass_time(1)
        house.reactor.get(ended)
    assert any("the last delivery to ann is not settled" in line for line in lines(events, "error"))
    assert not any("all that was accepted" in line for line in lines(events, "info"))


def test_a_settlement_that_a_full_disk_refuses_is_made_up_for_at_the_end(house: House) -> None:
    """Somebody who frees the disk and restarts the daemon would have events counted twice."""
    house.submit("first")
    house.pass_time(0)
    visit = Visit(name="ann", named=True)
    scraping = Deferred.fromCoroutine(house.service._delivery.scrape(visit, Wanted(), timeout=10.0))
    shipment = house.reactor.get(scraping)
    house.disk.full = True
    shipment.delivered()
    shipment.final()
    house.quiet()
    ended = house.stop()
    house.disk.full = False
    house.pass_time(1)
    house.reactor.get(ended)
    assert house.service._delivery.unsettled() == []
