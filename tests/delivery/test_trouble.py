"""Deliveries when the store hangs or refuses, or the client disconnects: no event lost, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.delivery_driver import DeliveryDriver, answers_of, parsed, sums, with_events
from support.fake_store import logged
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from oneshotd.core.identity import Visit
from oneshotd.core.scrape_request import Wanted
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import MAX_STORE_WAIT


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    made = DeliveryDriver(tmp_path / "store")
    yield made
    made.stop()


# ---- a store that does not answer ------------------------------------------------------------


@pytest.mark.parametrize(("timeout", "wait"), [(2.0, 1.0), (10.0, 5.0), (120.0, MAX_STORE_WAIT)])
def test_a_store_that_hangs_fails_no_scrape(driver: DeliveryDriver, timeout: float, wait: float) -> None:
    """`up` would be 0 and the own metrics missing, while they show what is wrong."""
    driver.take()
    driver.append("a")
    driver.store.silent.update({"reserve", "stats"})
    answers = answers_of(driver.ask(timeout=timeout))
    driver.clock.advance(wait - 0.01)
    assert answers == []
    driver.clock.advance(0.01)
    [answer] = answers
    assert isinstance(answer, InFlightDelivery) and not answer.awaits_receipt
    assert sums(answer.body) == Counter() and parsed(answer.body)
    driver.store.resume()
    driver.quiet()
    assert driver.take() == Counter(a=1), "what was reserved too late was not handed back"
    assert driver.scraped("busy") == 1


def test_waiting_for_a_settlement_and_for_the_store_is_bounded_together(driver: DeliveryDriver) -> None:
    """A scrape would time out although each single wait was short enough."""
    delivery = with_events(driver)
    driver.store.silent.update({"settle", "reserve", "stats"})
    delivery.delivered()
    delivery.final()
    answers = answers_of(driver.ask(timeout=4.0))
    driver.clock.advance(1.9)
    driver.clock.advance(0.1)
    driver.clock.advance(0)
    assert len(answers) == 1
    driver.store.resume()
    driver.quiet()
    assert driver.take() == Counter()


def test_events_go_out_without_the_figures_of_the_store(driver: DeliveryDriver) -> None:
    """A slow count would delay the events."""
    driver.append("a")
    driver.store.silent.add("stats")
    answers = answers_of(driver.ask(timeout=4.0))
    driver.quiet()
    driver.clock.advance(2.0)
    [answer] = answers
    assert isinstance(answer, InFlightDelivery) and sums(answer.body) == Counter(a=1)


def test_if_the_store_cannot_count_the_last_figures_stay(driver: DeliveryDriver) -> None:
    """The number of held events would fall to 0 on a graph whenever the disk fails."""
    driver.append("a", "b", "c")
    driver.take()
    driver.store.refuse("stats")
    body = driver.scrape().body
    assert [s.value for s in parsed(body) if s.name == "oneshotd_held_events"] == [3]


def test_a_look_at_a_store_that_hangs_ends(driver: DeliveryDriver) -> None:
    """A browser would load the page for ever."""
    driver.store.silent.update({"look", "stats"})
    done: list[object] = []
    visit = Visit(name="ann", named=True)
    Deferred.fromCoroutine(driver.delivery.look(visit, Wanted())).addBoth(done.append)
    driver.clock.advance(MAX_STORE_WAIT)
    assert len(done) == 1 and isinstance(done[0], InFlightDelivery)


# ---- a store that refuses --------------------------------------------------------------------


def end(delivery: InFlightDelivery) -> None:
    delivery.delivered()
    delivery.final()


def throw_away(delivery: InFlightDelivery) -> None:
    delivery.delivered()
    delivery.revoked()


@pytest.mark.parametrize(("how", "left"), [(end, Counter()), (throw_away, Counter(a=1))])
def test_a_settlement_is_retried_and_no_event_goes_out_meanwhile(
    driver: DeliveryDriver, how: Callable[[InFlightDelivery], None], left: Counter[str]
) -> None:
    """With a full disk events would go out again with every scrape."""
    delivery = with_events(driver)
    driver.disk.full = True
    with logged() as events:
        how(delivery)
        driver.quiet()
        for _ in range(100):  # far beyond the lease
            driver.pass_time(10)
            assert sums(driver.scrape().body) == Counter(), "answered at once, without events"
            driver.pump.get(driver.real.prune().addErrback(lambda _: []))
    assert driver.delivery.unsettled() == ["ann"]
    assert sum("waits for the store" in event["log_format"] for event in events) == 1, "it fills the log"
    driver.disk.full = False
    driver.append("b")
    driver.pass_time(5)
    assert driver.delivery.unsettled() == []
    assert driver.take() == left + Counter(b=1)


@pytest.mark.parametrize("at", ["settle", "revoke"])
def test_a_revocation_is_stored_after_the_lease_expired(driver: DeliveryDriver, at: str) -> None:
    """Events that a scraper did not read while the disk was full would be lost."""
    delivery = with_events(driver)
    if at == "settle":
        driver.disk.full = True
    delivery.delivered()
    driver.quiet()
    driver.disk.full = True
    delivery.revoked()
    driver.quiet()
    driver.pass_time(1000)
    assert driver.take() == Counter()
    driver.disk.full = False
    with logged() as events:
        driver.pass_time(5)
    assert [event for event in events if event["log_level"].name == "error"] == []
    assert driver.take() == Counter(a=1)


def test_retries_are_made_at_growing_intervals(driver: DeliveryDriver) -> None:
    """A full disk would get a thousand attempts a second, or none for an hour."""
    delivery = with_events(driver)
    driver.store.refuse("settle")
    delivery.delivered()
    asked: list[float] = []
    for step in range(30 * 64):
        if driver.store.calls.count("settle") > len(asked):
            asked.append(step / 64)
        driver.clock.advance(1 / 64)
    pauses = [after - before for before, after in pairwise(asked)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[5] * (len(pauses) - 6)], abs=0.03)
    assert len(pauses) == 10


def test_a_bug_in_the_store_does_not_end_a_settlement(driver: DeliveryDriver) -> None:
    """The scraper would get no events until a restart of the daemon, and then repeated ones."""
    delivery = with_events(driver)
    driver.store.faults["settle"] = ZeroDivisionError("a bug")
    with logged() as events:
        delivery.delivered()
        delivery.final()
    assert any(event.get("log_failure") for event in events)
    assert driver.scrape().awaits_receipt is False
    driver.store.resume()
    driver.clock.advance(1)
    driver.append("b")
    driver.quiet()
    assert driver.take() == Counter(b=1)


def test_a_store_that_cannot_reserve_answers_without_events(driver: DeliveryDriver) -> None:
    """The scrape would fail, and the daemon's own metrics be missing."""
    driver.append("a")
    driver.disk.full = True  # so that a new scraper cannot be registered
    assert sums(driver.scrape().body) == Counter()
    driver.disk.full = False
    assert driver.take() == Counter(a=1)


