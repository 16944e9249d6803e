"""A delivery is made final in the store, however often the store has to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import DeliveryDriver, sums, with_events

from oneshotd.delivery.in_flight import FIRST_RETRY


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    driver = DeliveryDriver(tmp_path / "store")
    yield driver
    driver.stop()


def test_a_release_that_the_store_refuses_is_repeated(driver: DeliveryDriver) -> None:
    """The scraper would get no events until the lease ends."""
    first = with_events(driver, "a")
    driver.store.refuse("release")
    first.delivered()
    first.final()
    driver.quiet()
    assert driver.store.calls.count("release") == 1 and first.is_stuck
    driver.append("b")
    assert sums(driver.scrape().body) == {}
    driver.store.resume()
    driver.pass_time(FIRST_RETRY)
    assert driver.store.calls.count("release") == 2 and not first.is_stuck
    assert sums(driver.scrape().body) == {"b": 1}
