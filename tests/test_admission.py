"""AdmissionQueue: requests proceed one at a time, in order, and wait for a bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from oneshotd.admission import MAX_WAITING, AdmissionQueue


class Waiter:
    """A request that waits for its turn.

    :ivar turn: whether it had its turn; None while it waits.
    """

    def __init__(self, queue: AdmissionQueue, until: float) -> None:
        self.turn: bool | None = None
        self._leave: Deferred[None] = Deferred()
        self._waiting = Deferred.fromCoroutine(self._wait(queue, until))
        self._waiting.addErrback(lambda failure: failure.trap(CancelledError))

    async def _wait(self, queue: AdmissionQueue, until: float) -> None:
        async with queue.turn(until) as self.turn:
            if self.turn:
                await self._leave

    def leave(self) -> None:
        """End the turn."""
        self._leave.callback(None)

    def cancel(self) -> None:
        """Cancel the request, as when its client disconnects."""
        self._waiting.cancel()


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    assert clock.getDelayedCalls() == []


def test_one_at_a_time_in_order(clock: Clock) -> None:
    """Many unknown scrapers would delay a known one by more than one response."""
    queue = AdmissionQueue(clock)
    waiters = [Waiter(queue, 5.0) for _ in range(3)]
    for index, waiter in enumerate(waiters):
        assert [other.turn for other in waiters[index:]] == [True] + [None] * (2 - index)
        waiter.leave()


def test_a_full_queue_refuses_at_once(clock: Clock) -> None:
    """A scrape that cannot be served would wait in vain."""
    queue = AdmissionQueue(clock)
    waiters = [Waiter(queue, 5.0) for _ in range(MAX_WAITING)]
    assert Waiter(queue, 5.0).turn is False
    waiters[0].leave()
    late = Waiter(queue, 5.0)
    assert late.turn is None
    for waiter in [*waiters[1:], late]:
        assert waiter.turn
        waiter.leave()


def test_a_turn_after_the_time_limit_is_not_given(clock: Clock) -> None:
    """After its timeout the scraper does not read the response."""
    queue = AdmissionQueue(clock)
    first, second, third = Waiter(queue, 9.0), Waiter(queue, 5.0), Waiter(queue, 9.0)
    clock.advance(5.0)
    assert (second.turn, third.turn) == (False, None)
    first.leave()
    assert third.turn
    third.leave()


@pytest.mark.parametrize("whose", [0, 1], ids=["in its turn", "waiting"])
def test_a_cancelled_request_leaves_the_queue(clock: Clock, whose: int) -> None:
    """Disconnected clients would fill the queue for ever."""
    queue = AdmissionQueue(clock)
    for _ in range(2 * MAX_WAITING):
        waiters = [Waiter(queue, 5.0), Waiter(queue, 5.0)]
        with suppress(CancelledError):
            waiters[whose].cancel()
        assert waiters[1 - whose].turn
        waiters[1 - whose].leave()
