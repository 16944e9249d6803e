"""Contract: what goes into the log stays in it, in order, each event at a time of its own."""

from __future__ import annotations

import pytest
from support.store_backends import Backend, group

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import Group
from oneshotd.store.interface import Stored

AWKWARD = [
    'm{a="x\\n\\"\\\\"}',
    'm{a="\0"}',
    'm{a="\r\r"}',
    'm{a="\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e"}',
    'm{a="\ufeff\U0001f600"}',
    'm{a="\U0010ffff"}',
    'm{a="' + "é" * 4096 + '"}',
]


def ats(backend: Backend, series: str) -> list[int]:
    """The times of a series, in log order."""
    return [event.at for event in backend.events() if event.series == series]


class TestAppend:
    """What a tool is told has been stored is there."""

    def test_an_answered_event_is_there_after_a_kill(self, backend: Backend) -> None:
        assert backend.append("a", ("b", "1.5")) == Stored(stored=2, first=1)
        backend.crash()
        assert [(event.seq, event.series, event.value) for event in backend.events()] == [
            (1, "a", None),
            (2, "b", "1.5"),
        ]

    def test_events_lie_in_the_order_in_which_they_were_accepted(self, backend: Backend) -> None:
        first = backend.store.append([group("a", "b"), group("c")])
        second = backend.store.append([group("d")])
        assert [answer.first for answer in backend.get(first) if isinstance(answer, Stored)] == [1, 3]
        assert backend.get(second) == [Stored(stored=1, first=4)]
        assert backend.logged() == ["a", "b", "c", "d"]

    def test_a_large_group_keeps_its_order_and_its_values(self, backend: Backend) -> None:
        reports = [(f"s{number % 7}", str(number)) for number in range(7001)]
        backend.append(*reports)
        backend.restart()
        assert [(event.series, event.value) for event in backend.events()] == reports
        assert [event.seq for event in backend.events()] == list(range(1, 7002))

    @pytest.mark.parametrize("key", [None, "k"])
    def test_plain_events_lie_there_as_any(self, backend: Backend, key: str | None) -> None:
        """Each at a time of its own, whether or not its series came before, or twice."""
        backend.append("a")
        for series in (["b", "c"], ["a", "d"], ["e", "e"]):
            plain = Group(events=SeriesBatch(series), key=None if key is None else key + series[0])
            [answer] = backend.get(backend.store.append([plain]))
            assert isinstance(answer, Stored) and answer.stored == 2
        backend.crash()
        assert backend.logged() == ["a", "b", "c", "a", "d", "e", "e"]
        for name in "ae":
            assert len(set(ats(backend, name))) == 2

    @pytest.mark.parametrize("value", [None, "NaN", "-0", "1e+30"])
    @pytest.mark.parametrize("series", AWKWARD, ids=ascii)
    def test_text_comes_back_as_it_was(self, backend: Backend, series: str, value: str | None) -> None:
        report = series if value is None else (series, value)
        backend.append("before", report, "after")
        backend.restart()
        got = [(event.series, event.value) for event in backend.events()]
        assert got == [("before", None), (series, value), ("after", None)]

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_a_seq_is_never_given_twice_even_if_nothing_is_left_of_the_log(
        self, backend: Backend, end: str
    ) -> None:
        backend.append("a", "b", "c")
        backend.time.advance(3700)
        backend.prune()
        assert backend.events() == []
        getattr(backend, end)()
        assert backend.append("d") == Stored(stored=1, first=4)
        assert [event.seq for event in backend.events()] == [4]

    def test_nothing_to_store_is_nothing_stored(self, backend: Backend) -> None:
        assert backend.append_groups() == []
        assert backend.stats().head == 0


class TestTimes:
    """A series never has two events at one time: a scraper would keep only one of them."""

    def test_the_time_is_that_of_acceptance_and_other_series_share_it(self, backend: Backend) -> None:
        backend.append("a", "b")
        backend.time.advance(2.5)
        backend.append("a")
        at = int(backend.time.wall * 1000)
        assert ats(backend, "a") == [at - 2500, at]
        assert ats(backend, "b") == [at - 2500]

    def test_further_events_in_one_millisecond_take_the_next_free_ones(self, backend: Backend) -> None:
        backend.append("a", "b", "a")
        backend.append("a")
        at = int(backend.time.wall * 1000)
        assert ats(backend, "a") == [at, at + 1, at + 2]
        assert ats(backend, "b") == [at]

    @pytest.mark.parametrize("end", ["restart", "crash"])
    @pytest.mark.parametrize("step", [0.0, -5.0, -86400.0])
    def test_it_ascends_over_a_restart_and_a_step_back_of_the_clock(
        self, backend: Backend, end: str, step: float
    ) -> None:
        backend.append("a", "a", "b")
        getattr(backend, end)(away=step)
        backend.append("a", "b")
        backend.time.wall += step
        backend.append("a")
        for series in "ab":
            times = ats(backend, series)
            assert times == sorted(set(times))

    def test_while_the_clock_is_behind_the_time_stands_still(self, backend: Backend) -> None:
        backend.append("a")
        [before] = ats(backend, "a")
        backend.time.wall -= 60
        backend.append("a", "b")
        assert ats(backend, "a")[1] - before == 1
        assert ats(backend, "b") == [before + backend.commit_step]

    @pytest.mark.parametrize("end", ["restart", "crash"])
    def test_a_burst_runs_ahead_for_its_own_series_only(self, backend: Backend, end: str) -> None:
        backend.append(*["a"] * 5000)
        now = int(backend.time.wall * 1000)
        getattr(backend, end)()
        backend.append("a", "b")
        assert ats(backend, "a") == list(range(now, now + 5001))
        assert ats(backend, "b") == [now + backend.commit_step]
        backend.time.advance(10)
        backend.append("a")
        assert ats(backend, "a")[-1] == now + 10_000

    @pytest.mark.parametrize("end", ["restart", "crash"])
    @pytest.mark.parametrize("burst", [1, 5000])
    def test_it_ascends_even_if_the_earlier_events_are_long_gone(
        self, backend: Backend, end: str, burst: int
    ) -> None:
        """The clock was set back, the hold passed, the log was emptied, the daemon started again."""
        backend.append(*["a"] * burst)
        latest = ats(backend, "a")[-1]
        backend.time.monotonic += 3700
        backend.prune()
        assert backend.events() == []
        getattr(backend, end)()
        backend.append("a")
        assert ats(backend, "a")[0] > latest

    def test_events_gone_for_want_of_room_do_not_drive_the_clock_ahead(self, backend: Backend) -> None:
        """Another series would be given times in the future, which scrapers refuse."""
        backend.limits = type(backend.limits)(max_events=100)
        for _ in range(30):
            backend.append(*["a"] * 50)
        backend.restart()
        backend.append("b")
        assert ats(backend, "b") == [int(backend.time.wall * 1000) + 30 * backend.commit_step]
