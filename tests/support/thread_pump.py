"""A thread pump: a reactor that is nothing but its queue of calls from other threads, run on demand."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from zope.interface import implementer

T = TypeVar("T")

#: Seconds after which an answer that does not come fails the test.
PATIENCE = 30.0


@implementer(IReactorFromThreads)
class ThreadPump:
    """Runs what other threads hand over, in the test's thread, only while it is asked to."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._calls.put(partial(callable, *args, **kwargs))

    @property
    def idle(self) -> bool:
        """Whether nothing has been handed over that was not run."""
        return self._calls.empty()

    def get(self, deferred: Deferred[T]) -> T:
        """The answer, as soon as it is there.

        :raises Exception: what the Deferred failed with.
        """
        answers: list[T | Failure] = []
        deferred.addBoth(answers.append)
        deadline = time.monotonic() + PATIENCE
        while not answers:
            self._calls.get(timeout=max(0.0, deadline - time.monotonic()))()
        [answer] = answers
        if isinstance(answer, Failure):
            answer.raiseException()
        return answer
