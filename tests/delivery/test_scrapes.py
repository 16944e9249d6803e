"""Scrapes: each scraper gets each event once, and deliveries are counted."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import DeliveryDriver, answers_of, events_in, parsed, sums, with_events
from support.fake_store import logged

from oneshotd.core.identity import MAX_SCRAPERS, Visit
from oneshotd.core.sampling.plan import Caps
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import MAX_STORE_WAIT


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    made = DeliveryDriver(tmp_path / "store")
    yield made
    made.stop()


# ---- events in responses ---------------------------------------------------------------------


def test_each_scraper_gets_each_event_once(driver: DeliveryDriver) -> None:
    """An event would be missing on one dashboard, or counted twice on another."""
    driver.append("a", "b", "a", ("v", "3"))
    assert driver.take("ann") == Counter(a=2, b=1, v=3)
    driver.append("a", "c")
    assert driver.take("ann") == Counter(a=1, c=1)
    assert driver.take("bob") == Counter(a=3, b=1, c=1, v=3)
    assert driver.take("ann") == driver.take("bob") == Counter()
    driver.restart()
    assert driver.take("ann") == driver.take("bob") == Counter()


def test_values_of_one_series_go_out_one_by_one_in_order(driver: DeliveryDriver) -> None:
    """Measurements would overwrite each other, or arrive in another order."""
    driver.append(*(("v", str(number)) for number in range(1, 6)), "w")
    seen = []
    for _ in range(5):
        delivery = driver.scrape()
        seen += [sample.value for sample in events_in(delivery.body) if sample.name == "v"]
        delivery.delivered()
        delivery.final()
        driver.quiet()
    assert seen == [1, 2, 3, 4, 5]
    assert driver.take() == Counter()


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 20, 200])
def test_a_limit_holds_for_the_whole_response_and_all_events_arrive(
    driver: DeliveryDriver, limit: int
) -> None:
    """Prometheus would discard the whole scrape over its `sample_limit`, or starve below it."""
    driver.take()
    sent = Counter({f"s{number}": 3 for number in range(40)}) + Counter(v=6)
    for number in range(40):
        driver.append(*[f"s{number}"] * 3)
    driver.append(("v", "1"), ("v", "2"), ("v", "3"))
    got: Counter[str] = Counter()
    while sum(got.values()) < sum(sent.values()):
        delivery = driver.scrape(limit=limit)
        assert len(parsed(delivery.body)) <= limit
        assert len(events_in(delivery.body)) >= 1, "no progress"
        got += sums(delivery.body)
        delivery.delivered()
        delivery.final()
        driver.quiet()
    assert got == sent
    rest = parsed(driver.scrape(limit=limit).body)
    assert 1 <= len(rest) <= limit, "a response is never empty"


def test_with_a_limit_one_series_does_not_delay_the_others(driver: DeliveryDriver) -> None:
    """A job that reports many values at once would delay all other events for hours."""
    driver.take()
    driver.append(*(("v", "1") for _ in range(300)))
    driver.take(limit=2)
    driver.append("other")
    assert driver.take(limit=5)["other"] == 1


def test_a_response_is_bounded_and_the_rest_follows(tmp_path: Path) -> None:
    """After a long pause a scraper would get more than it can take, and discard it."""
    driver = DeliveryDriver(tmp_path / "store", Caps(samples=3, bytes=1000, owed=2))
    driver.append("a", "b", "c", "d", "e", "f")
    driver.append(*(("v", str(number)) for number in range(1, 7)))
    first = driver.scrape()
    assert [sample.name for sample in events_in(first.body)] == ["a", "b", "c"]
    first.delivered()
    first.final()
    assert driver.take_all() == Counter(d=1, e=1, f=1, v=21)
    assert driver.take_all("bob") == Counter(a=1, b=1, c=1, d=1, e=1, f=1, v=21)
    driver.stop()


def test_a_look_shows_the_pending_events_and_takes_none(driver: DeliveryDriver) -> None:
    """A person who opens the scrape URL would take the scraper's events."""
    driver.append("a")
    assert sums(driver.look()) == sums(driver.look("unknown")) == Counter(a=1)
    assert driver.stats().scrapers == ()
    assert driver.take() == Counter(a=1)
    assert sums(driver.look()) == Counter()
    assert driver.scraped("look") == 3


def test_beyond_the_limit_of_scrapers_a_response_has_the_own_metrics_only(driver: DeliveryDriver) -> None:
    """Clients that invent names would fill the memory; or the response would count as an empty one."""
    for number in range(MAX_SCRAPERS):
        driver.pump.get(driver.real.reserve(Visit(name=f"s{number}", named=True), 1.0, 1))
    driver.append("a")
    delivery = driver.scrape("one-more")
    assert events_in(delivery.body) == [] and parsed(delivery.body)
    assert not delivery.awaits_receipt
    assert driver.scraped("too_many") == 1


