"""The way out when the store hangs or refuses, or the client hangs up: nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.delivery_driver import Rig, came, parsed, sums, with_events
from support.fake_store import logged
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from oneshotd.core.identity import Visit
from oneshotd.core.scrape_request import Wanted
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import MAX_STORE_WAIT


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "store")
    yield made
    made.stop()


# ---- a store that does not answer ------------------------------------------------------------


@pytest.mark.parametrize(("timeout", "wait"), [(2.0, 1.0), (10.0, 5.0), (120.0, MAX_STORE_WAIT)])
def test_a_store_that_hangs_costs_events_but_no_scrape(rig: Rig, timeout: float, wait: float) -> None:
    """`up` would be 0 and the daemon's own metrics missing, just when they tell what is wrong."""
    rig.take()
    rig.append("a")
    rig.store.silent.update({"reserve", "census"})
    answers = came(rig.ask(timeout=timeout))
    rig.clock.advance(wait - 0.01)
    assert answers == []
    rig.clock.advance(0.01)
    [answer] = answers
    assert isinstance(answer, InFlightDelivery) and not answer.awaits_receipt
    assert sums(answer.body) == Counter() and parsed(answer.body)
    rig.store.resume()
    rig.quiet()
    assert rig.take() == Counter(a=1), "what was reserved too late was not handed back"
    assert rig.scraped("busy") == 1


def test_waiting_for_a_settlement_and_for_the_store_is_bounded_together(rig: Rig) -> None:
    """A scrape would time out although each wait for itself was short enough."""
    shipment = with_events(rig)
    rig.store.silent.update({"settle", "reserve", "census"})
    shipment.delivered()
    shipment.final()
    answers = came(rig.ask(timeout=4.0))
    rig.clock.advance(1.9)
    rig.clock.advance(0.1)
    rig.clock.advance(0)
    assert len(answers) == 1
    rig.store.resume()
    rig.quiet()
    assert rig.take() == Counter()


def test_without_figures_the_events_come_all_the_same(rig: Rig) -> None:
    """A slow count would keep the events back."""
    rig.append("a")
    rig.store.silent.add("census")
    answers = came(rig.ask(timeout=4.0))
    rig.quiet()
    rig.clock.advance(2.0)
    [answer] = answers
    assert isinstance(answer, InFlightDelivery) and sums(answer.body) == Counter(a=1)


def test_where_the_store_cannot_count_the_last_figures_stand(rig: Rig) -> None:
    """The number of held events would fall to nothing on a graph whenever the disk has trouble."""
    rig.append("a", "b", "c")
    rig.take()
    rig.store.refuse("census")
    body = rig.scrape().body
    assert [s.value for s in parsed(body) if s.name == "oneshotd_held_events"] == [3]


def test_a_look_at_a_store_that_hangs_ends(rig: Rig) -> None:
    """A browser would wait for ever."""
    rig.store.silent.update({"look", "census"})
    done: list[object] = []
    visit = Visit(name="ann", named=True)
    Deferred.fromCoroutine(rig.delivery.look(visit, Wanted())).addBoth(done.append)
    rig.clock.advance(MAX_STORE_WAIT)
    assert len(done) == 1 and isinstance(done[0], InFlightDelivery)


# ---- a store that refuses --------------------------------------------------------------------


def end(shipment: InFlightDelivery) -> None:
    shipment.delivered()
    shipment.final()


def throw_away(shipment: InFlightDelivery) -> None:
    shipment.delivered()
    shipment.revoked()


@pytest.mark.parametrize(("how", "left"), [(end, Counter()), (throw_away, Counter(a=1))])
def test_a_settlement_is_retried_and_no_event_comes_meanwhile(
    rig: Rig, how: Callable[[InFlightDelivery], None], left: Counter[str]
) -> None:
    """With a full disk events would come again with every scrape."""
    shipment = with_events(rig)
    rig.disk.full = True
    with logged() as events:
        how(shipment)
        rig.quiet()
        for _ in range(100):  # far beyond the lease
            rig.pass_time(10)
            assert sums(rig.scrape().body) == Counter(), "answered at once, without events"
            rig.pump.get(rig.real.prune().addErrback(lambda _: []))
    assert rig.delivery.unsettled() == ["ann"]
    assert sum("waits for the store" in event["log_format"] for event in events) == 1, "it fills the log"
    rig.disk.full = False
    rig.append("b")
    rig.pass_time(5)
    assert rig.delivery.unsettled() == []
    assert rig.take() == left + Counter(b=1)


