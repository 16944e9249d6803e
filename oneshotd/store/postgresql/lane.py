"""A thread with a connection and a queue of jobs.

A job that fails before its COMMIT has changed nothing, and its caller is told so. One whose COMMIT is of
unknown outcome is repeated until it is known, so it must be written to have its effect once; if that takes
long, the jobs behind it are refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.postgresql.connecting import library, reason_of, unavailable
from oneshotd.store.postgresql.link import CommitUnknown, Link

#: Seconds between two attempts to connect, and between two calls of `idle`.
RECONNECT_INTERVAL = 0.5
IDLE_INTERVAL = 2.0

#: Seconds of doubt about one transaction after which jobs behind it are refused.
REFUSE_AFTER = 2.0

#: Seconds for which `close` tries to find out what became of a transaction.
CLOSING_PATIENCE = 10.0


@frozen(eq=False)
class Job:
    """Work for the thread."""

    work: Callable[..., Any]
    done: Deferred[Any]


class Lane:
    """The thread.

    :param connect: opens a connection.
    :param run: answers a batch of jobs by `complete`, in order; repeats what is of unknown outcome.
    :param idle: called between jobs, at least every `IDLE_INTERVAL` seconds.
    :ivar reconnects: connections that were opened again.
    :ivar in_doubt: commits whose outcome was not known at first; `run` counts them.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        reactor: IReactorFromThreads,
        connect: Callable[[], Link],
        run: Callable[[list[Job]], None],
        idle: Callable[[Link], object] = lambda link: None,
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._run = run
        self._idle = idle
        self._link: Link | None = None
        self._tried = 0.0
        self.reconnects = self.in_doubt = 0
        self._trouble: str | None = None
        self._closed: Deferred[None] | None = None
        self._closed_at = 0.0
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"oneshotd-{name}", daemon=True)

    def start(self, link: Link) -> None:
        """Start the thread with its first connection."""
        self._link = link
        self._thread.start()

    def submit(self, work: Callable[..., Any]) -> Deferred[Any]:
        """Run work in the thread; fails with `StoreUnavailable`."""
        done: Deferred[Any] = Deferred()
        if self._closed is not None:
            done.errback(StoreUnavailable("the store is closed"))
        else:
            self._jobs.put(Job(work, done))
        return done

    def close(self) -> Deferred[None]:
        """Run the waiting jobs, then close the connection; later jobs are refused."""
        if self._closed is None:
            self._closed = Deferred()
            self._closed_at = time.monotonic()
            self._jobs.put(None)
        done: Deferred[None] = Deferred()
        self._closed.addBoth(lambda result: done.callback(None))
        return done

    @property
    def is_closed(self) -> bool:
        """Whether jobs are refused."""
        return self._closed is not None

    @property
    def waiting(self) -> int:
        """The number of jobs that the thread has not begun."""
        return self._jobs.qsize()

    # -- in the thread

    def _work(self) -> None:
        open_ = True
        last_idle = time.monotonic()
        while open_:
            batch: list[Job] = []
            try:
                job = self._jobs.get(timeout=IDLE_INTERVAL)
                while job is not None:
                    batch.append(job)
                    job = self._jobs.get_nowait()
                open_ = False
            except Empty:
                pass
            if batch:
                self._attempt(batch)
            if time.monotonic() - last_idle >= IDLE_INTERVAL:
                last_idle = time.monotonic()
                self._when_idle()
        if self._link is not None:
            self._link.close()
        assert self._closed is not None
        self._reactor.callFromThread(self._closed.callback, None)

    def _attempt(self, batch: list[Job]) -> None:
        try:
            self._run(batch)
        except Exception as error:
            self._log.failure("the store's thread failed")
            self.complete([(job, unavailable(error)) for job in batch])

    def _when_idle(self) -> None:
        try:
            self._idle(self.link())
        except (StoreUnavailable, CommitUnknown):
            pass
        except library().Error as error:
            self._note(reason_of(error))
        except Exception:
            self._log.failure("the store's thread failed")

    def link(self) -> Link:
        """Return the connection, opened again if it is broken.

        :raises StoreUnavailable: the database cannot be reached.
        """
        if self._link is not None and not self._link.is_broken and not self._link.is_spent:
            return self._link
        if self._link is not None:
            self._link.close()
            self._link = None
        since = time.monotonic() - self._tried
        if self._trouble is not None and since < RECONNECT_INTERVAL:
            raise StoreUnavailable(self._trouble)
        self._tried = time.monotonic()
        try:
            self._link = self._connect()
        except (library().Error, CommitUnknown, StoreRefused) as error:
            self._note(reason_of(error))
            raise unavailable(error) from error
        self.reconnects += 1
        if self._trouble is not None:
            self._log.info("the database can be used again")
            self._trouble = None
        return self._link

    def _note(self, trouble: str) -> None:
        if self._trouble is None:
            self._log.error("the database cannot be used: {trouble}", trouble=trouble)
        self._trouble = trouble

    def gives_up(self, since: float) -> bool:
        """Wait before another attempt to end a doubt; return whether to end it unresolved.

        :param since: when the doubt began (monotonic seconds); if it lasts, waiting jobs are refused.
        """
        time.sleep(RECONNECT_INTERVAL)
        if time.monotonic() - since > REFUSE_AFTER:
            self._refuse_waiting()
        return self._closed is not None and time.monotonic() - self._closed_at > CLOSING_PATIENCE

    def _refuse_waiting(self) -> None:
        for _ in range(self._jobs.qsize()):
            job = self._jobs.get_nowait()
            if job is None:
                self._jobs.put(None)
            else:
                error = StoreUnavailable(f"the database cannot be used: {self._trouble or 'no connection'}")
                self.complete([(job, error)])

    def complete(self, outcomes: list[tuple[Job, object]], then: Callable[[], object] = lambda: None) -> None:
        """Answer jobs in the reactor's thread, then call `then` there."""
        self._reactor.callFromThread(partial(self._answer, outcomes, then))

    def _answer(self, outcomes: list[tuple[Job, object]], then: Callable[[], object]) -> None:
        for job, result in outcomes:
            if job.done.called:
                continue
            if isinstance(result, Exception):
                job.done.errback(result)
            else:
                job.done.callback(result)
        try:
            then()
        except Exception:
            self._log.failure("counting a commit")


def run_each(lane: Lane, jobs: list[Job]) -> None:
    """Run jobs one by one; a job is called with the connection and whether it may have been done before."""
    for job in jobs:
        in_doubt, since = False, time.monotonic()
        while True:
            try:
                result: object = job.work(lane.link(), in_doubt)
            except CommitUnknown as error:
                lane.in_doubt += not in_doubt
                in_doubt = True
                if not lane.gives_up(since):
                    continue
                result = unavailable(error)
            except StoreUnavailable as error:
                if in_doubt and not lane.gives_up(since):
                    continue
                result = error
            except library().Error as error:
                if in_doubt and not lane.gives_up(since):
                    continue
                result = unavailable(error)
            except Exception as error:
                result = error
            break
        lane.complete([(job, result)])
