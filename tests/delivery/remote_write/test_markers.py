"""When series end, what is sent again, and which daemon sends."""

from __future__ import annotations

from heapq import heappop

import pytest
from twisted.internet.task import Clock

from oneshotd.delivery.remote_write import markers as markers_module
from oneshotd.delivery.remote_write import replay as replay_module
from oneshotd.delivery.remote_write.leadership import Leadership, Role
from oneshotd.delivery.remote_write.markers import GUARD, Markers
from oneshotd.delivery.remote_write.pauses import Pauses
from oneshotd.delivery.remote_write.replay import Replay, Sample

D = 15_000


def due(markers: Markers, now: int, most: int = 100, **pending: int) -> list[tuple[str, int]]:
    return markers.due(now, pending, most)


def test_a_marker_is_due_after_its_time_and_stays_until_it_is_done() -> None:
    markers = Markers(D)
    markers.delivered(["a"], [1000])
    assert due(markers, 1000 + D + GUARD) == []
    assert markers.next_due() == 1000 + D + GUARD + 1
    for _ in range(2):
        assert due(markers, 1000 + D + GUARD + 1) == [("a", 1000 + D)]
    markers.done([("a", 1000 + D)])
    assert due(markers, 10**9) == []
    assert markers.next_due() is None


@pytest.mark.parametrize(("at", "goes"), [(1000 + D, False), (1001 + D, True), (500, False)])
def test_a_pending_event_holds_an_earlier_marker_up(at: int, goes: bool) -> None:
    markers = Markers(D)
    markers.delivered(["a", "b"], [1000, 1000])
    found = due(markers, 10**6, a=at)
    assert ("a" in dict(found)) is goes
    assert "b" in dict(found)


def test_a_later_event_moves_the_marker_and_a_sent_one_drops_it() -> None:
    markers = Markers(D)
    markers.delivered(["a"], [1000])
    markers.delivered(["a"], [5000])
    assert due(markers, 1000 + D + GUARD + 1) == []
    assert due(markers, 10**6) == [("a", 5000 + D)]
    markers.done([("a", 1000 + D)])
    assert due(markers, 10**6) == [("a", 5000 + D)], "an older one was done"
    markers.sent(["a", "unknown"])
    assert due(markers, 10**6) == []
    markers.delivered(["a"], [9000])
    assert due(markers, 10**6) == [("a", 9000 + D)]


def test_markers_go_the_earliest_first_within_a_size() -> None:
    markers = Markers(D)
    markers.delivered(list("abcd"), [4000, 1000, 3000, 2000])
    assert [name for name, _ in due(markers, 10**6, 2)] == ["b", "d"]
    markers.done([("b", 1000 + D), ("d", 2000 + D)])
    assert [name for name, _ in due(markers, 10**6)] == ["c", "a"]


def test_the_same_series_has_one_entry() -> None:
    markers = Markers(D)
    for number in range(1000):
        markers.sent(["a"])
        markers.delivered(["a"], [number])
    assert len(markers._heap) == 1


def test_markers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markers_module, "MAX_WAITING", 2)
    markers = Markers(D)
    markers.delivered(["a", "b", "c", "a"], [1, 2, 3, 4])
    assert markers.dropped == 1
    assert sorted(name for name, _ in due(markers, 10**6)) == ["a", "b"]
    markers.clear()
    assert due(markers, 10**6) == []


def test_the_characters_of_waiting_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million series of 60 KB would take all the memory."""
    monkeypatch.setattr(markers_module, "MAX_CHARACTERS", 10)
    markers = Markers(D)
    for _ in range(3):  # what was removed has room again
        markers.delivered(["a" * 6, "b" * 5, "c" * 4], [1, 2, 3])
        assert due(markers, 10**6) == [("a" * 6, 1 + D), ("c" * 4, 3 + D)]
        markers.done(due(markers, 10**6))
        assert markers.next_due() is None
    assert markers.dropped == 3
    markers.delivered(["d" * 10], [1])
    markers.clear()
    markers.delivered(["d" * 10], [1])
    assert due(markers, 10**6) == [("d" * 10, 1 + D)]


@pytest.mark.parametrize("ends", [True, False])
def test_no_call_takes_long(ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a backlog nearly all entries are at a wrong place: the daemon would do nothing else meanwhile."""
    calls = 0

    def counted(heap: list[tuple[int, str]]) -> tuple[int, str]:
        nonlocal calls
        calls += 1
        return heappop(heap)

    monkeypatch.setattr(markers_module, "MAX_SETTLED", 10)
    monkeypatch.setattr(markers_module, "heappop", counted)
    markers = Markers(D)
    names = [f"s{number}" for number in range(100)]
    markers.delivered(names, range(100))
    markers.sent(names)
    if not ends:
        markers.delivered(names, range(1000, 1100))
    found: list[str] = []
    for _ in range(100):
        calls = 0
        first = markers.next_due()
        assert calls <= 10
        assert first is not None or not markers._heap
        markers.done(some := due(markers, 10**6, 5))
        assert calls <= 25
        found += [name for name, _ in some]
    assert found == ([] if ends else names)
    assert markers.next_due() is None


