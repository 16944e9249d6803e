"""A scraper that names its limits gets responses within them, and what it cannot take is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.delivery_driver import Rig, events_in, sums
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
#: One event for each limit that one event can be beyond.
BEYOND = {
    "label_limit": 'm{a="x",b="x",c="x"}',
    "label_name_length_limit": 'm{a_label_with_a_name="x"}',
    "label_value_length_limit": f'm{{a="{"v" * 61}"}}',
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "store")
    yield made
    made.stop()


def count(shown: bytes) -> int:
    """Events in a response."""
    return sum(int(sample.value) for sample in events_in(shown))


def take(rig: Rig, name: str = "ann", limits: Mapping[str, str] | None = None) -> int:
    """Events that a scrape brings, which is read and over."""
    shipment = rig.scrape(name, limits=limits)
    if shipment.awaits_receipt:
        shipment.delivered()
        shipment.final()
    rig.quiet()
    return count(shipment.body)


def lost(rig: Rig, name: str = "ann") -> dict[str, int]:
    """Reason -> events that this scraper will never get."""
    return {reason: events for (scraper, reason), events in rig.census().lost.items() if scraper == name}


def test_an_event_beyond_a_limit_is_passed_over_counted_and_logged(rig: Rig) -> None:
    """One of 1,100 characters took forty others along, and all counted as delivered."""
    rig.append(*(f'n{{a="{n}"}}' for n in range(40)), *BEYOND.values())
    with logged() as lines:
        assert sum(take(rig, limits=LIMITS) for _ in range(4)) == 40
    assert lost(rig) == dict.fromkeys(BEYOND, 1)
    assert take(rig, "bob") == 43
    said = [formatEvent(event) or "" for event in lines]
    for reason, series in BEYOND.items():
        assert f"ann will never get 1 events, one of them of the series {series}: {reason}" in said
    shown = rig.figures("oneshotd_scraper_lost_events_total")
    assert {reason: shown[f"{reason}ann"] for reason in BEYOND} == dict.fromkeys(BEYOND, 1.0)
    assert shown["body_size_limitann"] == 0, "at zero before the first, for increase()"


def test_a_look_and_a_response_that_comes_back_count_nothing(rig: Rig) -> None:
    rig.append("m", *BEYOND.values())
    assert count(rig.look(limits=LIMITS)) == 1
    with logged() as lines:
        shipment = rig.scrape(limits=LIMITS)
        shipment.returned(uncertain=False)
        rig.quiet()
    assert lost(rig) == {}
    assert not [line for line in lines if "will never get" in (formatEvent(line) or "")]
    assert take(rig) == 4, "with other limits it gets them after all"


def test_an_event_that_fits_only_alone_goes_alone(rig: Rig) -> None:
    series = f'm{{a="{"v" * 1100}"}}'
    size = head_size(series) + line_size(series, "1")
    rig.append("b", series, series, "c")
    total: Counter[str] = Counter()
    for _ in range(6):
        shipment = rig.scrape(limits={"body_size_limit": f"{size + 1}B"})
        assert len(shipment.body) <= size
        if shipment.awaits_receipt:
            shipment.delivered()
            shipment.final()
        rig.quiet()
        total += sums(shipment.body)
    assert (total, lost(rig)) == (Counter(b=1, m=2, c=1), {})
    rig.append(series)
    rig.take(limits={"body_size_limit": f"{size}B"})
    assert lost(rig) == {"body_size_limit": 1}


def test_own_metrics_that_do_not_fit_are_named_for_the_page(rig: Rig) -> None:
    rig.take(limits=LIMITS)
    assert rig.telemetry.tally("ann").own_beyond == ("body_size_limit", "sample_limit")
    rig.take()
    assert rig.telemetry.tally("ann").own_beyond == ()