# ---- one delivery at a time ------------------------------------------------------------------


def test_while_a_delivery_is_in_flight_the_next_scrape_gets_no_events(driver: DeliveryDriver) -> None:
    """Events would arrive twice if a scraper scrapes again before the first response."""
    delivery = with_events(driver)
    driver.append("b")
    assert sums(driver.scrape().body) == Counter()
    delivery.delivered()
    driver.quiet()
    assert sums(driver.scrape().body) == Counter(), "it can still be revoked"
    assert driver.scraped("busy") == 2
    assert driver.take("bob") == Counter(a=1, b=1), "other scrapers do not wait"
    delivery.final()
    assert driver.take() == Counter(b=1)


def test_two_scrapers_under_one_name_are_noticed(driver: DeliveryDriver) -> None:
    """Each of two servers would get a part of the events, without a reason on the page."""
    now = driver.clock.seconds
    for times in range(3):
        assert not driver.telemetry.tally("ann").counts(now()).shared
        driver.append("a")
        delivery = driver.scrape()
        delivery.delivered()
        driver.quiet()
        driver.scrape()
        delivery.final()
        driver.quiet()
        assert len(driver.telemetry.tally("ann").overlaps) == times + 1
    assert driver.telemetry.tally("ann").counts(now()).shared
    assert not driver.telemetry.tally("ann").counts(now() + 600).shared


def test_a_scrape_right_after_the_last_one_waits_for_its_settlement(driver: DeliveryDriver) -> None:
    """On a slow disk every second scrape would get no events."""
    delivery = with_events(driver)
    driver.append("b")
    driver.store.silent.add("settle")
    delivery.delivered()
    delivery.final()
    answers = answers_of(driver.ask())
    driver.quiet()
    assert answers == [] and "reserve" not in driver.store.calls[3:]
    driver.store.resume()
    driver.quiet()
    [answer] = answers
    assert isinstance(answer, InFlightDelivery) and sums(answer.body) == Counter(b=1)


def test_a_scrape_right_after_an_empty_one_is_not_busy(driver: DeliveryDriver) -> None:
    """A `curl` after an empty response would be busy, and show events at the third try."""
    driver.store.silent.add("settle")
    assert driver.take("a visitor") == Counter()
    answers = answers_of(driver.ask("a visitor"))
    driver.store.resume()
    driver.append("a")
    driver.quiet()
    assert driver.scraped("busy") == 0
    assert len(answers) == 1


def test_events_of_a_returned_response_go_out_again(driver: DeliveryDriver) -> None:
    """A scraper that was restarted while it read would miss those events."""
    with_events(driver, "a", "b").returned(uncertain=False)
    assert driver.take() == Counter(a=1, b=1)
    with_events(driver, "c").returned(uncertain=True)
    assert driver.take() == Counter(c=1)


def test_events_of_a_revoked_response_go_out_again(driver: DeliveryDriver) -> None:
    """A scraper that resets the connection before reading the response would miss its events."""
    driver.append(("v", "1"), ("v", "2"), "a")
    driver.take("bob")
    for _ in range(2):
        delivery = driver.scrape()
        assert sums(delivery.body) == Counter(v=1, a=1)
        delivery.delivered()
        driver.quiet()
        delivery.revoked()
    assert driver.take() == Counter(v=1, a=1)
    assert driver.take() == Counter(v=2)
    assert driver.take("bob") == Counter(v=2)


def test_a_revocation_waits_for_the_settlement(driver: DeliveryDriver) -> None:
    """A revocation before the settlement would undo nothing, and the events would be lost."""
    delivery = with_events(driver)
    driver.store.silent.add("settle")
    delivery.delivered()
    delivery.revoked()
    driver.quiet()
    assert "revoke" not in driver.store.calls
    driver.store.resume()
    driver.quiet()
    assert driver.store.calls.count("revoke") == 1
    assert driver.take() == Counter(a=1)


def test_after_its_delivery_a_response_takes_no_memory(driver: DeliveryDriver) -> None:
    """Responses of 8 MiB for 200 scrapers would stay in memory until their next scrapes."""
    for end in ("final", "revoked", "returned"):
        delivery = with_events(driver)
        if end == "returned":
            delivery.returned(uncertain=False)
        else:
            delivery.delivered()
            driver.quiet()
            getattr(delivery, end)()
        gone = weakref.ref(delivery)
        del delivery
        driver.quiet()
        gc.collect()
        assert gone() is None, end
        driver.take()


# ---- counts ----------------------------------------------------------------------------------


