"""The slow lane: who is new waits for those before, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from oneshotd.admission import MAX_WAITING, AdmissionQueue


class Visitor:
    """Somebody who wants a turn.

    :ivar turn: whether it was given; None while it waits.
    """

    def __init__(self, lane: AdmissionQueue, until: float) -> None:
        self.turn: bool | None = None
        self._leave: Deferred[None] = Deferred()
        self._visit = Deferred.fromCoroutine(self._pass(lane, until))
        self._visit.addErrback(lambda failure: failure.trap(CancelledError))

    async def _pass(self, lane: AdmissionQueue, until: float) -> None:
        async with lane.turn(until) as self.turn:
            if self.turn:
                await self._leave

    def leave(self) -> None:
        """It is done."""
        self._leave.callback(None)

    def hang_up(self) -> None:
        """Its client is gone."""
        self._visit.cancel()


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    assert clock.getDelayedCalls() == []


def test_one_at_a_time_in_order(clock: Clock) -> None:
    """A crowd of newcomers costs the known scrapers one newcomer's time at most."""
    lane = AdmissionQueue(clock)
    visitors = [Visitor(lane, 5.0) for _ in range(3)]
    for index, visitor in enumerate(visitors):
        assert [other.turn for other in visitors[index:]] == [True] + [None] * (2 - index)
        visitor.leave()


def test_where_all_places_are_taken_nobody_waits(clock: Clock) -> None:
    """A scrape that gets nothing is told so at once."""
    lane = AdmissionQueue(clock)
    visitors = [Visitor(lane, 5.0) for _ in range(MAX_WAITING)]
    assert Visitor(lane, 5.0).turn is False
    visitors[0].leave()
    late = Visitor(lane, 5.0)
    assert late.turn is None
    for visitor in [*visitors[1:], late]:
        assert visitor.turn
        visitor.leave()


def test_who_has_waited_too_long_does_without(clock: Clock) -> None:
    """Beyond a scrape's timeout nobody hears the answer."""
    lane = AdmissionQueue(clock)
    first, second, third = Visitor(lane, 9.0), Visitor(lane, 5.0), Visitor(lane, 9.0)
    clock.advance(5.0)
    assert (second.turn, third.turn) == (False, None)
    first.leave()
    assert third.turn
    third.leave()


@pytest.mark.parametrize("whose", [0, 1], ids=["in its turn", "waiting"])
def test_who_hangs_up_makes_room(clock: Clock, whose: int) -> None:
    """Clients that go away must not close the lane, one after the other."""
    lane = AdmissionQueue(clock)
    for _ in range(2 * MAX_WAITING):
        visitors = [Visitor(lane, 5.0), Visitor(lane, 5.0)]
        with suppress(CancelledError):
            visitors[whose].hang_up()
        assert visitors[1 - whose].turn
        visitors[1 - whose].leave()
