"""A scraper that names its limits gets responses within them; events beyond them are counted as lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.delivery_driver import DeliveryDriver, events_in, sums
from support.fake_store import logged
from twisted.logger import formatEvent

from oneshotd.core.exposition import head_size, line_size

LIMITS = {
    "sample_limit": "50",
    "body_size_limit": "4KB",
    "label_limit": "5",
    "label_name_length_limit": "16",
    "label_value_length_limit": "60",
}
#: One event for each limit that one event can exceed.
BEYOND = {
    "label_limit": 'm{a="x",b="x",c="x"}',
    "label_name_length_limit": 'm{a_label_with_a_name="x"}',
    "label_value_length_limit": f'm{{a="{"v" * 61}"}}',
}


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    made = DeliveryDriver(tmp_path / "store")
    yield made
    made.stop()


def count(shown: bytes) -> int:
    """Return the number of events in a response."""
    return sum(int(sample.value) for sample in events_in(shown))


def take(driver: DeliveryDriver, name: str = "ann", limits: Mapping[str, str] | None = None) -> int:
    """Scrape, deliver, and return the number of events."""
    delivery = driver.scrape(name, limits=limits)
    if delivery.awaits_receipt:
        delivery.delivered()
        delivery.final()
    driver.quiet()
    return count(delivery.body)


def lost(driver: DeliveryDriver, name: str = "ann") -> dict[str, int]:
    """Return reason -> events that this scraper will never get."""
    return {reason: events for (scraper, reason), events in driver.stats().lost.items() if scraper == name}


def test_an_event_beyond_a_limit_is_passed_over_counted_and_logged(driver: DeliveryDriver) -> None:
    """An event of 1,100 characters would make Prometheus drop forty others that count as delivered."""
    driver.append(*(f'n{{a="{n}"}}' for n in range(40)), *BEYOND.values())
    with logged() as lines:
        assert sum(take(driver, limits=LIMITS) for _ in range(4)) == 40
    assert lost(driver) == dict.fromkeys(BEYOND, 1)
    assert take(driver, "bob") == 43
    said = [formatEvent(event) or "" for event in lines]
    for reason, series in BEYOND.items():
        assert f"ann will never get 1 events, one of them of the series {series}: {reason}" in said
    shown = driver.figures("oneshotd_scraper_lost_events_total")
    assert {reason: shown[f"{reason}ann"] for reason in BEYOND} == dict.fromkeys(BEYOND, 1.0)
    assert shown["body_size_limitann"] == 0, "at zero before the first, for increase()"


def test_a_look_and_a_returned_response_count_no_losses(driver: DeliveryDriver) -> None:
    driver.append("m", *BEYOND.values())
    assert count(driver.look(limits=LIMITS)) == 1
    with logged() as lines:
        delivery = driver.scrape(limits=LIMITS)
        delivery.returned(uncertain=False)
        driver.quiet()
    assert lost(driver) == {}
    assert not [line for line in lines if "will never get" in (formatEvent(line) or "")]
    assert take(driver) == 4, "with other limits it gets them after all"


def test_an_event_that_fits_only_alone_is_delivered_alone(driver: DeliveryDriver) -> None:
    series = f'm{{a="{"v" * 1100}"}}'
    size = head_size(series) + line_size(series, "1")
    driver.append("b", series, series, "c")
    total: Counter[str] = Counter()
    for _ in range(6):
        delivery = driver.scrape(limits={"body_size_limit": f"{size + 1}B"})
        assert len(delivery.body) <= size
        if delivery.awaits_receipt:
            delivery.delivered()
            delivery.final()
        driver.quiet()
        total += sums(delivery.body)
    assert (total, lost(driver)) == (Counter(b=1, m=2, c=1), {})
    driver.append(series)
    driver.take(limits={"body_size_limit": f"{size}B"})
    assert lost(driver) == {"body_size_limit": 1}


def test_own_metrics_that_do_not_fit_are_named_for_the_page(driver: DeliveryDriver) -> None:
    driver.take(limits=LIMITS)
    assert driver.telemetry.tally("ann").own_beyond == ("body_size_limit", "sample_limit")
    driver.take()
    assert driver.telemetry.tally("ann").own_beyond == ()
