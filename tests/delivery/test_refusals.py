"""A scraper that resets each response with one sample in it: it costs that sample, and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from support.delivery_driver import Rig, events_in, sums
from support.store_log import held_events
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from oneshotd.core.sampling.suspects import REFUSED, RESETS
from oneshotd.delivery.in_flight import InFlightDelivery

GOOD = [f"s{number}" for number in range(40)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "store")
    made.take()
    yield made
    made.stop()


def end(rig: Rig, shipment: InFlightDelivery, how: str) -> None:
    if how == "revoked":
        shipment.delivered()
        shipment.revoked()
    elif how == "reset":
        shipment.returned(uncertain=False, reset=True)
    elif how == "returned":
        shipment.returned(uncertain=False)
    elif how == "uncertain":
        shipment.returned(uncertain=True)
    elif how == "revoked?":
        shipment.delivered()
        shipment.revoked(uncertain=True)
    elif shipment.awaits_receipt:
        shipment.delivered()
        shipment.final()
    rig.quiet()


def scrape(rig: Rig, fails: str = "revoked", name: str = "ann") -> Counter[str]:
    """One scrape by a scraper that cannot take `bad`."""
    shipment = rig.scrape(name)
    got = sums(shipment.body)
    end(rig, shipment, fails if "bad" in got else "taken")
    return Counter() if "bad" in got else got


def lost(rig: Rig, name: str = "ann") -> int:
    return rig.census().lost.get((name, REFUSED), 0)


def pending(rig: Rig, name: str = "ann") -> int:
    return next(status.pending for status in rig.census().scrapers if status.name == name)


@pytest.mark.parametrize("fails", ["revoked", "reset"])
def test_a_sample_that_spoils_responses_is_set_aside_and_counted(rig: Rig, fails: str) -> None:
    """1,501 events were lost for one, or the same 500 went out for ever."""
    seen: list[LogEvent] = []
    globalLogPublisher.addObserver(cast(ILogObserver, seen.append))
    try:
        rig.append(*GOOD[:20], "bad", "bad", *GOOD[20:])
        got: Counter[str] = Counter()
        for number in range(30):
            if lost(rig):
                break
            rig.append(f"new{number}")
            got += scrape(rig, fails)
    finally:
        globalLogPublisher.removeObserver(cast(ILogObserver, seen.append))
    assert lost(rig) == 2
    assert [event["series"] for event in seen if event.get("series") == "bad"] == ["bad"]
    while pending(rig):
        got += scrape(rig, fails)
    assert Counter(GOOD) <= got
    assert all(count == 1 for count in got.values())
    assert [event.series for event in rig.pump.get(held_events(rig.real))].count("bad") == 2
    assert 2 in rig.figures("oneshotd_scraper_lost_events_total").values()
    rig.restart()
    assert (lost(rig), pending(rig)) == (2, 0)
    assert rig.take_all("bob")["bad"] == 2, "another scraper gets it"


def test_it_is_set_aside_in_the_transaction_of_its_loss(rig: Rig) -> None:
    """A crash would lose it uncounted, or count it again."""
    rig.append("a", "bad", "b")
    while not rig.disk.full:
        rig.append("new")
        scrape(rig)
        rig.disk.full = any(search._refused for search in rig.delivery._outcomes._searches.values())
    scrape(rig)
    assert lost(rig) == 0
    rig.disk.full = False
    rig.pass_time(6)
    assert lost(rig) == 1


@pytest.mark.parametrize("fails", ["uncertain", "returned", "revoked?"])
def test_nothing_but_a_reset_is_a_sign(rig: Rig, fails: str) -> None:
    """A slow line, a deadline or a scraper that is away would cost events that it can take."""
    rig.append(*GOOD, "bad")
    for _ in range(30):
        shipment = rig.scrape()
        assert len(events_in(shipment.body)) == len(GOOD) + 1
        end(rig, shipment, fails)
    assert lost(rig) == 0


def test_the_search_starts_anew_after_a_restart(rig: Rig) -> None:
    rig.append(*GOOD, "bad")
    for _ in range(RESETS + 2):
        scrape(rig)
    rig.restart()
    assert "bad" in sums(rig.scrape().body)
    assert lost(rig) == 0


def test_a_look_moves_nothing_in_the_search(rig: Rig) -> None:
    """A person would keep events back from the scraper, or prove it wrong."""
    rig.append("a", "bad")
    for number in range(40):
        rig.append(f"new{number}")
        rig.look()
        scrape(rig)
        rig.look()
    assert lost(rig) == 1


def test_a_scraper_without_trouble_has_no_search(rig: Rig) -> None:
    rig.append("a")
    end(rig, rig.scrape(), "revoked")
    assert sums(rig.scrape().body) == Counter(a=1)
    rig.quiet()
    assert rig.delivery._outcomes._searches
    rig.restart()
    assert rig.take() == Counter(a=1)
    assert not rig.delivery._outcomes._searches


def test_upkeep_takes_no_event_from_the_search(rig: Rig) -> None:
    rig.append(*GOOD, "bad")
    got: Counter[str] = Counter()
    while not lost(rig):
        rig.append("tick")
        got += scrape(rig)
        assert rig.pump.get(rig.real.prune()) == []
    while pending(rig):
        got += scrape(rig)
    assert Counter(GOOD) <= got
