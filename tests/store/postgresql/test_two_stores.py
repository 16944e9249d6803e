"""Contract of a store that several daemons share: two of them, open at once."""

from __future__ import annotations

import pytest
from support.store_backends import LEASE, group, keyed, series_of
from support.store_pair import VISIT, Pair

from oneshotd.core.identity import Visit
from oneshotd.store.interface import Conflict, Holder, Settled, Stored
from oneshotd.store.postgresql.presence import SILENT_AFTER

#: The server at hand, and both versions of Debian's.
pytestmark = pytest.mark.parametrize(
    "server",
    [None, pytest.param(15, marks=pytest.mark.e2e), pytest.param(17, marks=pytest.mark.e2e)],
    indirect=True,
    scope="session",
)


class TestTwoStores:
    """Any emitter may reach any daemon, any scraper too, and the promise is the same."""

    def test_what_one_stores_the_other_delivers_once(self, pair: Pair) -> None:
        """A load balancer would lose or double events."""
        got, sent = [], []
        for number in range(20):
            stores = (pair.ann, pair.bob)
            sent.append(f"s{number}")
            pair.backend.get(stores[number % 2].append([group(f"s{number}")]))
            if number % 3 == 2:
                got += pair.take(stores[number // 3 % 2])
        got += pair.take(pair.ann) + pair.take(pair.bob)
        assert got == sent

    def test_seqs_have_no_gap_and_a_series_no_time_twice(self, pair: Pair) -> None:
        """A reader would skip an event, or a scraper drop a sample, while the clock stands still."""
        asked = [
            store.append([group(*["a"] * (1 + number % 3), f"b{number}")])
            for number in range(20)
            for store in (pair.ann, pair.bob)
        ]
        for deferred in asked:
            pair.backend.get(deferred)
        events = pair.backend.events()
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        times = [event.at for event in events if event.series == "a"]
        assert times == sorted(set(times))

    def test_a_key_at_both_at_the_same_time_is_stored_once(self, pair: Pair) -> None:
        """A client that tries the second address with the same key would double its events."""
        for number in range(10):
            asked = [store.append([group("a", "b", key=f"k{number}")]) for store in (pair.ann, pair.bob)]
            answers = [pair.backend.get(deferred)[0] for deferred in asked]
            assert all(isinstance(answer, Stored) for answer in answers)
            assert {(answer.stored, answer.first) for answer in answers} == {(2, 2 * number + 1)}  # type: ignore[union-attr]
            assert sorted(answer.again for answer in answers) == [False, True]  # type: ignore[union-attr]
        assert pair.backend.logged() == ["a", "b"] * 10

    def test_a_keys_conflict_is_seen_by_the_other(self, pair: Pair) -> None:
        """Other content under the same key would be answered as if it had been stored."""
        pair.backend.get(pair.ann.append([keyed(("k", "a"))]))
        assert pair.backend.get(pair.bob.append([keyed(("k", "b"))])) == [Conflict(key="k")]

    def test_one_delivery_at_a_time_whichever_is_asked(self, pair: Pair) -> None:
        """A scraper that changes daemons would get its events twice."""
        get = pair.backend.get
        get(pair.ann.append([group("a")]))
        for name in ("p", "q", "r"):
            visit = Visit(name=name, named=True)
            asked = [store.reserve(visit, LEASE, 10) for store in (pair.ann, pair.bob)]
            assert sorted(str(get(deferred).busy) for deferred in asked) == ["None", "in flight"]

    def test_a_busy_answer_says_where_the_delivery_is(self, pair: Pair) -> None:
        """A scrape would wait for a daemon that is gone, or not wait for one that is about to be done."""
        get, time = pair.backend.get, pair.backend.time
        get(pair.ann.reserve(VISIT, 3600.0, 10))
        pair.beat(pair.ann)
        assert get(pair.ann.reserve(VISIT, LEASE, 10)).holder is Holder.HERE
        assert get(pair.bob.reserve(VISIT, LEASE, 10)).holder is Holder.ELSEWHERE
        pair.backend.kill(pair.ann)
        time.advance(SILENT_AFTER)
        assert get(pair.bob.reserve(VISIT, LEASE, 10)).holder is Holder.SILENT

    def test_a_delivery_that_was_overtaken_cannot_be_settled(self, pair: Pair) -> None:
        """A daemon that was stopped beyond its lease would move the cursor of another one's delivery."""
        get, time = pair.backend.get, pair.backend.time
        get(pair.ann.append([group("a")]))
        late = get(pair.ann.reserve(VISIT, LEASE, 10))
        time.advance(LEASE)
        get(pair.bob.append([group("b")]))
        second = get(pair.bob.reserve(VISIT, LEASE, 10))
        assert series_of(second) == ["a", "b"] and late.token is not None and second.token is not None
        assert get(pair.ann.settle(late.token, True, 1, (), ())) is Settled.SUPERSEDED
        assert get(pair.ann.revoke(late.token)) is Settled.SUPERSEDED
        assert get(pair.bob.settle(second.token, True, 2, (), ())) is Settled.SETTLED
        get(pair.bob.release(second.token))
        assert pair.take(pair.ann) == []

    def test_the_other_one_can_revoke_and_settle(self, pair: Pair) -> None:
        """The next scrape, which tells what became of the last one, may reach another daemon."""
        get = pair.backend.get
        get(pair.ann.append([group(("q", "1"), ("q", "2"), "a")]))
        got = get(pair.ann.reserve(VISIT, LEASE, 10))
        assert got.token is not None
        assert get(pair.bob.settle(got.token, True, 3, [2], ())) is Settled.SETTLED
        assert get(pair.bob.revoke(got.token)) is Settled.SETTLED
        assert get(pair.ann.revoke(got.token)) is Settled.ALREADY
        again = get(pair.bob.reserve(VISIT, LEASE, 10))
        assert again.pending == got.pending and again.token is not None
        assert get(pair.ann.settle(again.token, True, 3, [2], ())) is Settled.SETTLED
        get(pair.ann.release(again.token))
        rest = get(pair.bob.reserve(VISIT, LEASE, 10)).pending
        assert (list(rest.seqs), list(rest.values), rest.owed) == ([2], ["2"], 1)

    def test_a_daemon_that_died_holds_a_scraper_up_for_its_lease(self, pair: Pair) -> None:
        """The scraper would get nothing until somebody intervenes."""
        get, time = pair.backend.get, pair.backend.time
        get(pair.ann.append([group("a")]))
        get(pair.bob.reserve(VISIT, LEASE, 10))
        time.advance(LEASE - 1)
        assert get(pair.ann.reserve(VISIT, LEASE, 10)).busy == "in flight"
        time.advance(1)
        assert pair.take(pair.ann) == ["a"]

    @pytest.mark.parametrize("step", [-7200.0, 7200.0, -1.5])
    def test_a_step_of_the_databases_clock_freezes_no_lease(self, pair: Pair, step: float) -> None:
        """After a failover to a host whose clock differs, scrapers would wait for hours."""
        get, time = pair.backend.get, pair.backend.time
        get(pair.ann.append([group("a")]))
        get(pair.bob.reserve(VISIT, 30.0, 10))
        time.wall += step
        for waited in range(0, 42, 2):
            if get(pair.ann.reserve(VISIT, 30.0, 10)).busy is None:
                assert waited >= 24, "the lease ended before its time"
                return
            time.wall += 2.0  # only the wall clock: nobody writes the up-time but the stores
            get(pair.ann.check())
        raise AssertionError("the lease did not end")

    def test_a_scraper_that_both_see_for_the_first_time(self, pair: Pair) -> None:
        """It would be known twice, or get its first events twice."""
        get = pair.backend.get
        get(pair.ann.append([group("a")]))
        for number in range(10):
            visit = Visit(name=f"192.0.2.7 new{number}")
            asked = [store.reserve(visit, LEASE, 10) for store in (pair.ann, pair.bob)]
            assert sorted(series_of(get(deferred)) for deferred in asked) == [[], ["a"]]
        assert len(pair.backend.names()) == 10

    def test_upkeep_by_both_reports_a_loss_once(self, pair: Pair) -> None:
        """The operator would count a loss twice, or never hear of it."""
        get, time = pair.backend.get, pair.backend.time
        get(pair.ann.reserve(VISIT, LEASE, 10))
        get(pair.ann.append([group("a", "b")]))
        time.advance(3700)
        asked = [store.prune() for store in (pair.ann, pair.bob)]
        losses = [loss for deferred in asked for loss in get(deferred)]
        assert [(loss.scraper, loss.events) for loss in losses] == [("p", 2)]
        assert pair.backend.census().lost == {("p", "away"): 2}
