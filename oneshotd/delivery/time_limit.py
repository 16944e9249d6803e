"""Wait for an answer of the store until a time, and take care of an answer that arrives later."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

T = TypeVar("T")


def within(
    clock: IReactorTime, until: float, asked: Deferred[T], late: Callable[[T], object]
) -> Deferred[T | None]:
    """Fire with the store's answer, or with None at the time limit.

    The request to the store is not cancelled; an answer after the time limit goes to `late`.

    :param until: reactor time (seconds).
    """
    answer: Deferred[T | None] = Deferred(lambda _: timer.cancel())
    timer = clock.callLater(max(0.0, until - clock.seconds()), answer.callback, None)

    def arrived(result: T) -> None:
        # After a pause of the process the time limit may be over before the timer fires.
        if answer.called or clock.seconds() > until:
            late(result)
        else:
            timer.cancel()
            answer.callback(result)

    asked.addCallback(arrived)
    return answer
