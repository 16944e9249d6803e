"""Figures of a store that several daemons share: fresh ones, or none, and what the store is told for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.delivery_driver import DeliveryDriver, answers_of, parsed, sums, with_events
from twisted.internet.defer import Deferred, succeed

from oneshotd.core.identity import Visit
from oneshotd.core.scrape_request import Wanted
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import OWN_AGE
from oneshotd.store.interface import Settled

HELD = "oneshotd_held_events"


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    made = DeliveryDriver(tmp_path / "store")
    made.telemetry.is_shared = True
    yield made
    made.stop()


def figures(body: bytes) -> dict[str, float]:
    return {sample.name: sample.value for sample in parsed(body)}


def test_a_response_has_the_figures_of_its_own_moment(driver: DeliveryDriver) -> None:
    """Another daemon may have shown later ones than a figure of the scrape before."""
    driver.append("a", "b")
    driver.take()
    driver.append("c")
    assert figures(driver.scrape().body)[HELD] == 3


@pytest.mark.parametrize("kind", ["scrape", "look"])
def test_without_an_answer_there_are_no_figures_and_the_events_go_out(
    driver: DeliveryDriver, kind: str
) -> None:
    """A counter would fall below what another daemon has shown: a restart from zero, to Prometheus."""
    driver.append("a")
    driver.take()
    driver.append("b")
    driver.store.refuse("stats")
    if kind == "scrape":
        body = driver.scrape().body
    else:
        asked = Deferred.fromCoroutine(driver.delivery.look(Visit(name="ann", named=True), Wanted()))
        driver.quiet()
        [answer] = answers_of(asked)
        assert isinstance(answer, InFlightDelivery)
        body = answer.body
    assert sums(body) == Counter(b=1)
    assert [name for name in figures(body) if name.startswith("oneshotd_")] == ["oneshotd_build_info"]


def test_an_answer_that_comes_too_late_is_none(driver: DeliveryDriver) -> None:
    driver.append("a")
    driver.store.silent.add("stats")
    answers = answers_of(driver.ask(timeout=4.0))
    driver.quiet()
    driver.clock.advance(2.0)
    [answer] = answers
    assert isinstance(answer, InFlightDelivery) and HELD not in figures(answer.body)


def test_a_response_without_events_is_not_used_again(driver: DeliveryDriver) -> None:
    """The figures of a moment ago may be older than those that another daemon has shown since."""
    with_events(driver)
    first = figures(driver.scrape().body)[HELD]
    driver.append("b")
    driver.clock.advance(OWN_AGE / 2)
    assert figures(driver.scrape().body)[HELD] == first + 1


def test_the_store_is_told_what_each_response_carried(driver: DeliveryDriver) -> None:
    """The counts of the cluster would stay at 0."""
    told: list[tuple[str, int, bool]] = []

    def settle(token: int, delivered: bool, *args: Any) -> Any:
        told.append(("delivered" if delivered else "returned", args[-1].events, args[-1].uncertain))
        return real_settle(token, delivered, *args)

    def revoke(token: int, sent: Any) -> Any:
        told.append(("revoked", sent.events, sent.uncertain))
        return real_revoke(token, sent)

    store: Any = driver.store
    real_settle, real_revoke = store.settle, store.revoke
    store.settle, store.revoke = settle, revoke
    driver.append("a", "b", "b")
    for end in ("returned", "returned as uncertain", "revoked", "revoked as uncertain", "final"):
        delivery = driver.scrape()
        if "returned" in end:
            delivery.returned(uncertain="uncertain" in end)
        else:
            delivery.delivered()
            if "revoked" in end:
                delivery.revoked(uncertain="uncertain" in end)
            else:
                delivery.final()
        driver.quiet()
    # After a response that did not arrive, the next one is smaller.
    assert [(how, uncertain) for how, _, uncertain in told] == [
        ("returned", False),
        ("returned", True),
        ("delivered", False),
        ("revoked", False),
        ("delivered", False),
        ("revoked", True),
        ("delivered", False),
    ]
    assert {events for _, events, _ in told} == {3}


def test_a_delivery_that_ended_too_late_is_counted(driver: DeliveryDriver) -> None:
    """Its events went out twice, and the daemon that was too late would not show it."""
    delivery = with_events(driver)
    driver.store.settle = lambda *args: succeed(Settled.SUPERSEDED)  # type: ignore[method-assign]
    delivery.delivered()
    driver.quiet()
    text = driver.telemetry.daemon_metrics().within(Wanted().limits)[0].decode()
    assert "\noneshotd_superseded_deliveries_total 1.0\n" in text
