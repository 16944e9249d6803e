"""The queue of unknown scrapers: order, bounds and timeouts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from oneshotd.admission import MAX_WAITING, AdmissionQueue


class Visitor:
    """A request that waits in the queue.

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
        """End the request."""
        self._leave.callback(None)

    def hang_up(self) -> None:
        """Disconnect the client of the request."""
        self._visit.cancel()


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    assert clock.getDelayedCalls() == []


def test_one_at_a_time_in_order(clock: Clock) -> None:
    """Many unknown scrapers would delay known ones for more than one response."""
    lane = AdmissionQueue(clock)
    visitors = [Visitor(lane, 5.0) for _ in range(3)]
    for index, visitor in enumerate(visitors):
        assert [other.turn for other in visitors[index:]] == [True] + [None] * (2 - index)
        visitor.leave()


def test_a_full_queue_refuses_at_once(clock: Clock) -> None:
    """A refused scrape would wait for nothing."""
    lane = AdmissionQueue(clock)
    visitors = [Visitor(lane, 5.0) for _ in range(MAX_WAITING)]
    assert Visitor(lane, 5.0).turn is False
    visitors[0].leave()
    late = Visitor(lane, 5.0)
    assert late.turn is None
    for visitor in [*visitors[1:], late]:
        assert visitor.turn
        visitor.leave()


def test_a_request_at_its_deadline_is_refused(clock: Clock) -> None:
    """A response would be made after its scraper has given up."""
    lane = AdmissionQueue(clock)
    first, second, third = Visitor(lane, 9.0), Visitor(lane, 5.0), Visitor(lane, 9.0)
    clock.advance(5.0)
    assert (second.turn, third.turn) == (False, None)
    first.leave()
    assert third.turn
    third.leave()


@pytest.mark.parametrize("whose", [0, 1], ids=["in its turn", "waiting"])
def test_a_disconnected_client_leaves_the_queue(clock: Clock, whose: int) -> None:
    """Clients that disconnect would fill the queue for good."""
    lane = AdmissionQueue(clock)
    for _ in range(2 * MAX_WAITING):
        visitors = [Visitor(lane, 5.0), Visitor(lane, 5.0)]
        with suppress(CancelledError):
            visitors[whose].hang_up()
        assert visitors[1 - whose].turn
        visitors[1 - whose].leave()
