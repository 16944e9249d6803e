"""Threads for tests: they work when the test says so, or at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Threads:
    """Threads that work when the test says so.

    :ivar jobs: what they have to do, in the order in which it came.
    """

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.jobs.append((lambda: function(*args), done))
        return done

    def work(self) -> None:
        """Do the oldest job."""
        function, done = self.jobs.pop(0)
        try:
            result = function()
        except Exception:
            done.errback(Failure())
        else:
            done.callback(result)

    def work_all(self) -> int:
        """Do jobs until there are none; return how many were done."""
        count = 0
        while self.jobs:
            self.work()
            count += 1
            assert count < 10_000, "jobs without end"
        return count


def at_once(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Run a function in this thread, in place of a thread."""
    done: Deferred[Any] = Deferred()
    try:
        result = function(*args)
    except Exception:
        done.errback(Failure())
    else:
        done.callback(result)
    return done
