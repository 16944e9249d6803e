"""Two stores on one database: what one daemon must know of the other's deliveries to the same scraper."""

from __future__ import annotations

import pytest
from support.store_backends import LEASE, group, series_of
from support.store_pair import VISIT, Pair
from twisted.internet.defer import Deferred

from oneshotd.core.identity import Visit
from oneshotd.core.visits import LAPSE_INTERVALS, LAPSE_UNKNOWN
from oneshotd.store.interface import Reservation, Sent, Settled
from oneshotd.store.postgresql.presence import SILENT_AFTER
from oneshotd.store.postgresql.store import PostgreSQLStore

TIMED = Visit(name="p", named=True, timed=True)

SETTLED, SUPERSEDED = Settled.SETTLED, Settled.SUPERSEDED


class TestLateEnds:
    """A daemon that was away beyond its lease: what comes of its delivery is counted, not lost in silence."""

    def test_a_settlement_that_is_superseded_counts_its_events(self, pair: Pair) -> None:
        """Events that went out twice would be in no figure."""
        pair.backend.get(pair.ann.append([group("a", "b")]))
        late = pair.reserved(pair.ann)
        pair.backend.time.advance(LEASE)
        second = pair.reserved(pair.bob)
        sent = Sent(scraper="p", events=2, cursor=2)
        for _ in range(2):  # as after a connection that was lost
            assert pair.settle(pair.ann, late, sent=sent) is SUPERSEDED
        assert pair.settle(pair.bob, second, sent=sent) is SETTLED
        status = pair.backend.status("p")
        assert status.counts is not None
        assert (status.counts.delivered, status.counts.superseded) == (2, 2)
        assert (status.pending, status.lost) == (0, {})

    def test_a_late_return_takes_nothing_from_the_delivery_that_followed(self, pair: Pair) -> None:
        """Events would go out a third time."""
        pair.backend.get(pair.ann.append([group("a")]))
        late = pair.reserved(pair.ann)
        pair.backend.time.advance(LEASE)
        second = pair.reserved(pair.bob)
        assert pair.settle(pair.ann, late, False, Sent(scraper="p", events=1)) is SUPERSEDED
        assert pair.settle(pair.bob, second, sent=Sent(scraper="p", events=1)) is SETTLED
        pair.release(pair.bob, second)
        counts = pair.backend.status("p").counts
        assert counts is not None and (counts.delivered, counts.returned, counts.superseded) == (1, 0, 0)
        assert pair.take(pair.ann) == []

    def test_a_revocation_that_is_too_late_counts_its_events_as_lost_once(self, pair: Pair) -> None:
        """The scraper has not read them, and nothing would say so."""
        pair.backend.get(pair.ann.append([group("a", "b")]))
        first, sent = pair.reserved(pair.ann), Sent(scraper="p", events=2)
        assert pair.settle(pair.ann, first, sent=sent) is SETTLED
        pair.backend.time.advance(LEASE)
        pair.backend.get(pair.bob.append([group("c")]))
        second = pair.reserved(pair.bob)
        assert series_of(second) == ["c"]
        for _ in range(2):
            assert pair.revoke(pair.ann, first, sent) is SUPERSEDED
        assert pair.settle(pair.bob, second) is SETTLED
        assert pair.backend.stats().lost == {("p", "late"): 2}
        assert pair.backend.status("p").lost == {"late": 2}

    def test_a_late_revocation_of_a_scraper_that_is_gone_is_counted(self, pair: Pair) -> None:
        """Its events would be lost in silence."""
        pair.backend.get(pair.ann.append([group("a")]))
        first, sent = pair.reserved(pair.ann), Sent(scraper="p", events=1)
        assert pair.settle(pair.ann, first, sent=sent) is SETTLED
        pair.backend.time.advance(4000)
        pair.backend.get(pair.bob.prune())
        assert pair.backend.names() == set()
        assert pair.revoke(pair.ann, first, sent) is SUPERSEDED
        assert pair.backend.stats().lost == {("p", "late"): 1}

    @pytest.mark.parametrize("how", ["returned", "revoked"])
    def test_an_end_that_is_repeated_after_further_deliveries_was_done(self, pair: Pair, how: str) -> None:
        """A connection that is lost at its commit: the events of the other daemon's deliveries, which the
        scraper has got, would be counted as lost."""
        pair.backend.get(pair.ann.append([group("a", "b")]))
        first, sent = pair.reserved(pair.ann), Sent(scraper="p", events=2)

        def end() -> Settled:
            if how == "revoked":
                return pair.revoke(pair.ann, first, sent)
            return pair.settle(pair.ann, first, False, sent)

        if how == "revoked":
            assert pair.settle(pair.ann, first, sent=sent) is SETTLED
        assert end() is SETTLED
        assert pair.take(pair.bob) == ["a", "b"]
        for number in range(3):
            pair.backend.get(pair.bob.append([group(f"c{number}")]))
            assert pair.take(pair.bob) == [f"c{number}"]
        assert end() is Settled.ALREADY
        assert pair.backend.stats().lost == {}

    def test_a_revocation_before_the_next_delivery_undoes_it_however_late(self, pair: Pair) -> None:
        """A daemon that was stopped would lose what its scraper has not read."""
        pair.backend.get(pair.ann.append([group("a")]))
        first, sent = pair.reserved(pair.ann), Sent(scraper="p", events=1)
        assert pair.settle(pair.ann, first, sent=sent) is SETTLED
        pair.backend.time.advance(10 * LEASE)
        assert pair.revoke(pair.ann, first, sent) is SETTLED
        assert pair.backend.stats().lost == {}
        assert pair.take(pair.bob) == ["a"]


