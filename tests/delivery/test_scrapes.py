"""The way out: each event once to each scraper, and what is counted of it."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import Rig, came, events_in, parsed, sums, with_events
from support.fake_store import logged

from oneshotd.core.identity import MAX_SCRAPERS, Visit
from oneshotd.core.sampling.plan import Caps
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import MAX_STORE_WAIT


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "store")
    yield made
    made.stop()


# ---- what comes ------------------------------------------------------------------------------


def test_each_scraper_gets_each_event_once(rig: Rig) -> None:
    """An event would be missing on one dashboard, or counted twice on another."""
    rig.append("a", "b", "a", ("v", "3"))
    assert rig.take("ann") == Counter(a=2, b=1, v=3)
    rig.append("a", "c")
    assert rig.take("ann") == Counter(a=1, c=1)
    assert rig.take("bob") == Counter(a=3, b=1, c=1, v=3)
    assert rig.take("ann") == rig.take("bob") == Counter()
    rig.restart()
    assert rig.take("ann") == rig.take("bob") == Counter()


def test_values_of_one_series_come_one_by_one_in_order(rig: Rig) -> None:
    """Measurements would overwrite each other, or change places."""
    rig.append(*(("v", str(number)) for number in range(1, 6)), "w")
    seen = []
    for _ in range(5):
        shipment = rig.scrape()
        seen += [sample.value for sample in events_in(shipment.body) if sample.name == "v"]
        shipment.delivered()
        shipment.final()
        rig.quiet()
    assert seen == [1, 2, 3, 4, 5]
    assert rig.take() == Counter()


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 20, 200])
def test_a_limit_holds_for_the_whole_response_and_still_all_comes(rig: Rig, limit: int) -> None:
    """Prometheus would discard the whole scrape over its `sample_limit`, or starve below it."""
    rig.take()
    sent = Counter({f"s{number}": 3 for number in range(40)}) + Counter(v=6)
    for number in range(40):
        rig.append(*[f"s{number}"] * 3)
    rig.append(("v", "1"), ("v", "2"), ("v", "3"))
    got: Counter[str] = Counter()
    while sum(got.values()) < sum(sent.values()):
        shipment = rig.scrape(limit=limit)
        assert len(parsed(shipment.body)) <= limit
        assert len(events_in(shipment.body)) >= 1, "no progress"
        got += sums(shipment.body)
        shipment.delivered()
        shipment.final()
        rig.quiet()
    assert got == sent
    rest = parsed(rig.scrape(limit=limit).body)
    assert 1 <= len(rest) <= limit, "a response is never empty"


def test_with_a_limit_one_series_does_not_keep_the_others_back(rig: Rig) -> None:
    """A job that reports many values at once would hide everybody else's events for hours."""
    rig.take()
    rig.append(*(("v", "1") for _ in range(300)))
    rig.take(limit=2)
    rig.append("other")
    assert rig.take(limit=5)["other"] == 1


def test_a_response_is_bounded_and_the_rest_follows(tmp_path: Path) -> None:
    """After a long pause a scraper would get more than it can take, and discard it."""
    rig = Rig(tmp_path / "store", Caps(samples=3, bytes=1000, owed=2))
    rig.append("a", "b", "c", "d", "e", "f")
    rig.append(*(("v", str(number)) for number in range(1, 7)))
    first = rig.scrape()
    assert [sample.name for sample in events_in(first.body)] == ["a", "b", "c"]
    first.delivered()
    first.final()
    assert rig.take_all() == Counter(d=1, e=1, f=1, v=21)
    assert rig.take_all("bob") == Counter(a=1, b=1, c=1, d=1, e=1, f=1, v=21)
    rig.stop()


def test_a_look_shows_what_would_come_and_moves_nothing(rig: Rig) -> None:
    """Whoever clicks the scrape URL would take the scraper's events."""
    rig.append("a")
    assert sums(rig.look()) == sums(rig.look("stranger")) == Counter(a=1)
    assert rig.census().scrapers == ()
    assert rig.take() == Counter(a=1)
    assert sums(rig.look()) == Counter()
    assert rig.scraped("look") == 3


def test_beyond_the_most_scrapers_one_gets_the_own_metrics_only(rig: Rig) -> None:
    """Clients that invent names would fill the memory; or it would look like a scrape without news."""
    for number in range(MAX_SCRAPERS):
        rig.pump.get(rig.real.reserve(Visit(name=f"s{number}", named=True), 1.0, 1))
    rig.append("a")
    shipment = rig.scrape("one-more")
    assert events_in(shipment.body) == [] and parsed(shipment.body)
    assert not shipment.awaits_receipt
    assert rig.scraped("too_many") == 1