@pytest.mark.parametrize("at", ["settle", "revoke"])
def test_a_revocation_that_is_refused_beyond_the_lease_still_counts(rig: Rig, at: str) -> None:
    """What a scraper threw away while the disk was full would never come again."""
    shipment = with_events(rig)
    if at == "settle":
        rig.disk.full = True
    shipment.delivered()
    rig.quiet()
    rig.disk.full = True
    shipment.revoked()
    rig.quiet()
    rig.pass_time(1000)
    assert rig.take() == Counter()
    rig.disk.full = False
    with logged() as events:
        rig.pass_time(5)
    assert [event for event in events if event["log_level"].name == "error"] == []
    assert rig.take() == Counter(a=1)


def test_retries_come_at_growing_intervals(rig: Rig) -> None:
    """A full disk would be asked a thousand times a second, or not for an hour."""
    shipment = with_events(rig)
    rig.store.refuse("settle")
    shipment.delivered()
    asked: list[float] = []
    for step in range(30 * 64):
        if rig.store.calls.count("settle") > len(asked):
            asked.append(step / 64)
        rig.clock.advance(1 / 64)
    pauses = [after - before for before, after in pairwise(asked)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[5] * (len(pauses) - 6)], abs=0.03)
    assert len(pauses) == 10


def test_a_bug_in_the_store_does_not_end_a_settlement(rig: Rig) -> None:
    """The scraper would get no events until somebody restarts the daemon, which repeats them."""
    shipment = with_events(rig)
    rig.store.faults["settle"] = ZeroDivisionError("a bug")
    with logged() as events:
        shipment.delivered()
        shipment.final()
    assert any(event.get("log_failure") for event in events)
    assert rig.scrape().awaits_receipt is False
    rig.store.resume()
    rig.clock.advance(1)
    rig.append("b")
    rig.quiet()
    assert rig.take() == Counter(b=1)


def test_a_store_that_cannot_reserve_answers_without_events(rig: Rig) -> None:
    """A scrape would fail, and take the daemon's own metrics along."""
    rig.append("a")
    rig.disk.full = True  # so that a newcomer cannot be registered
    assert sums(rig.scrape().body) == Counter()
    rig.disk.full = False
    assert rig.take() == Counter(a=1)


def test_a_lease_that_has_lapsed_is_said_loudly(rig: Rig) -> None:
    """The one way to count twice that must not happen would go unnoticed."""
    late = with_events(rig)
    rig.pass_time(1000)
    again = rig.scrape()
    assert sums(again.body) == Counter(a=1)
    with logged() as events:
        late.delivered()
        rig.quiet()
    assert [event["scraper"] for event in events if event["log_level"].name == "error"] == ["ann"]
    again.delivered()
    again.final()
    assert rig.take() == Counter()


# ---- a client that hangs up ------------------------------------------------------------------


def test_a_scrape_that_is_cancelled_leaves_nothing_behind(rig: Rig) -> None:
    """Its scraper would get no events until a lease has lapsed (klein#840)."""
    rig.take()
    rig.append("a")
    for silent in ({"reserve"}, {"census"}, {"reserve", "census"}, set[str]()):
        rig.store.silent |= silent
        asked = rig.ask()
        answers = came(asked)
        if silent == {"census"}:
            rig.quiet()
        asked.cancel()
        [answer] = answers
        assert isinstance(answer, Failure) and answer.check(CancelledError)
        rig.store.resume()
        rig.quiet()
        assert rig.clock.getDelayedCalls() == [], silent
        assert rig.delivery.drain().called, silent
        again = rig.scrape()
        assert sums(again.body) == Counter(a=1), silent
        again.returned(uncertain=False)
        rig.quiet()


def test_a_scrape_cancelled_while_it_waits_for_the_last_settlement(rig: Rig) -> None:
    """It would take the settlement along, and the events would come again."""
    shipment = with_events(rig)
    rig.store.silent.add("settle")
    shipment.delivered()
    shipment.final()
    asked = rig.ask()
    answers = came(asked)
    asked.cancel()
    assert len(answers) == 1
    rig.store.resume()
    rig.quiet()
    assert rig.clock.getDelayedCalls() == []
    assert rig.take() == Counter()


def test_a_bug_in_planning_hands_the_reservation_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scraper would get no events until a lease has lapsed."""
    rig.append("a")
    with monkeypatch.context() as patch:
        patch.setattr("oneshotd.delivery.render.plan_next", lambda *_, **__: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            rig.scrape()
    rig.quiet()
    assert rig.take() == Counter(a=1)
