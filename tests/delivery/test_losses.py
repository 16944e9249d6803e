"""What a response passes over for good is counted when it is delivered, and not before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from support.delivery_driver import Rig

from oneshotd.core.sampling.mode import TimestampHistory, plan_next
from oneshotd.core.sampling.plan import Plan
from oneshotd.delivery import render as response


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A daemon that passes over every event of the series `no`."""

    def without_no(pending: object, caps: object, **how: object) -> tuple[Plan, TimestampHistory]:
        planned, history = plan_next(pending, caps, **how)  # type: ignore[arg-type]
        seqs = pending.seqs  # type: ignore[attr-defined]
        lost = [seq for seq, series in zip(seqs, pending.series, strict=True) if series == "no"]  # type: ignore[attr-defined]
        samples = [sample for sample in planned.samples if sample.series != "no"]
        ats = planned.ats[: len(planned.ats) - len(lost)]
        return evolve(planned, samples=samples, ats=ats, lost={"label_limit": lost} if lost else {}), history

    monkeypatch.setattr(response, "plan_next", without_no)
    made = Rig(tmp_path / "store")
    yield made
    made.stop()


def lost(rig: Rig) -> dict[tuple[str, str], int]:
    """Scraper and reason -> events, as the store counts them."""
    return dict(rig.census().lost)


def test_what_was_passed_over_is_counted_with_the_delivery(rig: Rig) -> None:
    """It would be counted as delivered, and be missing on the dashboard without a reason."""
    rig.append("a", "no", "no", "b")
    assert rig.take() == Counter(a=1, b=1)
    assert lost(rig) == {("ann", "label_limit"): 2}
    assert rig.figures("oneshotd_scraper_lost_events_total")["label_limitann"] == 2
    assert rig.figures("oneshotd_scraper_delivered_events_total")["ann"] == 2
    rig.restart()
    assert rig.take() == Counter()
    assert lost(rig) == {("ann", "label_limit"): 2}


def test_also_where_nothing_else_is_in_the_response(rig: Rig) -> None:
    """Else the same events would be looked at with each scrape, for ever."""
    rig.append("no")
    shipment = rig.scrape()
    assert shipment.awaits_receipt
    assert lost(rig) == {}
    shipment.delivered()
    shipment.final()
    rig.quiet()
    assert lost(rig) == {("ann", "label_limit"): 1}


def test_a_look_and_a_returned_response_count_nothing(rig: Rig) -> None:
    rig.append("a", "no")
    rig.look()
    shipment = rig.scrape()
    shipment.returned(uncertain=False)
    rig.quiet()
    assert lost(rig) == {}


def test_a_response_that_was_thrown_away_loses_nothing(rig: Rig) -> None:
    rig.append("a", "no")
    shipment = rig.scrape()
    shipment.delivered()
    shipment.revoked()
    rig.quiet()
    assert lost(rig) == {}
    rig.take()
    assert lost(rig) == {("ann", "label_limit"): 1}
