"""Many unknown scrapers, and many looks, at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import DeliveryDriver, answers_of, sums
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
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    made = DeliveryDriver(tmp_path / "store")
    yield made
    made.stop()


def test_known_scrapers_do_not_wait_for_unknown_ones(driver: DeliveryDriver) -> None:
    """A client that invents names would keep a Prometheus from its events."""
    driver.take("known")
    driver.append("a")
    driver.store.silent.add("reserve")
    crowd = [answers_of(driver.ask(f"invented-{n}")) for n in range(MAX_WAITING + 5)]
    driver.quiet()
    assert [len(answer) for answer in crowd] == [0] * MAX_WAITING + [1] * 5  # the queue is full for these
    driver.store.silent.clear()
    assert driver.take("known") == {"a": 1}
    driver.store.resume()
    driver.quiet()


def test_unknown_scrapers_that_do_not_read_are_bounded(driver: DeliveryDriver) -> None:
    """Each unread response takes memory: a client that invents names would fill it."""
    driver.append("a")
    unread = [driver.scrape(f"invented-{n}") for n in range(MAX_UNKNOWN)]
    assert all(delivery.awaits_receipt for delivery in unread)
    one_more = driver.scrape("one-more")
    assert not one_more.awaits_receipt
    assert not sums(one_more.body)
    unread[0].returned(uncertain=False)
    driver.quiet()
    assert driver.take("one-more") == {"a": 1}


def test_too_many_looks_are_refused(driver: DeliveryDriver) -> None:
    """An empty page would mean that no events are pending."""
    driver.store.silent.add("look")
    looks: list[list[InFlightDelivery | Failure]] = []
    for _ in range(MAX_WAITING + 1):
        visit = Visit(name="a person", named=True)
        looks.append(answers_of(Deferred.fromCoroutine(driver.delivery.look(visit, Wanted()))))
    [refused] = looks.pop()
    assert isinstance(refused, Failure)
    assert isinstance(refused.value, Refused)
    assert (refused.value.reason, refused.value.status) == ("busy", 503)
    driver.store.resume()
    for _ in range(3 * MAX_WAITING):
        driver.quiet()
    assert [isinstance(answer, InFlightDelivery) for [answer] in looks] == [True] * MAX_WAITING


def test_responses_without_events_are_reused_for_a_moment(driver: DeliveryDriver) -> None:
    """Many busy scrapers would occupy the processor if each response were rendered anew."""
    driver.append("a")
    delivery = driver.scrape("ann")  # in flight from here on
    first = driver.scrape("ann").body
    driver.telemetry.accepted("udp", 5)
    assert driver.scrape("ann").body == first
    driver.pass_time(OWN_AGE + 0.1)
    assert driver.scrape("ann").body != first
    assert driver.scrape("ann", limit=3).body != driver.scrape("ann").body
    delivery.returned(uncertain=False)
    driver.quiet()


def test_too_many_scrapers_are_logged_once_a_minute(driver: DeliveryDriver) -> None:
    """An operator whose new Prometheus gets no events would find no reason in the log."""
    for number in range(MAX_SCRAPERS):
        reserved = driver.pump.get(driver.real.reserve(Visit(name=f"scraper-{number}", named=True), 1.0, 1))
        assert reserved.token is not None
        driver.pump.get(driver.real.settle(reserved.token, True, 0, (), ()))
    with logged() as events:
        for _ in range(5):
            driver.take("one-more")
        driver.pass_time(61)
    lines = [formatEvent(event) for event in events]
    said = [line for line in lines if f"{MAX_SCRAPERS} scrapers are known already" in line]
    assert [line.split()[0] for line in said] == ["1", "4"]
    assert "one-more" in said[0]
