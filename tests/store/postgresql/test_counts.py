"""The counts of each scraper, which all daemons of a database keep together."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.store_backends import LEASE, group
from support.store_pair import VISIT, Pair

from oneshotd.store.interface import IStore, Reservation, ScraperCounts, Sent, Settled


def reserved(pair: Pair, store: IStore, events: int) -> Reservation:
    """Store so many events, and reserve all that are pending."""
    pair.backend.get(store.append([group(*(f"s{number}" for number in range(events)))]))
    return pair.backend.get(store.reserve(VISIT, LEASE, 1000))


def settle(pair: Pair, store: IStore, got: Reservation, delivered: bool, **sent: Any) -> Settled:
    assert got.token is not None
    end = got.pending.end
    return pair.backend.get(store.settle(got.token, delivered, end, (), (), sent=Sent(**sent)))


def counts(pair: Pair, store: IStore) -> ScraperCounts:
    """The counts without the times, which other tests look at."""
    [status] = pair.backend.get(store.stats()).scrapers
    assert status.counts is not None
    return evolve(status.counts, interval=None, shared=False)


def test_both_daemons_show_what_either_has_counted(pair: Pair) -> None:
    """Behind a load balancer each counter would jump from scrape to scrape."""
    ann, bob, get = pair.ann, pair.bob, pair.backend.get
    first = reserved(pair, ann, 3)
    settle(pair, ann, first, False, events=3)
    again = get(bob.reserve(VISIT, LEASE, 1000))
    settle(pair, bob, again, False, events=3, uncertain=True)
    third = get(ann.reserve(VISIT, LEASE, 1000))
    assert third.token is not None
    settle(pair, ann, third, True, events=3, queueing=2)
    expected = ScraperCounts(delivered=3, returned=6, uncertain=3, queueing=2)
    assert counts(pair, ann) == counts(pair, bob) == expected
    get(bob.revoke(third.token, Sent(events=3, uncertain=True)))
    assert counts(pair, ann) == counts(pair, bob) == evolve(expected, revoked=3, uncertain=6)
    fourth = get(bob.reserve(VISIT, LEASE, 1000))
    settle(pair, bob, fourth, True, events=3)
    get(bob.revoke(fourth.token or 0))
    assert counts(pair, ann) == ScraperCounts(delivered=6, returned=6, revoked=6, uncertain=6)


def test_a_settlement_that_is_repeated_counts_once(pair: Pair) -> None:
    """After a connection that was lost at COMMIT the counts would be too high."""
    got = reserved(pair, pair.ann, 2)
    assert settle(pair, pair.ann, got, True, events=2) is Settled.SETTLED
    assert settle(pair, pair.ann, got, True, events=2) is Settled.ALREADY
    assert got.token is not None
    for store in (pair.ann, pair.bob):
        pair.backend.get(store.revoke(got.token))
        pair.backend.get(store.revoke(got.token))
    assert counts(pair, pair.bob) == ScraperCounts(delivered=2, revoked=2)


def test_a_delivery_that_was_overtaken_counts_for_nobody(pair: Pair) -> None:
    """An event would be counted as delivered by the daemon that came too late, and by the other."""
    late = reserved(pair, pair.ann, 1)
    pair.backend.time.advance(LEASE)
    second = reserved(pair, pair.bob, 1)
    assert settle(pair, pair.ann, late, True, events=1) is Settled.SUPERSEDED
    settle(pair, pair.bob, second, True, events=2)
    assert counts(pair, pair.ann) == ScraperCounts(delivered=2)


def test_the_interval_is_that_of_all_scrapes(pair: Pair) -> None:
    """With two daemons each would see every second scrape, and say that the interval is twice as long."""
    backend = pair.backend
    for number in range(9):
        pair.take((pair.ann, pair.bob)[number % 2])
        backend.time.advance(120 if number == 6 else 15)
    [status] = backend.get(pair.bob.stats()).scrapers
    assert status.counts is not None and status.counts.interval == pytest.approx(15, abs=0.5)


def test_a_scrape_that_waits_for_another_daemon_is_one_scrape(pair: Pair) -> None:
    """The interval would be that of its questions, and a person's request be taken for a scrape soon."""
    get, time = pair.backend.get, pair.backend.time
    for _ in range(5):
        got = reserved(pair, pair.ann, 1)
        settle(pair, pair.ann, got, True, events=1)
        time.advance(10)
        for pause in (0.03, 0.06, 0.12, 0.24, 0.48):
            assert get(pair.bob.reserve(VISIT, LEASE, 1000)).busy == "in flight"
            time.advance(pause)
        get(pair.ann.release(got.token or 0))
        pair.take(pair.bob)
        time.advance(10 - 0.93)
    assert pair.backend.status("p").counts.interval == pytest.approx(10)  # type: ignore[union-attr]


def test_two_scrapers_of_one_name_are_seen_whichever_daemon_they_reach(pair: Pair) -> None:
    """Each would get half of the events, and nobody would say why."""
    for _ in range(3):
        got = reserved(pair, pair.ann, 1)
        assert not pair.backend.status("p").counts.shared  # type: ignore[union-attr]
        pair.backend.get(pair.bob.reserve(VISIT, LEASE, 1000))
        settle(pair, pair.ann, got, True, events=1)
        pair.backend.get(pair.bob.reserve(VISIT, LEASE, 1000))
        pair.backend.get(pair.ann.release(got.token or 0))
    assert pair.backend.status("p").counts.shared  # type: ignore[union-attr]


def test_a_daemon_that_died_makes_no_scraper_look_shared(pair: Pair) -> None:
    """Each scrape of the same server until the lease lapses would count as another server's."""
    reserved(pair, pair.ann, 1)
    for _ in range(10):
        assert pair.backend.get(pair.bob.reserve(VISIT, LEASE, 1000)).busy == "in flight"
    assert not pair.backend.status("p").counts.shared  # type: ignore[union-attr]


def test_the_times_of_scrapes_do_not_pile_up(pair: Pair) -> None:
    """The row of a scraper would grow with every scrape."""
    for number in range(30):
        got = reserved(pair, pair.ann, 1)
        pair.backend.get(pair.bob.reserve(VISIT, LEASE, 1000))
        settle(pair, pair.ann, got, bool(number % 2), events=1)
        pair.backend.get(pair.ann.release(got.token or 0))
    with psycopg.connect(pair.backend.address) as connection:
        row = connection.execute(
            "SELECT cardinality(visit_ups), cardinality(overlap_ups) FROM scraper"
        ).fetchone()
    assert row == (6, 3)
