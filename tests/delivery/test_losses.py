"""Events that a response passes over are counted as lost when it is delivered, and not before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from support.delivery_driver import DeliveryDriver

from oneshotd.core.sampling.mode import TimestampHistory, plan_next
from oneshotd.core.sampling.plan import Plan
from oneshotd.delivery import render as response


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeliveryDriver]:
    """A daemon that passes over every event of the series `no`."""

    def without_no(pending: object, caps: object, **how: object) -> tuple[Plan, TimestampHistory]:
        planned, history = plan_next(pending, caps, **how)  # type: ignore[arg-type]
        seqs = pending.seqs  # type: ignore[attr-defined]
        lost = [seq for seq, series in zip(seqs, pending.series, strict=True) if series == "no"]  # type: ignore[attr-defined]
        samples = [sample for sample in planned.samples if sample.series != "no"]
        ats = planned.ats[: len(planned.ats) - len(lost)]
        return evolve(planned, samples=samples, ats=ats, lost={"label_limit": lost} if lost else {}), history

    monkeypatch.setattr(response, "plan_next", without_no)
    made = DeliveryDriver(tmp_path / "store")
    yield made
    made.stop()


def lost(driver: DeliveryDriver) -> dict[tuple[str, str], int]:
    """Return scraper and reason -> lost events, as the store counts them."""
    return dict(driver.stats().lost)


def test_losses_are_counted_with_the_delivery(driver: DeliveryDriver) -> None:
    """The event would count as delivered, and be missing on the dashboard without a reason."""
    driver.append("a", "no", "no", "b")
    assert driver.take() == Counter(a=1, b=1)
    assert lost(driver) == {("ann", "label_limit"): 2}
    assert driver.figures("oneshotd_scraper_lost_events_total")["label_limitann"] == 2
    assert driver.figures("oneshotd_scraper_delivered_events_total")["ann"] == 2
    driver.restart()
    assert driver.take() == Counter()
    assert lost(driver) == {("ann", "label_limit"): 2}


def test_losses_are_counted_if_the_response_has_no_other_events(driver: DeliveryDriver) -> None:
    """Each scrape would read the same events again, for ever."""
    driver.append("no")
    delivery = driver.scrape()
    assert delivery.awaits_receipt
    assert lost(driver) == {}
    delivery.delivered()
    delivery.final()
    driver.quiet()
    assert lost(driver) == {("ann", "label_limit"): 1}


def test_a_look_and_a_returned_response_count_no_losses(driver: DeliveryDriver) -> None:
    driver.append("a", "no")
    driver.look()
    delivery = driver.scrape()
    delivery.returned(uncertain=False)
    driver.quiet()
    assert lost(driver) == {}


def test_a_revoked_response_counts_no_losses(driver: DeliveryDriver) -> None:
    driver.append("a", "no")
    delivery = driver.scrape()
    delivery.delivered()
    delivery.revoked()
    driver.quiet()
    assert lost(driver) == {}
    driver.take()
    assert lost(driver) == {("ann", "label_limit"): 1}
