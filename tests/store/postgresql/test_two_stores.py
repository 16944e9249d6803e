"""Contract of a store that several daemons share: two of them, open at once."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from store.contract_details import TEXT, shown
from store.contract_states import about, count, end, start, values
from support.processes import until
from support.store_backends import LEASE, group, keyed, series_of
from support.store_pair import VISIT, Pair

from oneshotd.core.events import Group, NewEvent
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
        assert pair.backend.stats().lost == {("p", "away"): 2}


class TestDetailsAndStatesOfTwoStores:
    """A sender may reach another daemon with each of its messages."""

    def test_an_end_at_the_other_one_finds_the_start(self, pair: Pair) -> None:
        """A job would have no duration whenever the load balancer has chosen the other daemon."""
        get, time = pair.backend.get, pair.backend.time
        get(pair.ann.append([start()]))
        time.advance(7)
        get(pair.bob.append([end()]))
        get(pair.ann.append([end()]))
        assert values(pair.backend) == [about(7), -1]

    def test_a_start_and_an_end_at_once_are_paired_once(self, pair: Pair) -> None:
        """Both ends would have the duration, or neither."""
        get = pair.backend.get
        for number in range(20):
            state = f"s{number}"
            asked = [pair.ann.append([start(state)]), pair.bob.append([end(state)])]
            for deferred in asked:
                get(deferred)
            get(pair.ann.append([end(state)]))
        ends = values(pair.backend)
        assert len(ends) == 40
        for first, second in zip(ends[::2], ends[1::2], strict=True):
            assert sorted((first, second)) == [-1, about(0)]

    def test_a_count_at_both_at_once_is_counted_once(self, pair: Pair) -> None:
        """Occurrences would be doubled by the second copy of a sender, or lost."""
        get = pair.backend.get
        get(pair.ann.append([count(1)]))
        for number in range(2, 42, 2):
            asked = [
                store.append([count(grown)])
                for store in (pair.ann, pair.bob)
                for grown in (number, number + 1)
            ]
            for deferred in asked:
                get(deferred)
        assert pair.backend.logged() == ["counted"] * (2 + 40)

    def test_ends_at_both_at_once_are_paired_with_one_start(self, pair: Pair) -> None:
        """A duration would be counted twice."""
        get = pair.backend.get
        for number in range(10):
            state = f"s{number}"
            get(pair.ann.append([start(state)]))
            for deferred in [store.append([end(state)]) for store in (pair.ann, pair.bob)]:
                get(deferred)
        ends = values(pair.backend)
        assert [sorted(each) for each in zip(ends[::2], ends[1::2], strict=True)] == [[-1, about(0)]] * 10

    def test_states_in_another_order_do_not_wait_in_a_circle(self, pair: Pair) -> None:
        """Messages would be refused after a second, under load."""
        names = [f"s{number}" for number in range(30)]
        asked = []
        for _ in range(5):
            asked.append(pair.ann.append([start(name, key=f"a{name}") for name in names]))
            asked.append(pair.bob.append([count(3, name, key=f"b{name}") for name in reversed(names)]))
        for deferred in asked:
            pair.backend.get(deferred)

    @pytest.mark.parametrize(
        ("begun", "outcome", "expected"),
        [
            ("INSERT INTO keyed_state VALUES ('s', {ms}, 1000000000)", "COMMIT", 3),
            ("INSERT INTO keyed_state VALUES ('s', {ms}, 1000000000)", "ROLLBACK", -1),
            ("UPDATE keyed_state SET value = {ms}", "COMMIT", 3),
            ("UPDATE keyed_state SET value = {ms}", "ROLLBACK", 10),
            ("UPDATE keyed_state SET value = {ms}, until_up = 0", "COMMIT", -1),
            ("DELETE FROM keyed_state", "COMMIT", -1),
            ("DELETE FROM keyed_state", "ROLLBACK", 10),
        ],
    )
    def test_an_end_waits_for_the_outcome_of_another_append(
        self, pair: Pair, begun: str, outcome: str, expected: float
    ) -> None:
        """The value would rest on a start that is not stored, or that has just been paired."""
        backend = pair.backend
        if not begun.startswith("INSERT"):
            backend.get(pair.ann.append([start()]))
        backend.time.advance(10)
        ms = int(backend.time.wall * 1000) - 3000
        with psycopg.connect(backend.address) as other, psycopg.connect(backend.address) as beside:
            beside.autocommit = True
            other.execute(begun.format(ms=ms).encode())
            asked = pair.bob.append([end()])
            until(_somebody_waits(beside), 20, "the append waits")
            other.execute(outcome.encode())
            backend.get(asked)
            assert values(backend) == [about(expected)]
            assert beside.execute("SELECT count(*) FROM keyed_state").fetchone() == (0,)

    def test_details_are_those_of_their_events(self, pair: Pair) -> None:
        """A link would lead to another event."""
        stores = (pair.ann, pair.bob)
        asked = [
            store.append([Group(events=[NewEvent(name), NewEvent(name, None, None, f'{{"text":"{name}"}}')])])
            for number in range(20)
            for store, name in zip(stores, (f"a{number}", f"b{number}"), strict=True)
        ]
        for deferred in asked:
            pair.backend.get(deferred)
        texts = shown(pair.backend)
        events = pair.backend.events()
        assert len(texts) == 40
        assert all(texts.get(event.seq, "") in ("", f'{{"text":"{event.series}"}}') for event in events)

    def test_one_reads_what_the_other_has_written(self, pair: Pair) -> None:
        """The page would show other details at each daemon."""
        pair.backend.get(pair.bob.append([Group(events=[NewEvent("a", None, None, TEXT)])]))
        assert shown(pair.backend) == {1: TEXT}


def _somebody_waits(connection: psycopg.Connection[tuple[int]]) -> Callable[[], bool]:
    return lambda: connection.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None
