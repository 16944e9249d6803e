"""Pace: a scraper that cannot take a full response gets smaller ones until it can."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.delivery_driver import Rig, sums

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
    """So many, with about so many bytes in each."""
    return [Sample(f'e{{n="{n}",pad="{"x" * size}"}}', "1") for n in range(number)]


@pytest.mark.parametrize("can_take", [LEAST_SAMPLES, 700, 3000, 19_999])
@pytest.mark.parametrize("ending", ["returned", "revoked"])
def test_who_cannot_take_a_full_response_gets_all_the_same(
    tmp_path: Path, can_take: int, ending: str
) -> None:
    """A slow line, or a `body_size_limit`: each scrape would fail the same way, and bring nothing."""
    rig = Rig(tmp_path / "store")
    rig.take()
    names = [f"e{number}" for number in range(20_000)]
    rig.append(*names)
    came: list[str] = []
    failed = 0
    while len(came) < len(names):
        shipment = rig.scrape()
        got = sums(shipment.body)
        if len(got) <= can_take:
            shipment.delivered()
            shipment.final()
            came += got
        else:
            failed += 1
            if ending == "revoked":
                shipment.delivered()
                shipment.revoked()
            else:
                shipment.returned(uncertain=True)
        rig.quiet()
        assert failed < 12, "it starves"
    assert came == names
    rig.stop()


def test_it_comes_back_to_the_full_size() -> None:
    """What a line could not take for a minute it can take again afterwards."""
    pace = ResponseSizeController(CAPS)
    pace.failed("a", samples(CAPS.samples))
    assert pace.caps("a").samples == CAPS.samples // 2
    assert pace.caps("a").bytes == CAPS.bytes // 2
    assert pace.caps("b") == CAPS
    for _ in range(DELIVERIES_BEFORE_GROWTH):
        assert pace.caps("a") != CAPS
        pace.arrived("a")
    assert pace.caps("a") == CAPS


def test_a_small_response_that_fails_says_nothing_of_large_ones() -> None:
    """Connections are cut for many reasons."""
    pace = ResponseSizeController(CAPS)
    pace.failed("a", samples(LEAST_SAMPLES))
    assert pace.caps("a") == CAPS


def test_a_few_large_samples_become_fewer() -> None:
    """A `body_size_limit` is one of bytes."""
    pace = ResponseSizeController(CAPS)
    pace.failed("a", samples(33, size=250_000))
    assert pace.caps("a").bytes == LEAST_BYTES


def test_there_is_a_least() -> None:
    """One event at a time would never be through, and the largest must fit."""
    pace = ResponseSizeController(CAPS)
    for _ in range(20):
        pace.failed("a", samples(pace.caps("a").samples))
    assert pace.caps("a").samples == LEAST_SAMPLES
    assert pace.caps("a").bytes == LEAST_BYTES


def test_caps_below_the_least_are_kept() -> None:
    """Nobody gets more than usual for having failed."""
    caps = Caps(samples=10, bytes=600)
    pace = ResponseSizeController(caps)
    pace.failed("a", samples(10))
    assert pace.caps("a") == caps


def test_only_those_who_are_known_are_remembered() -> None:
    """Invented names would take memory for ever."""
    pace = ResponseSizeController(CAPS)
    pace.failed("a", samples(CAPS.samples))
    pace.failed("b", samples(CAPS.samples))
    pace.keep({"b"})
    assert pace.caps("a") == CAPS
    assert pace.caps("b") != CAPS
