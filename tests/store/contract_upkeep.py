"""Contract: what goes and when, and that whatever a live scraper missed is counted, once."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.store_backends import LEASE, Backend, series_of

from oneshotd.store.interface import Loss, Settled

HOLD = 3600.0

VISITOR = "192.0.2.7 curl"


class TestHold:
    """An event is kept for the hold of up-time, longer while somebody has it to come."""

    def test_everything_is_kept_for_the_hold_whoever_has_read_it(self, backend: Backend) -> None:
        backend.append("a")
        backend.take("p")
        backend.time.advance(HOLD - 0.125)
        backend.take("p")
        backend.prune()
        assert backend.logged() == ["a"]
        backend.time.advance(0.25)
        backend.prune()
        assert backend.logged() == []
        stats = backend.stats()
        assert (stats.events, stats.size, stats.head) == (0, 0, 1)

    def test_it_goes_oldest_first(self, backend: Backend) -> None:
        for series in "abc":
            backend.append(series)
            backend.time.advance(1000)
        backend.time.advance(HOLD - 2500)
        backend.prune()
        assert backend.logged() == ["b", "c"]
        size = backend.stats().size
        backend.restart()
        assert backend.logged() == ["b", "c"]
        assert backend.stats().size == size > 0

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_nothing_ages_while_the_daemon_is_down_nor_by_a_clock_step(
        self, backend: Backend, end: str
    ) -> None:
        backend.append("a")
        backend.take("p")
        getattr(backend, end)(away=10 * HOLD)
        backend.time.wall += 10 * HOLD
        assert backend.prune() == []
        assert backend.logged() == ["a"]
        assert backend.names() == {"p"}

    def test_up_time_adds_up_over_restarts(self, backend: Backend) -> None:
        backend.append("a")
        for _ in range(4):
            backend.time.advance(HOLD / 4)
            backend.restart()
        backend.time.advance(1)
        backend.prune()
        assert backend.logged() == []

    def test_what_a_live_scraper_has_to_come_stays(self, backend: Backend) -> None:
        backend.append("a")
        for _ in range(8):  # it comes, and its connection breaks each time
            backend.settle(backend.reserve("p"), delivered=False)
            backend.time.advance(HOLD / 2)
            assert backend.prune() == []
        assert backend.take("p") == ["a"]
        backend.prune()
        assert backend.logged() == []

    def test_what_a_visitor_has_to_come_does_not_stay(self, backend: Backend) -> None:
        backend.append("a")
        for _ in range(8):
            backend.settle(backend.reserve(VISITOR), delivered=False)
            backend.time.advance(HOLD / 2)
            backend.prune()
        assert backend.logged() == []
        backend.append("b")
        reservation = backend.reserve(VISITOR)
        assert series_of(reservation) == ["b"] and reservation.remaining == 0
        status = backend.status(VISITOR)
        assert (status.pending, status.lost, status.live) == (1, {}, False)

    def test_a_visitor_that_becomes_live_misses_nothing_from_then_on(self, backend: Backend) -> None:
        for series in "abc":
            backend.append(series)
            backend.take(VISITOR)
        backend.append("d")
        backend.time.advance(HOLD - 1)
        backend.settle(backend.reserve(VISITOR), delivered=False)
        backend.time.advance(HOLD - 1)
        backend.prune()
        assert backend.take(VISITOR) == ["d"]

    @pytest.mark.parametrize("name", ["p", VISITOR])
    @pytest.mark.parametrize("delivered", [False, True])
    def test_what_is_reserved_or_may_be_revoked_stays(
        self, backend: Backend, name: str, delivered: bool
    ) -> None:
        backend.append("a", "b")
        reservation = backend.reserve(name, lease=3 * HOLD)
        if delivered:
            backend.settle(reservation)
        backend.time.advance(2 * HOLD)
        assert backend.prune() == []
        if delivered:
            backend.revoke(reservation)
        else:
            backend.settle(reservation, delivered=False)
        assert backend.take(name) == ["a", "b"]

    def test_owed_events_come_even_after_the_log_has_dropped_them(self, backend: Backend) -> None:
        backend.append(("q", "1"), ("q", "2"), ("q", "3"))
        backend.scrape("p")
        backend.time.advance(HOLD - 1)
        backend.settle(backend.reserve("p"), delivered=False)
        backend.time.advance(HOLD - 1)
        backend.prune()
        assert backend.logged() == []
        assert [sample.value for sample in backend.scrape("p").samples] == ["2"]
        backend.restart()
        assert [sample.value for sample in backend.scrape("p").samples] == ["3"]

    def test_a_long_log_goes_in_one_call(self, backend: Backend) -> None:
        for _ in range(520):
            backend.append("a")
        backend.time.advance(HOLD + 1)
        backend.prune()
        assert backend.stats().events == 0


class TestRetirement:
    """Who stays away for a hold is forgotten, and what it missed is counted."""

    def away(self, backend: Backend, seconds: float = HOLD + 1) -> None:
        backend.time.advance(seconds)

    def test_what_a_live_scraper_missed_is_counted_once(self, backend: Backend) -> None:
        backend.reserve("p")
        backend.append("a", "b")
        self.away(backend)
        backend.append("c")
        assert backend.prune() == [Loss(scraper="p", reason="away", events=3)]
        assert backend.prune() == []
        assert backend.names() == set()
        assert backend.stats().lost == {("p", "away"): 3}

    def test_owed_events_are_missed_as_well(self, backend: Backend) -> None:
        backend.append(("q", "1"), ("q", "2"), ("q", "3"))
        backend.scrape("p")
        backend.append("a")
        self.away(backend)
        assert backend.prune() == [Loss(scraper="p", reason="away", events=3)]

    def test_it_comes_back_as_a_newcomer_and_is_owed_nothing(self, backend: Backend) -> None:
        backend.append(("q", "1"), ("q", "2"))
        backend.scrape("p")
        self.away(backend)
        backend.append("old")
        backend.prune()
        backend.time.advance(301)
        backend.append("young")
        assert backend.take("other") == ["young"]
        assert backend.take("p") == ["young"]
        assert backend.status("p").lost == {"away": 2}
        assert backend.status("p").answered == 1

    @pytest.mark.parametrize("name", ["p", VISITOR])
    def test_who_missed_nothing_or_was_a_visitor_has_lost_nothing(self, backend: Backend, name: str) -> None:
        backend.append("a")
        backend.take(name)
        if name == VISITOR:
            backend.append("b")
        self.away(backend)
        assert backend.prune() == []
        assert (backend.names(), backend.stats().lost) == (set(), {})

    def test_who_is_seen_is_not_away_even_if_it_gets_nothing(self, backend: Backend) -> None:
        backend.append("a")
        backend.reserve("p", lease=9 * HOLD)
        for _ in range(4):
            self.away(backend, HOLD / 2)
            assert backend.reserve("p").busy == "in flight"
            assert backend.prune() == []
        assert backend.names() == {"p"}

    def test_a_look_does_not_count_as_being_seen(self, backend: Backend) -> None:
        backend.reserve("p")
        self.away(backend)
        backend.look("p")
        backend.prune()
        assert backend.names() == set()

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_when_it_was_seen_survives(self, backend: Backend, end: str) -> None:
        backend.append("a")
        backend.settle(backend.reserve("p"), delivered=False)
        self.away(backend, HOLD - 10)
        backend.settle(backend.reserve("p"), delivered=False)
        backend.prune()
        getattr(backend, end)()
        self.away(backend, 100)
        assert backend.prune() == []
        assert backend.take("p") == ["a"]

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_losses_can_be_read_for_a_day(self, backend: Backend, end: str) -> None:
        backend.reserve("p")
        backend.append("a")
        self.away(backend)
        backend.prune()
        getattr(backend, end)(away=10 * 86400)
        backend.time.advance(86399 - backend.outage_counts)
        backend.prune()
        assert backend.stats().lost == {("p", "away"): 1}
        backend.time.advance(2)
        backend.prune()
        assert backend.stats().lost == {}

    def test_the_day_begins_when_the_scraper_is_forgotten(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_events=2)
        backend.settle(backend.reserve("p"), delivered=False)
        backend.append("a")
        backend.append("b", "c")
        for _ in range(2 * 24):
            self.away(backend, HOLD)
            backend.take("p")
            backend.prune()
        self.away(backend)
        backend.prune()
        assert backend.names() == set()
        assert backend.stats().lost == {("p", "log full"): 1}


class TestLogFull:
    """The log is bounded; whoever had not read what is cut has lost it, and that is counted."""

    def fill(self, backend: Backend, groups: int = 4) -> None:
        for number in range(groups):
            backend.append(*[f"s{number}{letter}" for letter in "abcde"])

    def test_beyond_the_bound_the_oldest_go(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_events=10)
        self.fill(backend)
        assert backend.logged()[0] == "s2a"
        assert backend.stats().events == 10
        backend.restart()
        assert backend.stats().events == 10

    def test_each_live_scraper_loses_what_it_had_not_read(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_events=10)
        backend.reserve("lazy")
        backend.settle(backend.reserve("half"), delivered=False)
        self.fill(backend, groups=1)
        backend.take("half", limit=3)
        self.fill(backend)
        backend.take(VISITOR)
        assert backend.stats().lost == {}  # the reservation of "lazy" protects its events still
        backend.time.advance(61)
        self.fill(backend, groups=1)
        assert backend.stats().lost == {("lazy", "log full"): 20, ("half", "log full"): 17}
        assert len(backend.take("lazy")) == 10
        assert backend.status("lazy").lost == {"log full": 20}
        assert sorted(backend.prune(), key=lambda loss: loss.scraper) == [
            Loss(scraper="half", reason="log full", events=17),
            Loss(scraper="lazy", reason="log full", events=20),
        ]
        assert backend.prune() == []

    def test_who_has_read_all_loses_nothing(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_events=10)
        for _ in range(4):
            self.fill(backend, groups=2)
            assert len(backend.take("p")) == 10
        assert backend.stats().lost == {}

    def test_the_text_is_bounded_too(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_bytes=5000)
        backend.settle(backend.reserve("p"), delivered=False)
        for number in range(20):
            backend.append(f'm{{a="{number:01000}"}}')
            assert backend.stats().size <= 5000
        kept = backend.stats().events
        assert 3 <= kept <= 4
        assert backend.status("p").lost == {"log full": 20 - kept}
        assert len(backend.take("p")) == kept

    def test_what_is_reserved_is_not_cut(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_events=10)
        self.fill(backend, groups=1)
        reservation = backend.reserve("p")
        self.fill(backend)
        assert backend.stats().lost == {}
        backend.settle(reservation)
        # Had the delivery to be revoked, its events would be wanted again.
        assert backend.logged()[:5] == series_of(reservation)
        backend.release(reservation)
        assert len(backend.take("p")) + backend.status("p").lost.get("log full", 0) == 20

    @pytest.mark.parametrize("delivered", [False, True])
    def test_what_lapsed_and_was_cut_cannot_be_undone(self, backend: Backend, delivered: bool) -> None:
        """A cursor behind the log would count events as pending for ever that nobody can deliver."""
        backend.limits = evolve(backend.limits, max_events=10)
        self.fill(backend, groups=1)
        reservation = backend.reserve("p")
        if delivered:
            backend.settle(reservation)
        backend.time.advance(LEASE + 1)
        self.fill(backend)
        late = backend.revoke(reservation) if delivered else backend.settle(reservation)
        assert late is Settled.SUPERSEDED
        assert backend.status("p").pending == 10
        assert backend.status("p").lost == {"log full": 10 if delivered else 15}
        assert len(backend.take("p")) == 10

    def test_what_is_returned_to_a_full_log_is_counted(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_events=10)
        self.fill(backend, groups=1)
        reservation = backend.reserve("p")
        self.fill(backend)
        backend.settle(reservation, delivered=False)
        assert len(backend.take("p")) == 10
        assert backend.status("p").lost == {"log full": 15}

    def test_owed_events_are_not_lost_with_the_log(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_events=10)
        backend.append(("q", "1"), ("q", "2"), ("q", "3"))
        backend.scrape("p")
        self.fill(backend)
        assert backend.status("p").lost == {"log full": 10}
        values = [
            sample.value for _ in range(2) for sample in backend.scrape("p").samples if sample.series == "q"
        ]
        assert values == ["2", "3"]

    def test_delivered_and_lost_add_up(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, max_events=13)
        names = [f"p{step}" for step in range(1, 6)]
        got = dict.fromkeys(names, 0)
        for name in names:
            backend.take(name)
        for round_ in range(40):
            self.fill(backend, groups=1)
            for step, name in enumerate(names, 1):
                if round_ % step == 0:
                    got[name] += len(backend.take(name, limit=4 + step))
        for name in names:
            status = backend.status(name)
            assert got[name] + status.pending + status.lost.get("log full", 0) == 200
