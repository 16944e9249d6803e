"""Daemons' names: after a crash a daemon ends its own leases, and never those of a daemon that is alive."""

from __future__ import annotations

from support.fake_store import logged
from support.store_backends import LEASE, group, series_of
from support.store_pair import VISIT, Pair

from oneshotd.core.identity import Visit
from oneshotd.store.interface import IStore, Sent, Settled
from oneshotd.store.postgresql.presence import SILENT_AFTER

OTHER = Visit(name="q", named=True)


def start_again(pair: Pair, name: str = "ann") -> IStore:
    """Open a further store under a name."""
    pair.backend.opened_besides(again := pair.backend.another(name))
    return again


def is_free(pair: Pair, store: IStore) -> bool:
    return pair.backend.get(store.reserve(VISIT, LEASE, 10)).busy is None


def test_a_daemon_that_starts_again_ends_its_own_leases_only(pair: Pair) -> None:
    """After a restart a scraper would wait, or lose what another daemon is delivering."""
    get = pair.backend.get
    get(pair.ann.append([group("a")]))
    pair.reserved(pair.ann)
    pair.reserved(pair.bob, OTHER)
    pair.backend.kill(pair.ann)
    pair.backend.time.advance(SILENT_AFTER)
    pair.beat(pair.bob)
    again = start_again(pair)
    assert pair.take(again) == ["a"]
    assert get(again.reserve(OTHER, LEASE, 10)).busy == "in flight"


def test_it_waits_until_the_earlier_one_is_silent(pair: Pair) -> None:
    """A daemon that was just heard of may be alive, so that its events would go out twice."""
    pair.reserved(pair.ann)
    pair.beat(pair.ann)
    pair.backend.kill(pair.ann)
    again = start_again(pair)
    pair.backend.time.advance(SILENT_AFTER - 1)
    pair.beat(again)
    assert not is_free(pair, again)
    pair.backend.time.advance(1)
    with logged() as events:
        pair.beat(again)
    assert is_free(pair, again)
    assert [event["count"] for event in events if "had left behind" in event["log_format"]] == [1]


def test_a_stop_in_good_order_leaves_nothing_behind(pair: Pair) -> None:
    """After each upgrade of a daemon its scrapers would wait."""
    pair.reserved(pair.ann)
    pair.beat(pair.ann)
    pair.backend.get(pair.ann.close())
    assert is_free(pair, pair.bob)


def test_two_daemons_with_one_name_leave_each_other_alone(pair: Pair) -> None:
    """By a mistake in a copied configuration, events would go out twice, or be lost."""
    pair.reserved(pair.ann)
    with logged() as events:
        again = start_again(pair)
        for _ in range(20):
            pair.backend.time.advance(2)
            pair.beat(pair.ann, again)
    assert [event["name"] for event in events if event["log_level"].name == "warn"] == ["ann"]
    pair.backend.kill(pair.ann)
    pair.backend.time.advance(SILENT_AFTER)
    pair.beat(again)
    assert not is_free(pair, again), "it is another daemon, whose leases lapse"


def test_the_last_words_of_a_session_are_no_sign_of_life(pair: Pair) -> None:
    """A heartbeat that was under way when the daemon died would keep its scrapers waiting."""
    pair.reserved(pair.ann)
    again = start_again(pair)
    pair.backend.time.advance(2)
    pair.beat(pair.ann, again)
    pair.backend.kill(pair.ann)
    pair.backend.time.advance(SILENT_AFTER)
    pair.beat(again)
    assert is_free(pair, again)


def test_what_was_ended_so_cannot_be_settled(pair: Pair) -> None:
    """A daemon that was only stopped would settle, and its events go out twice without being counted."""
    pair.backend.get(pair.ann.append([group("a")]))
    got = pair.reserved(pair.ann)
    pair.backend.time.advance(SILENT_AFTER)
    again = start_again(pair)
    assert pair.settle(pair.ann, got, sent=Sent(scraper="p", events=1)) is Settled.SUPERSEDED
    second = pair.reserved(again)
    assert series_of(second) == ["a"]
    counts = pair.backend.status("p").counts
    assert counts is not None and counts.superseded == 1


def test_what_was_delivered_stays_delivered(pair: Pair) -> None:
    """A response of the daemon before the crash would go out again."""
    pair.backend.get(pair.ann.append([group(("q", "1"), ("q", "2"))]))
    got = pair.reserved(pair.ann)
    assert got.token is not None
    assert pair.backend.get(pair.ann.settle(got.token, True, 2, [2], ())) is Settled.SETTLED
    pair.backend.time.advance(SILENT_AFTER)
    again = start_again(pair)
    assert list(pair.reserved(again).pending.values) == ["2"]
    assert pair.revoke(pair.ann, got, Sent(scraper="p", events=1)) is Settled.SUPERSEDED
    assert pair.backend.stats().lost == {("p", "late"): 1}


def test_a_daemon_without_a_name_ends_nothing(pair: Pair) -> None:
    """All daemons without one would be one daemon."""
    stores = [pair.backend.another(None) for _ in range(2)]
    for store in stores:
        pair.backend.opened_besides(store)
    pair.reserved(stores[0])
    pair.backend.time.advance(SILENT_AFTER)
    pair.beat(stores[1])
    assert not is_free(pair, stores[1])
