"""A scraper that resets each response with a certain sample loses that sample, and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from support.delivery_driver import DeliveryDriver, events_in, sums
from support.store_log import held_events
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from oneshotd.core.sampling.suspects import REFUSED, RESETS
from oneshotd.delivery.in_flight import InFlightDelivery

GOOD = [f"s{number}" for number in range(40)]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    made = DeliveryDriver(tmp_path / "store")
    made.take()
    yield made
    made.stop()


def end(driver: DeliveryDriver, delivery: InFlightDelivery, how: str) -> None:
    if how == "revoked":
        delivery.delivered()
        delivery.revoked()
    elif how == "reset":
        delivery.returned(uncertain=False, reset=True)
    elif how == "returned":
        delivery.returned(uncertain=False)
    elif how == "uncertain":
        delivery.returned(uncertain=True)
    elif how == "revoked?":
        delivery.delivered()
        delivery.revoked(uncertain=True)
    elif delivery.awaits_receipt:
        delivery.delivered()
        delivery.final()
    driver.quiet()


def scrape(driver: DeliveryDriver, fails: str = "revoked", name: str = "ann") -> Counter[str]:
    """Scrape as a scraper that cannot parse `bad`."""
    delivery = driver.scrape(name)
    got = sums(delivery.body)
    end(driver, delivery, fails if "bad" in got else "taken")
    return Counter() if "bad" in got else got


def lost(driver: DeliveryDriver, name: str = "ann") -> int:
    return driver.stats().lost.get((name, REFUSED), 0)


def pending(driver: DeliveryDriver, name: str = "ann") -> int:
    return next(status.pending for status in driver.stats().scrapers if status.name == name)


@pytest.mark.parametrize("fails", ["revoked", "reset"])
def test_a_refused_sample_is_lost_and_counted(driver: DeliveryDriver, fails: str) -> None:
    """1,501 events would be lost for one, or the same 500 go out for ever."""
    seen: list[LogEvent] = []
    globalLogPublisher.addObserver(cast(ILogObserver, seen.append))
    try:
        driver.append(*GOOD[:20], "bad", "bad", *GOOD[20:])
        got: Counter[str] = Counter()
        for number in range(30):
            if lost(driver):
                break
            driver.append(f"new{number}")
            got += scrape(driver, fails)
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, seen.append))
    assert lost(driver) == 2
    assert [event["series"] for event in seen if event.get("series") == "bad"] == ["bad"]
    while pending(driver):
        got += scrape(driver, fails)
    assert Counter(GOOD) <= got
    assert all(count == 1 for count in got.values())
    assert [event.series for event in driver.pump.get(held_events(driver.real))].count("bad") == 2
    assert 2 in driver.figures("oneshotd_scraper_lost_events_total").values()
    driver.restart()
    assert (lost(driver), pending(driver)) == (2, 0)
    assert driver.take_all("bob")["bad"] == 2, "another scraper gets it"


def test_the_settlement_and_the_loss_are_one_transaction(driver: DeliveryDriver) -> None:
    """A crash would lose the event uncounted, or count it twice."""
    driver.append("a", "bad", "b")
    while not driver.disk.full:
        driver.append("new")
        scrape(driver)
        driver.disk.full = any(search._refused for search in driver.delivery._outcomes._searches.values())
    scrape(driver)
    assert lost(driver) == 0
    driver.disk.full = False
    driver.pass_time(6)
    assert lost(driver) == 1


@pytest.mark.parametrize("fails", ["uncertain", "returned", "revoked?"])
def test_only_a_reset_starts_a_search(driver: DeliveryDriver, fails: str) -> None:
    """A slow connection, a deadline or a stopped scraper would cost events that it can take."""
    driver.append(*GOOD, "bad")
    for _ in range(30):
        delivery = driver.scrape()
        assert len(events_in(delivery.body)) == len(GOOD) + 1
        end(driver, delivery, fails)
    assert lost(driver) == 0


def test_the_search_starts_anew_after_a_restart(driver: DeliveryDriver) -> None:
    driver.append(*GOOD, "bad")
    for _ in range(RESETS + 2):
        scrape(driver)
    driver.restart()
    assert "bad" in sums(driver.scrape().body)
    assert lost(driver) == 0


def test_a_look_does_not_change_the_search(driver: DeliveryDriver) -> None:
    """A person's look would delay events of the scraper, or end the search wrongly."""
    driver.append("a", "bad")
    for number in range(40):
        driver.append(f"new{number}")
        driver.look()
        scrape(driver)
        driver.look()
    assert lost(driver) == 1


def test_a_scraper_that_resets_no_response_has_no_search(driver: DeliveryDriver) -> None:
    driver.append("a")
    end(driver, driver.scrape(), "revoked")
    assert sums(driver.scrape().body) == Counter(a=1)
    driver.quiet()
    assert driver.delivery._outcomes._searches
    driver.restart()
    assert driver.take() == Counter(a=1)
    assert not driver.delivery._outcomes._searches


def test_retention_leaves_the_events_of_the_search(driver: DeliveryDriver) -> None:
    driver.append(*GOOD, "bad")
    got: Counter[str] = Counter()
    while not lost(driver):
        driver.append("tick")
        got += scrape(driver)
        assert driver.pump.get(driver.real.prune()) == []
    while pending(driver):
        got += scrape(driver)
    assert Counter(GOOD) <= got
