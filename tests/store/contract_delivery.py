"""Contract: each scraper gets each event once, in order, and what it is owed comes first."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.store_backends import Backend, group, series_of

from oneshotd.core.identity import MAX_SCRAPERS
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.visits import LAPSE_UNKNOWN
from oneshotd.store.interface import Settled

#: One series with values: one sample a scrape, the rest is owed.
QUEUE = [("q", "1"), ("q", "2"), ("q", "3"), ("q", "4")]


class TestDelivery:
    """What a scraper reads, and what is left for the next time."""

    def test_each_scraper_gets_everything_once(self, backend: Backend) -> None:
        backend.append("a", "b")
        assert backend.take("p") == ["a", "b"]
        backend.append("c")
        assert [backend.take(name) for name in ("p", "q", "p", "q")] == [["c"], ["a", "b", "c"], [], []]

    def test_a_reading_says_where_it_began_and_ended(self, backend: Backend) -> None:
        backend.append("a", ("b", "2"))
        pending = backend.reserve("p").pending
        assert list(pending.seqs) == [1, 2]
        assert list(pending.values) == [None, "2"]
        assert list(pending.ats) == [event.at for event in backend.events()]
        assert (pending.owed, pending.owed_total, pending.cursor, pending.end) == (0, 0, 0, 2)

    def test_events_of_the_same_moment_are_read_once(self, backend: Backend) -> None:
        """Asked for together: an append is before the reading, or after it, as a whole and in order."""
        stored = backend.store.append([group("a")])
        reserved = backend.store.reserve(backend.visit("p"), 60.0, 10)
        later = backend.store.append([group("b")])
        reservation = backend.get(reserved)
        backend.get(stored), backend.get(later)
        backend.settle(reservation)
        backend.release(reservation)
        assert series_of(reservation) + backend.take("p") == ["a", "b"]

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_a_restart_loses_nothing_and_repeats_nothing_settled(self, backend: Backend, end: str) -> None:
        backend.append("a", "b")
        assert backend.take("p") == ["a", "b"]
        backend.append("c")
        getattr(backend, end)()
        backend.append("d")
        assert backend.take("p") == ["c", "d"]
        getattr(backend, end)()
        assert backend.take("p") == []

    def test_a_limit_cuts_the_log(self, backend: Backend) -> None:
        backend.append(*"abcde")
        backend.append(*"fg")
        reservation = backend.reserve("p", limit=3)
        assert series_of(reservation) == ["a", "b", "c"]
        assert (reservation.pending.end, reservation.remaining) == (3, 4)
        backend.settle(reservation)
        backend.release(reservation)
        assert [backend.take("p", limit=3), backend.take("p", limit=3)] == [["d", "e", "f"], ["g"]]

    def test_a_cursor_short_of_what_was_read_leaves_the_rest_to_come(self, backend: Backend) -> None:
        backend.append(*"abc")
        reservation = backend.reserve("p")
        backend.settle(reservation, cursor=1)
        backend.release(reservation)
        assert backend.take("p") == ["b", "c"]

    def test_a_reading_is_bounded_in_text(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, read_bytes=1000)
        series = [f'm{{a="{number:0400}"}}' for number in range(10)]
        for one in series:
            backend.append(one)
        got = []
        for _ in range(10):
            taken = backend.take("p")
            assert 0 < len(taken) <= 3
            got += taken
            if len(got) == 10:
                break
        assert got == series

    def test_a_reading_is_bounded_in_series_and_not_in_their_repeats(self, backend: Backend) -> None:
        """What a response cannot hold would be read in vain; a burst of one series is one sample."""
        backend.limits = evolve(backend.limits, read_series=2)
        for number in range(10):
            backend.append("a", "a", f"n{number}")
        assert backend.take("p") == ["a", "a", "n0", "a", "a", "n1"]
        assert len(backend.take("p")) == 6
        for _ in range(10):
            backend.append("b")
        while backend.take("p")[-1:] != ["b"]:
            pass
        backend.append(*["c"] * 50)
        assert backend.take("p") == ["c"] * 50

    def test_owed_events_come_before_the_log_and_those_that_went_out_are_gone(self, backend: Backend) -> None:
        backend.append(*QUEUE, "a")
        first = backend.reserve("p")
        backend.settle(first, newly_owed=[2, 3, 4])
        backend.release(first)
        backend.append("b")
        second = backend.reserve("p")
        pending = second.pending
        assert list(zip(pending.seqs, pending.series, pending.values, strict=True)) == [
            (2, "q", "2"),
            (3, "q", "3"),
            (4, "q", "4"),
            (6, "b", None),
        ]
        assert (pending.owed, pending.owed_total, pending.cursor, pending.end) == (3, 3, 5, 6)
        assert list(pending.ats[:3]) == [event.at for event in backend.events()[1:4]]
        backend.settle(second, went_out=[2, 4])
        backend.release(second)
        assert list(backend.reserve("p").pending.seqs) == [3]

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_what_is_owed_survives(self, backend: Backend, end: str) -> None:
        backend.append(*QUEUE)
        got = []
        for _ in range(4):
            got += [sample.value for sample in backend.scrape("p").samples]
            getattr(backend, end)()
        assert got == ["1", "2", "3", "4"]
        assert not backend.scrape("p").samples

    def test_one_scrapers_queue_is_nobody_elses(self, backend: Backend) -> None:
        backend.append(*QUEUE)
        backend.scrape("p")
        assert series_of(backend.reserve("q")) == ["q"] * 4
        assert (backend.status("p").owed, backend.status("q").owed) == (3, 0)

    @pytest.mark.parametrize("limit", [1, 2, 3])
    def test_where_the_owed_part_is_cut_nothing_of_the_log_is_read(
        self, backend: Backend, limit: int
    ) -> None:
        """A newer event of the same series would overtake the owed ones that were not read."""
        backend.append(*QUEUE)
        backend.scrape("p")
        backend.append(("q", "5"))
        reservation = backend.reserve("p", limit=limit)
        pending = reservation.pending
        assert list(pending.seqs) == [2, 3, 4][:limit]
        assert (pending.owed, pending.owed_total) == (limit, 3)
        assert pending.end == pending.cursor == 4
        assert reservation.remaining == 4 - limit

    def test_long_owed_events_are_cut_as_well(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, read_bytes=500)
        series = f'm{{a="{"x" * 400}"}}'
        backend.append(*[(series, str(number)) for number in range(4)])
        backend.scrape("p")
        reservation = backend.reserve("p")
        assert (reservation.pending.owed, reservation.pending.owed_total) == (2, 3)
        assert len(reservation.pending) == 2

    def test_scrapes_one_after_the_other_bring_a_queue_in_order(self, backend: Backend) -> None:
        backend.append(*QUEUE, "a", "q")
        backend.append("q", ("q", "5"))
        got = [
            [f"{sample.series} {sample.value}" for sample in backend.scrape("p", Caps(owed=3)).samples]
            for _ in range(7)
        ]
        assert [line for part in got for line in part if line[0] == "q"] == [
            "q 1",
            "q 2",
            "q 3",
            "q 4",
            "q 2",  # the two occurrences
            "q 5",
        ]
        assert sum(part.count("a 1") for part in got) == 1

    @pytest.mark.parametrize("killed", [False, True])
    def test_a_revoked_delivery_is_as_if_it_had_not_been(self, backend: Backend, killed: bool) -> None:
        backend.append(*QUEUE)
        backend.scrape("p")
        backend.append("a", ("q", "5"), "b")
        before = backend.reserve("p")
        backend.settle(before, newly_owed=[6], went_out=[2])
        assert backend.revoke(before) is Settled.SETTLED
        if killed:
            backend.crash()
        after = backend.reserve("p")
        assert after.pending == before.pending
        assert after.remaining == before.remaining

    def test_what_comes_in_meanwhile_is_behind_what_was_revoked(self, backend: Backend) -> None:
        backend.append("a")
        reservation = backend.reserve("p")
        backend.append("b")
        backend.settle(reservation)
        backend.append("c")
        backend.revoke(reservation)
        assert backend.take("p") == ["a", "b", "c"]


class TestScrapers:
    """Who is known, from when on, and what the daemon remembers of it."""

    def test_a_newcomer_sees_the_newcomer_window_only(self, backend: Backend) -> None:
        backend.append("old")
        backend.time.advance(200)
        backend.append("young", "also young")
        backend.time.advance(100.125)
        assert backend.take("p") == ["young", "also young"]
        assert backend.status("p").lost == {}

    def test_the_window_is_at_most_the_hold(self, backend: Backend) -> None:
        backend.limits = evolve(backend.limits, hold=10.0)
        backend.append("old")
        backend.time.advance(11)
        backend.append("young")
        assert backend.take("p") == ["young"]

    def test_the_window_runs_on_up_time(self, backend: Backend) -> None:
        backend.append("a")
        backend.restart(away=86400)
        backend.time.wall += 86400
        assert backend.take("p") == ["a"]

    @pytest.mark.parametrize("window", [0.0, 1e-6])
    def test_a_window_of_nothing_begins_now(self, backend: Backend, window: float) -> None:
        backend.limits = evolve(backend.limits, newcomers=window)
        backend.append("a")
        backend.time.advance(1)
        backend.reserve("p")
        backend.crash()
        backend.append("b")
        assert backend.take("p") == ["b"]

    @pytest.mark.parametrize("name", ["p", "192.0.2.7 Prometheus"])
    def test_a_newcomer_is_known_for_good_before_its_first_answer(self, backend: Backend, name: str) -> None:
        """Its window must not move on when the daemon is killed before the response is read."""
        backend.append("a")
        backend.time.advance(299)
        reservation = backend.reserve(name)
        assert series_of(reservation) == ["a"]
        backend.crash()
        assert name in backend.names()
        backend.time.advance(299)
        assert backend.take(name) == ["a"]

    def test_a_newcomer_whose_first_answer_is_revoked_gets_it_again(self, backend: Backend) -> None:
        backend.append("a")
        for _ in range(5):
            reservation = backend.reserve("192.0.2.7 Prometheus")
            assert series_of(reservation) == ["a"]
            backend.settle(reservation)
            backend.revoke(reservation)
        assert backend.status("192.0.2.7 Prometheus").answered == 0

    def test_a_named_scraper_is_live_at_once_an_unnamed_one_after_three_answers(
        self, backend: Backend
    ) -> None:
        backend.reserve("p")
        assert backend.status("p").live
        live = []
        for _ in range(3):
            backend.take("192.0.2.7 Prometheus")
            live.append(backend.status("192.0.2.7 Prometheus").live)
        assert live == [False, False, True]
        backend.crash()
        assert backend.status("192.0.2.7 Prometheus").live

    def test_only_answers_count_not_attempts(self, backend: Backend) -> None:
        for _ in range(5):
            backend.settle(backend.reserve("192.0.2.7 Prometheus"), delivered=False)
        assert not backend.status("192.0.2.7 Prometheus").live

    def test_whether_it_sends_its_timeout_is_known_from_the_first_delivery_on(self, backend: Backend) -> None:
        """Until then a request without that header is a scrape; afterwards it is somebody's look.

        A delivery without it can only follow when that rule has lapsed: it does not come back by
        itself with the next start.
        """
        backend.settle(backend.reserve("p", timed=True), delivered=False)
        assert not backend.status("p").timed
        backend.take("p", timed=True)
        assert backend.status("p").timed
        backend.crash()
        assert backend.status("p").timed
        backend.time.advance(LAPSE_UNKNOWN)
        backend.settle(backend.reserve("p", timed=False), delivered=False)
        assert backend.status("p").timed
        backend.take("p", timed=False)
        backend.crash()
        assert not backend.status("p").timed

    def test_there_is_room_for_so_many_scrapers_and_the_known_ones_are_served_on(
        self, backend: Backend
    ) -> None:
        for number in range(MAX_SCRAPERS):
            backend.reserve(f"p{number}")
        backend.append("a")
        refused = backend.reserve("one too many")
        assert (refused.token, refused.busy, len(refused.pending)) == (None, "too many", 0)
        backend.restart()
        assert backend.reserve("one too many").busy == "too many"
        assert len(backend.names()) == MAX_SCRAPERS
        assert backend.take("p0") == ["a"]
        assert series_of(backend.look("one too many")) == ["a"]

    def test_a_look_leaves_no_trace(self, backend: Backend) -> None:
        backend.append(*QUEUE)
        backend.scrape("p")
        backend.append("a")
        backend.time.advance(10)
        before = backend.stats()
        look = backend.look("p")
        assert series_of(backend.look("stranger")) == ["q", "q", "q", "q", "a"]
        assert backend.stats() == before
        backend.crash()
        assert backend.stats() == before
        reservation = backend.reserve("p")
        assert reservation.pending == look.pending
        assert reservation.remaining == look.remaining == 0
        assert backend.names() == {"p"}

    def test_when_it_was_last_seen(self, backend: Backend) -> None:
        backend.reserve("p")
        backend.time.advance(10)
        assert backend.reserve("p").busy == "in flight"
        seen = int(backend.time.wall * 1000)
        backend.time.advance(5)
        assert backend.status("p").seen_at == seen
        backend.restart()
        assert backend.status("p").seen_at == seen

    def test_the_figures_of_a_scraper(self, backend: Backend) -> None:
        backend.append(*QUEUE)
        at = backend.events()[1].at
        assert backend.status_or_none("p") is None
        backend.scrape("p")
        backend.time.advance(10)
        backend.append("a")
        status = backend.status("p")
        assert (status.cursor, status.pending, status.owed, status.answered) == (4, 4, 3, 1)
        assert status.oldest_at == at
        for _ in range(3):
            backend.scrape("p")
        status = backend.status("p")
        assert (status.cursor, status.pending, status.owed, status.oldest_at) == (5, 0, 0, None)
