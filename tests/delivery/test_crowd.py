"""Crowds of scrapers that nobody knows, and of people who look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import Rig, came, sums
from support.fake_store import logged
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from oneshotd.admission import MAX_WAITING
from oneshotd.core.identity import MAX_SCRAPERS, Visit
from oneshotd.core.scrape_request import Wanted
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import MAX_UNKNOWN, OWN_AGE
from oneshotd.errors import Refused


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "store")
    yield made
    made.stop()


def test_the_known_do_not_queue_behind_newcomers(rig: Rig) -> None:
    """Somebody invents names: the real Prometheus gets its events all the same."""
    rig.take("known")
    rig.append("a")
    rig.store.silent.add("reserve")
    crowd = [came(rig.ask(f"invented-{n}")) for n in range(MAX_WAITING + 5)]
    rig.quiet()
    assert [len(answer) for answer in crowd] == [0] * MAX_WAITING + [1] * 5  # these have no place
    rig.store.silent.clear()
    assert rig.take("known") == {"a": 1}
    rig.store.resume()
    rig.quiet()


def test_newcomers_that_do_not_read_are_so_many_at_most(rig: Rig) -> None:
    """Each response that waits to be read takes memory; whoever invents names takes no more."""
    rig.append("a")
    unread = [rig.scrape(f"invented-{n}") for n in range(MAX_UNKNOWN)]
    assert all(shipment.awaits_receipt for shipment in unread)
    one_more = rig.scrape("one-more")
    assert not one_more.awaits_receipt
    assert not sums(one_more.body)
    unread[0].returned(uncertain=False)
    rig.quiet()
    assert rig.take("one-more") == {"a": 1}


def test_too_many_lookers_are_refused(rig: Rig) -> None:
    """An empty page would say that there is nothing to come."""
    rig.store.silent.add("look")
    looks: list[list[InFlightDelivery | Failure]] = []
    for _ in range(MAX_WAITING + 1):
        visit = Visit(name="somebody", named=True)
        looks.append(came(Deferred.fromCoroutine(rig.delivery.look(visit, Wanted()))))
    [refused] = looks.pop()
    assert isinstance(refused, Failure)
    assert isinstance(refused.value, Refused)
    assert (refused.value.reason, refused.value.status) == ("busy", 503)
    rig.store.resume()
    for _ in range(3 * MAX_WAITING):
        rig.quiet()
    assert [isinstance(answer, InFlightDelivery) for [answer] in looks] == [True] * MAX_WAITING


def test_answers_without_events_show_the_figures_of_a_moment_ago(rig: Rig) -> None:
    """They are what crowds ask for: made anew for each, they would take all the time there is."""
    rig.append("a")
    shipment = rig.scrape("ann")  # under way from here on
    first = rig.scrape("ann").body
    rig.telemetry.accepted("udp", 5)
    assert rig.scrape("ann").body == first
    rig.pass_time(OWN_AGE + 0.1)
    assert rig.scrape("ann").body != first
    assert rig.scrape("ann", limit=3).body != rig.scrape("ann").body
    shipment.returned(uncertain=False)
    rig.quiet()


def test_that_there_are_too_many_scrapers_is_said_and_not_too_often(rig: Rig) -> None:
    """Who wonders why a new Prometheus gets nothing finds it in the log, once a minute."""
    for number in range(MAX_SCRAPERS):
        reserved = rig.pump.get(rig.real.reserve(Visit(name=f"scraper-{number}", named=True), 1.0, 1))
        assert reserved.token is not None
        rig.pump.get(rig.real.settle(reserved.token, True, 0, (), ()))
    with logged() as events:
        for _ in range(5):
            rig.take("one-more")
        rig.pass_time(61)
    lines = [formatEvent(event) for event in events]
    said = [line for line in lines if f"{MAX_SCRAPERS} scrapers are known already" in line]
    assert [line.split()[0] for line in said] == ["1", "4"]
    assert "one-more" in said[0]
