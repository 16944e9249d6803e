"""Runs the checks of passwords in threads: one at a time for each address, addresses by turns.

The threads are not the reactor's, which the store's start, gzip and name look-ups use: a check takes some
50 ms of CPU, and clients decide how many there are.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from oneshotd.errors import Refused

T = TypeVar("T")

#: Checks at a time.
THREADS = 2

#: Checks that may wait, of one address and of all together; they bound the time that one waits.
MAX_WAITING_OF_ADDRESS, MAX_WAITING = 16, 128

#: Runs a function in a thread: ``defer(function, *arguments)``.
DeferToThread = Callable[..., Deferred[Any]]


class Check(Protocol):
    """A check that the queue runs."""

    def begin(self) -> Callable[[], bool] | bool:
        """Return what a thread is to do, or the result if none is needed; called when its turn comes.

        :raises Exception: is the result.
        """

    def finish(self, result: bool | Failure) -> None:
        """Take the result; called once."""


class CheckQueue:
    """The checks that wait, and those that run.

    :param defer_to_thread: runs a function in a thread.
    """

    def __init__(self, defer_to_thread: DeferToThread) -> None:
        self._defer_to_thread = defer_to_thread
        # The address whose turn is next comes first.
        self._waiting: OrderedDict[str, deque[Check]] = OrderedDict()
        self._count = 0  # of those
        self._busy: set[str] = set()  # addresses of running checks

    def __len__(self) -> int:
        return self._count

    def add(self, address: str, check: Check) -> None:
        """Run this check when its turn comes.

        :raises Refused: too many checks wait (429 for one address, else 503).
        """
        waiting = self._waiting.get(address, ())
        if len(waiting) >= MAX_WAITING_OF_ADDRESS:
            text = "too many passwords from this address are being checked"
            raise Refused(text, reason="rate", status=429, retry_after=1)
        if self._count >= MAX_WAITING:
            text = "too many passwords are being checked"
            raise Refused(text, reason="busy", status=503, retry_after=1)
        self._waiting.setdefault(address, deque()).append(check)
        self._count += 1
        self._go_on()

    def drop(self, address: str, check: Check) -> bool:
        """Remove a check that waits; return whether it did."""
        waiting = self._waiting.get(address)
        if waiting is None or check not in waiting:
            return False
        waiting.remove(check)
        self._count -= 1
        if not waiting:
            del self._waiting[address]
        return True

    def _go_on(self) -> None:
        while len(self._busy) < THREADS:
            address = next((address for address in self._waiting if address not in self._busy), None)
            if address is None:
                return
            self._start(address, self._take(address))

    def _take(self, address: str) -> Check:
        waiting = self._waiting[address]
        check = waiting.popleft()
        self._count -= 1
        if not waiting:
            del self._waiting[address]
        return check

    def _start(self, address: str, check: Check) -> None:
        try:
            work = check.begin()
        except Exception:
            check.finish(Failure())
            return
        if isinstance(work, bool):
            check.finish(work)
            return
        self._busy.add(address)
        self._defer_to_thread(work).addBoth(self._done, address, check)

    def _done(self, result: bool | Failure, address: str, check: Check) -> None:
        self._busy.discard(address)
        if address in self._waiting:
            self._waiting.move_to_end(address)  # it had its turn
        try:
            check.finish(result)
        finally:
            self._go_on()


class PasswordThreads:
    """A few threads that do not hold the process when it ends: a costly hash may take seconds.

    :param reactor: gets the results.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=THREADS, name="passwords")
        self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self._pool.start()

    def __call__(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run a function in one of the threads."""
        return deferToThreadPool(self._reactor, self._pool, function, *args)

    def stop(self) -> None:
        """End the threads as soon as they have nothing to do; do not wait for them."""
        self._pool.threads.clear()  # `stop` joins these
        self._pool.stop()