class TestDoubt:
    """A settlement whose answer was lost is repeated, perhaps after other deliveries."""

    def repeat(self, pair: Pair, got: Reservation, sent: Sent) -> Settled:
        """Settle again what may be settled already."""
        store, token, end = pair.ann, got.token, got.pending.end
        assert isinstance(store, PostgreSQLStore) and token is not None
        settle = store._deliveries.settle
        done: Deferred[Settled] = store._others.submit(
            lambda link, _: settle(link, True, token, True, end, (), (), None, {}, sent)
        )
        return pair.backend.get(done)

    @pytest.mark.parametrize("how", ["taken", "pruned", "started again"])
    def test_what_was_settled_and_final_by_its_lease_is_no_repetition(self, pair: Pair, how: str) -> None:
        """Its events went out once, and would be reported as doubled."""
        pair.backend.get(pair.ann.append([group("a")]))
        got, sent = pair.reserved(pair.ann), Sent(scraper="p", events=1)
        assert pair.settle(pair.ann, got, sent=sent) is SETTLED
        if how == "started again":
            pair.backend.time.advance(SILENT_AFTER)
            pair.backend.opened_besides(pair.backend.another("ann"))
        else:
            pair.backend.time.advance(LEASE)
        if how == "pruned":
            pair.take(pair.bob, "q")
            pair.backend.time.advance(3500)
            pair.take(pair.bob, "q")
            pair.backend.time.advance(200)
            pair.take(pair.bob)
            pair.backend.get(pair.bob.prune())
        pair.backend.get(pair.bob.append([group("b")]))
        for _ in range(2):
            pair.take(pair.bob)
        assert self.repeat(pair, got, sent) is SETTLED
        counts = pair.backend.status("p").counts
        assert counts is not None and counts.superseded == 0
        assert pair.revoke(pair.ann, got, sent) is SUPERSEDED
        assert pair.backend.status("p").lost == {"late": 1}


