"""The wall clock was ahead and was corrected: `at` starts again, and nobody is given an earlier sample."""

from __future__ import annotations

from support.store_backends import Backend

from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.core.sampling.plan import Caps
from oneshotd.store.interface import Settled

HOURS = 3600.0


def now(backend: Backend) -> int:
    return int(backend.time.wall * 1000)


def ats(backend: Backend, series: str) -> list[int]:
    return [event.at for event in backend.events() if event.series == series]


def take_all(backend: Backend, name: str, floor: int = 0, moved: dict[str, int] | None = None) -> None:
    """A scrape in event-time mode that takes all there is."""
    got = backend.reserve(name)
    history = TimestampHistory(
        event_time=True, floor=floor, latest=max([*got.pending.ats, floor]), moved=moved or {}
    )
    assert got.token is not None
    settled = backend.get(backend.store.settle(got.token, True, got.pending.end, [], [], history))
    assert settled is Settled.SETTLED
    backend.release(got)


class TestClock:
    """A clock that was two hours ahead."""

    def test_times_start_again_at_the_clock(self, backend: Backend) -> None:
        backend.append("a", "a", "b")
        backend.time.wall -= 2 * HOURS
        backend.append("a", "c")
        assert ats(backend, "c") == [now(backend)]
        assert ats(backend, "a") == [now(backend) + after for after in (1, 2, 3)]
        assert ats(backend, "b") == [now(backend) + 1]
        backend.time.advance(10)
        backend.append("a")
        assert ats(backend, "a")[-1] == now(backend)
        backend.restart()
        backend.append("a")
        assert ats(backend, "a")[-1] == now(backend) + 1

    def test_also_where_the_clock_was_corrected_while_no_daemon_ran(self, backend: Backend) -> None:
        backend.append("a")
        backend.crash(away=-2 * HOURS)
        backend.append("b")
        assert ats(backend, "b") == [now(backend)]
        assert ats(backend, "a") == [now(backend) + 1]
        clock = backend.stats().clock
        assert clock is not None and abs(clock.seconds - 2 * HOURS) < 1

    def test_within_the_tolerance_it_stands_still(self, backend: Backend) -> None:
        backend.append("a")
        before = now(backend)
        backend.time.wall -= 60
        backend.append("b")
        assert ats(backend, "b") == [before + backend.commit_step]
        assert backend.stats().clock is None

    def test_a_floor_that_is_ahead_is_lowered(self, backend: Backend) -> None:
        backend.append("a")
        take_all(backend, "p", floor=now(backend) - 1000)
        backend.time.wall -= 2 * HOURS
        history = backend.reserve("p").history
        assert history.event_time
        assert (history.floor, history.latest) == (now(backend), now(backend))

    def test_what_a_scraper_has_that_is_ahead_is_told(self, backend: Backend) -> None:
        backend.append("a", "b", "b")
        later = now(backend)
        take_all(backend, "p", moved={"old": later - 1800_000})
        backend.append("c")
        backend.time.wall -= 2 * HOURS
        ahead = {"a": later, "b": later + 1, "old": later - 1800_000}
        assert backend.reserve("p").ahead.times == ahead
        assert backend.look("other").ahead.times == {}
        for end in (backend.restart, backend.crash):
            end()
            assert backend.look("p").ahead.times == ahead

    def test_it_is_forgotten_when_the_clock_has_long_passed_it(self, backend: Backend) -> None:
        backend.append("a")
        take_all(backend, "p")
        backend.time.wall -= 2 * HOURS
        assert backend.look("p").ahead.times
        for _ in range(4):
            backend.time.advance(0.9 * HOURS)
            backend.reserve("p")
            backend.prune()
        assert backend.look("p").ahead.times == {}

    def test_a_delivery_that_was_under_way(self, backend: Backend) -> None:
        """It was planned by the wrong clock, and is settled by the right one."""
        backend.append("a", ("b", "1"), ("b", "2"))
        later = now(backend)
        got = backend.reserve("p")
        backend.time.wall -= 2 * HOURS
        history = TimestampHistory(event_time=True, floor=later, latest=later)
        assert got.token is not None
        assert backend.get(backend.store.settle(got.token, True, 3, [3], [], history)) is Settled.SETTLED
        backend.release(got)
        again = backend.reserve("p")
        assert again.ahead.times == {"a": later, "b": later}
        assert (again.history.floor, again.history.latest) == (now(backend), now(backend))
        assert list(again.pending.ats) == [now(backend) + 2]

    def test_a_delivery_that_is_revoked_after_it(self, backend: Backend) -> None:
        backend.append(("b", "1"), ("b", "2"))
        backend.scrape("p", Caps())
        got = backend.reserve("p")
        assert got.token is not None and list(got.pending.seqs) == [2]
        assert backend.settle(got) is Settled.SETTLED
        backend.time.wall -= 2 * HOURS
        assert backend.revoke(got) is Settled.SETTLED
        assert list(backend.reserve("p").pending.ats) == [ats(backend, "b")[1]]
        assert ats(backend, "b") == [now(backend) + 1, now(backend) + 2]