def test_ends_of_deliveries_are_counted(driver: DeliveryDriver) -> None:
    """An operator could not tell a working scraper from one that discards all responses."""
    driver.append("a", "a", ("v", "1"), ("v", "2"), ("v", "3"))
    driver.scrape().returned(uncertain=False)
    driver.quiet()
    driver.scrape().returned(uncertain=True)
    driver.quiet()
    delivery = driver.scrape()
    delivery.delivered()
    driver.quiet()
    delivery.revoked()
    driver.quiet()
    driver.time.advance(20)
    driver.take()
    assert driver.figures("oneshotd_scraper_queueing_series") == {"ann": 1}
    delivery = driver.scrape()
    assert driver.scrape().awaits_receipt is False
    assert driver.figures("oneshotd_scraper_queueing_series") == {"ann": 1}, (
        "a busy answer says nothing of it"
    )
    assert driver.figures("oneshotd_scraper_returned_events_total") == {"ann": 6}
    assert driver.figures("oneshotd_scraper_uncertain_events_total") == {"ann": 3}
    assert driver.figures("oneshotd_scraper_revoked_events_total") == {"ann": 3}
    assert driver.figures("oneshotd_scraper_delivered_events_total") == {"ann": 6}
    assert driver.figures("oneshotd_delivery_seconds_count") == {"": 6}
    # A further event of a series in the same moment is accepted a millisecond later.
    assert driver.figures("oneshotd_delivery_seconds_sum")[""] == pytest.approx(60, abs=0.01)
    delivery.delivered()
    delivery.final()
    driver.take()
    driver.take()
    assert driver.figures("oneshotd_scraper_queueing_series") == {"ann": 0}
    results = {result: driver.scraped(result) for result in ("events", "busy", "empty")}
    assert results == {"events": 6, "busy": 1, "empty": 1}


# ---- the timeout header ----------------------------------------------------------------------


def test_a_scraper_with_the_timeout_header_is_remembered(driver: DeliveryDriver) -> None:
    """A person's curl under the same identity would take its events, also after a restart."""
    delivery = with_events(driver, timed=True)
    assert not driver.delivery.timed_before("ann"), "it has not arrived"
    driver.disk.full = True
    delivery.delivered()
    delivery.final()
    driver.quiet()
    driver.delivery.learn(driver.stats())
    assert driver.delivery.timed_before("ann"), "forgotten while the disk is full"
    driver.disk.full = False
    driver.pass_time(1)
    driver.take("bob")
    assert not driver.delivery.timed_before("bob")
    driver.restart()
    assert driver.delivery.timed_before("ann") and not driver.delivery.timed_before("bob")


def test_removed_scrapers_are_forgotten(driver: DeliveryDriver) -> None:
    """Clients with ever new names would fill the memory."""
    driver.take("ann", timed=True)
    assert driver.delivery.timed_before("ann")
    driver.pass_time(2e6)
    driver.pump.get(driver.real.prune())
    driver.delivery.learn(driver.stats())
    assert not driver.delivery.timed_before("ann")


# ---- shutdown --------------------------------------------------------------------------------


def test_drain_waits_for_every_delivery_to_end_and_to_be_on_disk(driver: DeliveryDriver) -> None:
    """At SIGTERM a delivery that has just arrived would go out again after the restart."""
    assert driver.delivery.drain().called
    delivery = with_events(driver)
    ended: list[None] = []
    driver.delivery.drain().addCallback(ended.append)
    assert driver.delivery.unsettled() == ["ann"]
    delivery.delivered()
    assert driver.delivery.unsettled() == ["ann"]
    driver.quiet()
    assert driver.delivery.unsettled() == [] and not ended, "it can still be revoked"
    delivery.final()
    assert ended
    driver.restart()
    assert driver.take() == Counter()


def test_drain_waits_for_a_reservation_whose_client_has_gone(driver: DeliveryDriver) -> None:
    """At SIGTERM the reservation would be handed back to a closed store, again and again."""
    driver.take()
    driver.append("a")
    driver.store.silent = {"reserve"}
    asked = driver.ask()
    answers_of(asked)
    asked.cancel()
    ended: list[None] = []
    driver.delivery.drain().addCallback(ended.append)
    driver.quiet()
    assert not ended
    driver.store.resume()
    driver.quiet()
    assert ended
    driver.restart()
    assert driver.take() == Counter(a=1)


def test_a_delivery_may_end_after_the_store_is_closed(driver: DeliveryDriver) -> None:
    """An acknowledgement during the shutdown would end it with a traceback."""
    delivery = with_events(driver)
    driver.pump.get(driver.real.close())
    with logged() as events:
        delivery.delivered()
        delivery.revoked()
        answers = answers_of(driver.ask())
        driver.clock.advance(MAX_STORE_WAIT)
    assert len(answers) == 1
    assert not any(event.get("log_failure") for event in events)