# ---- one delivery at a time ------------------------------------------------------------------


def test_while_a_delivery_is_on_its_way_the_next_scrape_gets_no_events(rig: Rig) -> None:
    """Events would arrive twice when a scraper scrapes again before the first answer is there."""
    shipment = with_events(rig)
    rig.append("b")
    assert sums(rig.scrape().body) == Counter()
    shipment.delivered()
    rig.quiet()
    assert sums(rig.scrape().body) == Counter(), "it can still be revoked"
    assert rig.scraped("busy") == 2
    assert rig.take("bob") == Counter(a=1, b=1), "nobody else has to wait"
    shipment.final()
    assert rig.take() == Counter(b=1)


def test_two_that_scrape_under_one_name_are_noticed(rig: Rig) -> None:
    """Each of two servers would get a part of the events, and nobody know why."""
    now = rig.clock.seconds
    for times in range(3):
        assert not rig.telemetry.tally("ann").is_shared(now())
        rig.append("a")
        shipment = rig.scrape()
        shipment.delivered()
        rig.quiet()
        rig.scrape()
        shipment.final()
        rig.quiet()
        assert len(rig.telemetry.tally("ann").overlaps) == times + 1
    assert rig.telemetry.tally("ann").is_shared(now())
    assert not rig.telemetry.tally("ann").is_shared(now() + 600)


def test_a_scrape_right_after_the_last_one_waits_for_its_settlement(rig: Rig) -> None:
    """On a slow disk every second scrape would come back without events."""
    shipment = with_events(rig)
    rig.append("b")
    rig.store.silent.add("settle")
    shipment.delivered()
    shipment.final()
    answers = came(rig.ask())
    rig.quiet()
    assert answers == [] and "reserve" not in rig.store.calls[3:]
    rig.store.resume()
    rig.quiet()
    [answer] = answers
    assert isinstance(answer, InFlightDelivery) and sums(answer.body) == Counter(b=1)


def test_a_scrape_right_after_an_empty_one_is_not_busy(rig: Rig) -> None:
    """`curl` twice in a row would show events only with the third."""
    rig.store.silent.add("settle")
    assert rig.take("a visitor") == Counter()
    answers = came(rig.ask("a visitor"))
    rig.store.resume()
    rig.append("a")
    rig.quiet()
    assert rig.scraped("busy") == 0
    assert len(answers) == 1


def test_what_did_not_arrive_comes_again(rig: Rig) -> None:
    """A scraper that was restarted while it read would miss those events."""
    with_events(rig, "a", "b").returned(uncertain=False)
    assert rig.take() == Counter(a=1, b=1)
    with_events(rig, "c").returned(uncertain=True)
    assert rig.take() == Counter(c=1)


def test_what_was_thrown_away_unread_comes_again(rig: Rig) -> None:
    """A scraper that resets the connection with the answer unread would miss those events."""
    rig.append(("v", "1"), ("v", "2"), "a")
    rig.take("bob")
    for _ in range(2):
        shipment = rig.scrape()
        assert sums(shipment.body) == Counter(v=1, a=1)
        shipment.delivered()
        rig.quiet()
        shipment.revoked()
    assert rig.take() == Counter(v=1, a=1)
    assert rig.take() == Counter(v=2)
    assert rig.take("bob") == Counter(v=2)


def test_a_revocation_waits_for_the_settlement(rig: Rig) -> None:
    """Overtaking it, it would undo nothing, and the events would be lost."""
    shipment = with_events(rig)
    rig.store.silent.add("settle")
    shipment.delivered()
    shipment.revoked()
    rig.quiet()
    assert "revoke" not in rig.store.calls
    rig.store.resume()
    rig.quiet()
    assert rig.store.calls.count("revoke") == 1
    assert rig.take() == Counter(a=1)


def test_after_its_end_a_response_takes_no_memory(rig: Rig) -> None:
    """200 scrapers with 8 MiB each would be kept until they come again."""
    for end in ("final", "revoked", "returned"):
        shipment = with_events(rig)
        if end == "returned":
            shipment.returned(uncertain=False)
        else:
            shipment.delivered()
            rig.quiet()
            getattr(shipment, end)()
        gone = weakref.ref(shipment)
        del shipment
        rig.quiet()
        gc.collect()
        assert gone() is None, end
        rig.take()