def test_without_visible_there_are_none() -> None:
    markers = Markers(0)
    markers.delivered(["a"], [1])
    assert due(markers, 10**6) == [] and markers.next_due() is None


def samples(*names: str) -> list[Sample]:
    return [Sample(name, None, 1) for name in names]


def test_what_was_accepted_shortly_before_the_last_answer_goes_again() -> None:
    replay = Replay(20.0)
    replay.accepted(samples("a"), 0.0)
    replay.accepted(samples("b", "c"), 10.0)
    replay.answered(25.0)
    replay.was_away()
    replay.answered(1000.0)  # what it answers says nothing of what it lost
    assert replay.next(1) == samples("b")
    assert replay.next(5) == samples("b", "c")
    replay.sent(1, 1000.0)
    replay.was_away()
    assert replay.next(5) == samples("b", "c"), "away again in the middle"
    replay.sent(2, 1000.0)
    assert replay.next(5) == []
    replay.answered(1020.0)
    replay.was_away()
    assert replay.next(5) == samples("b", "c"), "they were in memory again"
    replay.sent(2, 1020.0)
    replay.answered(1041.0)
    replay.was_away()
    assert replay.next(5) == []


def test_another_connection_is_another_start_of_the_receiver_unless_nothing_was_sent_yet() -> None:
    replay = Replay(20.0)
    replay.accepted(samples("a", "b", "c"), 0.0)
    replay.was_away()
    replay.sent(1, 1.0, reconnected=True)
    assert replay.next(5) == samples("b", "c")
    replay.sent(1, 2.0, reconnected=True)
    assert replay.next(5) == samples("a", "b", "c")


def test_without_replay_nothing_is_kept() -> None:
    replay = Replay(0.0)
    replay.accepted(samples("a"), 0.0)
    replay.was_away()
    assert replay.next(5) == []


def test_what_goes_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "MAX_KEPT", 2)
    replay = Replay(20.0)
    replay.accepted(samples("a", "b", "c"), 0.0)
    replay.was_away()
    assert replay.next(5) == samples("b", "c")
    monkeypatch.setattr(replay_module, "MAX_CHARACTERS", 7)
    replay.accepted(samples("dddd", "eee"), 0.0)
    replay.was_away()
    assert replay.next(5) == samples("dddd", "eee")
    replay.clear()
    replay.accepted(samples("f" * 7), 0.0)
    replay.was_away()
    assert replay.next(5) == samples("f" * 7)
    replay.clear()
    assert replay.next(5) == []


def test_a_daemon_leads_until_another_one_has_sent() -> None:
    one = Leadership(shared=True)
    assert one.reserved((5, 0)) is Role.TAKE_OVER
    assert one.reserved((5, 0)) is Role.LEAD
    one.moved((6, 1))
    assert one.reserved((6, 1)) is Role.LEAD
    assert one.reserved((7, 1)) is Role.STAND_BY
    assert one.stands_by


@pytest.mark.parametrize(
    ("looks", "takes_over"),
    [
        ([((8, 0), True)], False),
        ([((8, 0), True), ((8, 0), True)], True),
        ([((8, 0), True), ((9, 0), True)], False),
        ([((8, 0), False), ((8, 0), False)], True),
        ([((6, 1), False), ((6, 1), False)], False),
        ([((6, 1), False), ((6, 1), True)], True),
    ],
)
def test_a_daemon_that_stands_by_takes_over_if_nothing_moves(
    looks: list[tuple[tuple[int, int], bool]], takes_over: bool
) -> None:
    one = Leadership(shared=True)
    one.reserved((5, 0))
    one.moved((6, 1))
    one.reserved((7, 1))
    assert [one.looked(*look) for look in looks][-1] is takes_over
    assert one.reserved(looks[-1][0]) is Role.TAKE_OVER
    assert not one.stands_by


def test_a_daemon_alone_leads_whatever_moves() -> None:
    one = Leadership(shared=False)
    one.reserved((5, 0))
    assert one.reserved((9, 3)) is Role.LEAD
    one.lost()
    assert not one.stands_by
    assert one.reserved((9, 3)) is Role.TAKE_OVER


def test_a_daemon_whose_lease_ended_stands_by() -> None:
    one = Leadership(shared=True)
    one.reserved((5, 0))
    one.lost()
    assert one.stands_by
    assert [one.looked((5, 0), has_pending) for has_pending in (True, False, True)] == [False, False, True]


def test_a_wake_up_during_a_step_ends_the_idle_pause_after_it() -> None:
    clock = Clock()
    pauses = Pauses(clock)
    pauses.begin_step()
    pauses.wake()
    assert pauses.wait(5.0, is_idle=True).called
    waiting = pauses.wait(5.0)
    pauses.wake()
    assert not waiting.called, "a pause after a failure"
    clock.advance(5)
    assert waiting.called
    pauses.begin_step()
    waiting = pauses.wait(5.0, is_idle=True)
    pauses.wake()
    assert waiting.called and not clock.getDelayedCalls()
    pauses.end()