def test_a_settlement_after_its_lease_is_logged_as_an_error(driver: DeliveryDriver) -> None:
    """Events that count twice by a fault of the program would go unnoticed."""
    late = with_events(driver)
    driver.pass_time(1000)
    again = driver.scrape()
    assert sums(again.body) == Counter(a=1)
    with logged() as events:
        late.delivered()
        driver.quiet()
    assert [event["scraper"] for event in events if event["log_level"].name == "error"] == ["ann"]
    again.delivered()
    again.final()
    assert driver.take() == Counter()


# ---- a client that disconnects ---------------------------------------------------------------


def test_a_cancelled_scrape_leaves_no_lease(driver: DeliveryDriver) -> None:
    """Its scraper would get no events until the lease expires (klein#840)."""
    driver.take()
    driver.append("a")
    for silent in ({"reserve"}, {"stats"}, {"reserve", "stats"}, set[str]()):
        driver.store.silent |= silent
        asked = driver.ask()
        answers = answers_of(asked)
        if silent == {"stats"}:
            driver.quiet()
        asked.cancel()
        [answer] = answers
        assert isinstance(answer, Failure) and answer.check(CancelledError)
        driver.store.resume()
        driver.quiet()
        assert driver.clock.getDelayedCalls() == [], silent
        assert driver.delivery.drain().called, silent
        again = driver.scrape()
        assert sums(again.body) == Counter(a=1), silent
        again.returned(uncertain=False)
        driver.quiet()


def test_a_scrape_cancelled_while_it_waits_for_the_last_settlement(driver: DeliveryDriver) -> None:
    """The settlement would be cancelled, too, and the events go out again."""
    delivery = with_events(driver)
    driver.store.silent.add("settle")
    delivery.delivered()
    delivery.final()
    asked = driver.ask()
    answers = answers_of(asked)
    asked.cancel()
    assert len(answers) == 1
    driver.store.resume()
    driver.quiet()
    assert driver.clock.getDelayedCalls() == []
    assert driver.take() == Counter()


def test_a_bug_in_planning_returns_the_reservation(
    driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scraper would get no events until the lease expires."""
    driver.append("a")
    with monkeypatch.context() as patch:
        patch.setattr("oneshotd.delivery.render.plan_next", lambda *_, **__: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            driver.scrape()
    driver.quiet()
    assert driver.take() == Counter(a=1)
