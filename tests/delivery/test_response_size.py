"""Response sizes: a scraper that cannot take a full response gets smaller ones until it can."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.delivery_driver import DeliveryDriver

from oneshotd.core.events import Sample
from oneshotd.core.sampling.plan import Caps
from oneshotd.delivery.response_size import (
    DELIVERIES_BEFORE_GROWTH,
    LEAST_BYTES,
    LEAST_SAMPLES,
    ResponseSizeController,
)

CAPS = Caps()


def samples(number: int, size: int = 50) -> list[Sample]:
    """Return samples of about this many bytes each."""
    return [Sample(f'e{{n="{n}",pad="{"x" * size}"}}', "1") for n in range(number)]


@pytest.mark.parametrize("can_take", [LEAST_SAMPLES, 700, 3000, 19_999])
@pytest.mark.parametrize("ending", ["returned", "revoked"])
def test_a_scraper_that_cannot_take_a_full_response_gets_all_events(
    tmp_path: Path, can_take: int, ending: str
) -> None:
    """With a slow connection or a `body_size_limit` each scrape would fail in the same way."""
    driver = DeliveryDriver(tmp_path / "store")
    driver.take()
    names = [f"e{number}" for number in range(20_000)]
    driver.append(*names)
    arrived: list[str] = []
    failed = 0
    while len(arrived) < len(names):
        delivery = driver.scrape()
        got = re.findall(r"(?m)^(e[0-9]+) 1$", delivery.body.decode())  # a real parser takes seconds
        if len(got) <= can_take:
            delivery.delivered()
            delivery.final()
            arrived += got
        else:
            failed += 1
            if ending == "revoked":
                delivery.delivered()
                delivery.revoked()
            else:
                delivery.returned(uncertain=True)
        driver.quiet()
        assert failed < 12, "it starves"
    assert arrived == names
    driver.stop()


def test_the_size_grows_back_to_the_caps() -> None:
    """A connection that was slow for a minute would get small responses for ever."""
    pace = ResponseSizeController(CAPS)
    pace.failed("a", samples(CAPS.samples))
    assert pace.caps("a").samples == CAPS.samples // 2
    assert pace.caps("a").bytes == CAPS.bytes // 2
    assert pace.caps("b") == CAPS
    for _ in range(DELIVERIES_BEFORE_GROWTH):
        assert pace.caps("a") != CAPS
        pace.arrived("a")
    assert pace.caps("a") == CAPS


def test_a_small_response_that_fails_changes_nothing() -> None:
    """A connection that broke for another reason would make responses small."""
    pace = ResponseSizeController(CAPS)
    pace.failed("a", samples(LEAST_SAMPLES))
    assert pace.caps("a") == CAPS


def test_a_few_large_samples_become_fewer() -> None:
    """A scraper with a `body_size_limit` would fail with few large samples, too."""
    pace = ResponseSizeController(CAPS)
    pace.failed("a", samples(33, size=250_000))
    assert pace.caps("a").bytes == LEAST_BYTES


def test_the_size_has_a_lower_bound() -> None:
    """One event in each scrape would never end a backlog, and the largest event must fit."""
    pace = ResponseSizeController(CAPS)
    for _ in range(20):
        pace.failed("a", samples(pace.caps("a").samples))
    assert pace.caps("a").samples == LEAST_SAMPLES
    assert pace.caps("a").bytes == LEAST_BYTES


def test_caps_below_the_lower_bound_are_kept() -> None:
    """A scraper would get larger responses after a failed one."""
    caps = Caps(samples=10, bytes=600)
    pace = ResponseSizeController(caps)
    pace.failed("a", samples(10))
    assert pace.caps("a") == caps


def test_unknown_scrapers_are_forgotten() -> None:
    """Invented names would fill the memory."""
    pace = ResponseSizeController(CAPS)
    pace.failed("a", samples(CAPS.samples))
    pace.failed("b", samples(CAPS.samples))
    pace.keep({"b"})
    assert pace.caps("a") == CAPS
    assert pace.caps("b") != CAPS