# ---- what is counted -------------------------------------------------------------------------


def test_what_becomes_of_deliveries_is_counted(rig: Rig) -> None:
    """An operator could not tell a scraper that works from one that throws everything away."""
    rig.append("a", "a", ("v", "1"), ("v", "2"), ("v", "3"))
    rig.scrape().returned(uncertain=False)
    rig.quiet()
    rig.scrape().returned(uncertain=True)
    rig.quiet()
    shipment = rig.scrape()
    shipment.delivered()
    rig.quiet()
    shipment.revoked()
    rig.quiet()
    rig.time.advance(20)
    rig.take()
    assert rig.figures("oneshotd_scraper_queueing_series") == {"ann": 1}
    shipment = rig.scrape()
    assert rig.scrape().awaits_receipt is False
    assert rig.figures("oneshotd_scraper_queueing_series") == {"ann": 1}, "a busy answer says nothing of it"
    assert rig.figures("oneshotd_scraper_returned_events_total") == {"ann": 6}
    assert rig.figures("oneshotd_scraper_uncertain_events_total") == {"ann": 3}
    assert rig.figures("oneshotd_scraper_revoked_events_total") == {"ann": 3}
    assert rig.figures("oneshotd_scraper_delivered_events_total") == {"ann": 6}
    assert rig.figures("oneshotd_delivery_seconds_count") == {"": 6}
    # A further event of a series in the same moment is accepted a millisecond later.
    assert rig.figures("oneshotd_delivery_seconds_sum")[""] == pytest.approx(60, abs=0.01)
    shipment.delivered()
    shipment.final()
    rig.take()
    rig.take()
    assert rig.figures("oneshotd_scraper_queueing_series") == {"ann": 0}
    results = {result: rig.scraped(result) for result in ("events", "busy", "empty")}
    assert results == {"events": 6, "busy": 1, "empty": 1}


# ---- who has sent a timeout ------------------------------------------------------------------


def test_a_scraper_with_a_timeout_is_known_by_it(rig: Rig) -> None:
    """A person's curl under the same identity would take its events, also after a restart."""
    shipment = with_events(rig, timed=True)
    assert not rig.delivery.timed_before("ann"), "it has not arrived"
    rig.disk.full = True
    shipment.delivered()
    shipment.final()
    rig.quiet()
    rig.delivery.learn(rig.census())
    assert rig.delivery.timed_before("ann"), "forgotten while the disk is full"
    rig.disk.full = False
    rig.pass_time(1)
    rig.take("bob")
    assert not rig.delivery.timed_before("bob")
    rig.restart()
    assert rig.delivery.timed_before("ann") and not rig.delivery.timed_before("bob")


def test_who_is_retired_is_forgotten(rig: Rig) -> None:
    """Clients that come under ever new names would fill the memory."""
    rig.take("ann", timed=True)
    assert rig.delivery.timed_before("ann")
    rig.pass_time(2e6)
    rig.pump.get(rig.real.prune())
    rig.delivery.learn(rig.census())
    assert not rig.delivery.timed_before("ann")


# ---- the end ---------------------------------------------------------------------------------


def test_drain_waits_for_every_delivery_to_end_and_to_be_on_disk(rig: Rig) -> None:
    """At SIGTERM a delivery that has just arrived would come again after the restart."""
    assert rig.delivery.drain().called
    shipment = with_events(rig)
    ended: list[None] = []
    rig.delivery.drain().addCallback(ended.append)
    assert rig.delivery.unsettled() == ["ann"]
    shipment.delivered()
    assert rig.delivery.unsettled() == ["ann"]
    rig.quiet()
    assert rig.delivery.unsettled() == [] and not ended, "it can still be revoked"
    shipment.final()
    assert ended
    rig.restart()
    assert rig.take() == Counter()


def test_after_the_store_is_closed_nothing_breaks(rig: Rig) -> None:
    """A receipt that comes during the shutdown would end it with a traceback."""
    shipment = with_events(rig)
    rig.pump.get(rig.real.close())
    with logged() as events:
        shipment.delivered()
        shipment.revoked()
        answers = came(rig.ask())
        rig.clock.advance(MAX_STORE_WAIT)
    assert len(answers) == 1
    assert not any(event.get("log_failure") for event in events)