class TestTimeoutHeader:
    """A person's curl must not take the events of a scraper that another daemon serves."""

    def ask(self, pair: Pair, visit: Visit) -> str | None:
        """Scrape at the second daemon; return why there are no events."""
        return pair.backend.get(pair.bob.reserve(visit, LEASE, 10)).busy

    def deliver(self, pair: Pair, visit: Visit = TIMED) -> None:
        """A delivery by the first daemon."""
        got = pair.reserved(pair.ann, visit)
        assert pair.settle(pair.ann, got) is SETTLED
        pair.release(pair.ann, got)

    def test_the_first_delivery_with_the_header_is_known_at_once(self, pair: Pair) -> None:
        self.deliver(pair)
        assert self.ask(pair, VISIT) == "look"
        assert self.ask(pair, TIMED) is None

    def test_a_delivery_in_flight_makes_no_difference(self, pair: Pair) -> None:
        self.deliver(pair)
        pair.reserved(pair.ann, TIMED)
        assert self.ask(pair, VISIT) == "look"
        assert self.ask(pair, TIMED) == "in flight"

    def test_a_look_leaves_nothing_behind(self, pair: Pair) -> None:
        self.deliver(pair)
        before = pair.backend.status("p")
        assert self.ask(pair, VISIT) == "look"
        assert pair.backend.status("p") == before

    @pytest.mark.parametrize(("scrapes", "lasts"), [(1, LAPSE_UNKNOWN), (5, LAPSE_INTERVALS * 100)])
    def test_the_habit_lapses(self, pair: Pair, scrapes: int, lasts: float) -> None:
        """A scraper whose requests lose the header for good would get only looks."""
        for number in range(scrapes):
            pair.backend.time.advance(100 if number else 0)
            self.deliver(pair)
        pair.backend.time.advance(lasts - 1)
        assert self.ask(pair, VISIT) == "look"
        pair.backend.time.advance(1)
        assert self.ask(pair, VISIT) is None

    def test_a_delivery_without_the_header_ends_it(self, pair: Pair) -> None:
        self.deliver(pair)
        pair.backend.time.advance(LAPSE_UNKNOWN)
        self.deliver(pair, VISIT)
        self.deliver(pair, VISIT)
        assert self.ask(pair, VISIT) is None


class TestShownCounts:
    """A count that came back must not go out with further events by another daemon: 2, then 3 are 5."""

    SENT = Sent(scraper="p", events=2, cursor=2, counted=True)

    @pytest.mark.parametrize("how", ["returned", "revoked"])
    def test_the_next_response_has_the_same_events(self, pair: Pair, how: str) -> None:
        pair.backend.get(pair.ann.append([group("a", "a")]))
        got = pair.reserved(pair.ann)
        if how == "returned":
            assert pair.settle(pair.ann, got, False, self.SENT) is SETTLED
        else:
            assert pair.settle(pair.ann, got, sent=self.SENT) is SETTLED
            assert pair.revoke(pair.ann, got, self.SENT) is SETTLED
        pair.backend.get(pair.bob.append([group("a", "b")]))
        again = pair.reserved(pair.bob)
        assert list(again.pending.seqs) == [1, 2] and again.remaining == 2
        assert pair.settle(pair.bob, again, False, self.SENT) is SETTLED
        again = pair.reserved(pair.ann)
        assert list(again.pending.seqs) == [1, 2]
        assert pair.settle(pair.ann, again, sent=self.SENT) is SETTLED
        pair.release(pair.ann, again)
        assert list(pair.reserved(pair.bob).pending.seqs) == [3, 4]

    def test_a_part_of_them_first(self, pair: Pair) -> None:
        """A smaller response after one that did not arrive."""
        get = pair.backend.get
        get(pair.ann.append([group("a", "a", "a")]))
        got = pair.reserved(pair.ann)
        assert pair.settle(pair.ann, got, False, Sent(scraper="p", events=3, cursor=3, counted=True))
        get(pair.ann.append([group("a")]))
        part = get(pair.bob.reserve(VISIT, LEASE, 2))
        assert list(part.pending.seqs) == [1, 2]
        assert pair.settle(pair.bob, part, sent=self.SENT) is SETTLED
        pair.release(pair.bob, part)
        assert list(pair.reserved(pair.ann).pending.seqs) == [3]

    def test_without_counts_it_reads_on(self, pair: Pair) -> None:
        """Every response that does not arrive would delay what came later by a scrape."""
        pair.backend.get(pair.ann.append([group("a")]))
        assert pair.settle(pair.ann, pair.reserved(pair.ann), False, Sent(scraper="p", events=1, cursor=1))
        pair.backend.get(pair.ann.append([group("b")]))
        assert list(pair.reserved(pair.bob).pending.seqs) == [1, 2]
