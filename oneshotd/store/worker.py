"""One thread that works the ledger: group commit, and what a failure leaves behind.

All that waits goes into one transaction; an answer is given after its COMMIT. A transaction
that certainly failed is rolled back and its callers told. One whose outcome is unknown (an
I/O error at COMMIT) is looked up in the reopened file; until that opens, its callers wait and
everybody else is refused.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.database import Connect, open_database
from oneshotd.store.interface import Loss
from oneshotd.store.ledger import Ledger
from oneshotd.store.pruning import make_room

T = TypeVar("T")

#: Seconds between attempts to open the file again while its last transaction is in doubt.
REOPEN_INTERVAL = 0.5


@frozen
class _Job:
    """Work for the thread.

    :param lone: it cannot run inside a transaction.
    """

    work: Callable[[], Any]
    done: Deferred[Any] | None = None
    lone: bool = False


_Outcome = tuple[_Job, object]


@frozen
class _Doubt:
    """A transaction whose COMMIT failed in an unknown way.

    :param head: seq of its newest event, 0 if it appended none.
    :param leases: the reservations to go back to if it did not come through.
    """

    outcomes: list[_Outcome]
    head: int
    leases: object


@frozen(kw_only=True)
class Committed:
    """What a transaction left, told to the reactor's thread before its answers.

    :param seconds: from its beginning to the end of its commit; None if it wrote nothing.
    """

    head: int
    seconds: float | None = None
    losses: Sequence[Loss] = ()


class GroupCommit:
    """The thread, its connection and its queue.

    :param told: called in the reactor's thread after each transaction.
    :raises StoreRefused: the file is not to be had.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        reactor: IReactorFromThreads,
        ledger: Ledger,
        connect: Connect,
        told: Callable[[Committed], object],
    ) -> None:
        self._path = path
        self._reactor = reactor
        self._ledger = ledger
        self._connect = connect
        self._told = told
        self._closed: Deferred[None] | None = None
        self._trouble: str | None = None
        self._connection: sqlite3.Connection | None = None
        self._changes = 0
        self._doubt: _Doubt | None = None
        self._open()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="oneshotd-sqlite", daemon=True)
        self._thread.start()

    def ask(self, work: Callable[[], T], lone: bool = False) -> Deferred[T]:
        """Have work done and committed; fails with `StoreUnavailable`.

        What waits cannot be called back, so cancelling the answer leaves only the answer out.
        """
        done: Deferred[T] = Deferred()
        if self._closed is not None:
            done.errback(StoreUnavailable("the store is closed"))
        else:
            self._jobs.put(_Job(work, done, lone))
        return done

    def post(self, work: Callable[[], object]) -> None:
        """Have work done that nobody waits for."""
        self._jobs.put(_Job(work))

    def close(self) -> Deferred[None]:
        """Do what waits, then let go of the file; later work is refused."""
        if self._closed is None:
            self._closed = Deferred()
            self._jobs.put(None)
        return self._closed

    def _answer(self, outcomes: list[_Outcome], committed: Committed) -> None:
        self._told(committed)
        for job, result in outcomes:
            if job.done is None or job.done.called:
                continue
            if isinstance(result, Exception):
                job.done.errback(result)
            else:
                job.done.callback(result)

    # -- in the thread

    def _work(self) -> None:
        open_ = True
        while open_:
            batch: list[_Job] = []
            try:
                job = self._jobs.get(timeout=REOPEN_INTERVAL if self._doubt else None)
                while job is not None:
                    batch.append(job)
                    job = self._jobs.get_nowait()
                open_ = False  # the last job is None: what came before it is still done
            except Empty:
                pass
            self._run(batch)
        self._end()

    def _run(self, batch: list[_Job]) -> None:
        lone = [job for job in batch if job.lone]
        together = [job for job in batch if not job.lone]
        if self._connection is None:
            self._reopen()
        if self._connection is None:
            self._refuse(batch)
            return
        if together:
            self._transaction(together)
        for job in lone:
            self._tell([(job, _result_of(job))])

    def _transaction(self, jobs: list[_Job]) -> None:
        """Run jobs in one transaction; each gets its result after the commit, or the failure."""
        ledger, connection = self._ledger, self._ledger.connection
        leases = ledger.leases.snapshot()
        started = ledger.monotonic()
        head = ledger.head
        committing = False
        outcomes: list[_Outcome] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            ledger.begin()
            outcomes = [(job, job.work()) for job in jobs]
            ledger.flush()
            losses = make_room(ledger)
            changed = connection.total_changes
            committing = True
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            doubtful = committing and _code(error) != sqlite3.SQLITE_FULL
            self._note(f"the store cannot be written: {error}")
            if doubtful:
                appended = ledger.head if ledger.head != head else 0
                self._doubt = _Doubt(outcomes, appended, leases)
                self._shut()
                self._reopen()
            else:
                ledger.leases.restore(leases)
                self._roll_back()
                self._refuse(jobs)
        except Exception as error:
            # One job's own fault. The others must not pay for it, so each gets its own transaction.
            ledger.leases.restore(leases)
            self._roll_back()
            if len(jobs) == 1:
                self._tell([(jobs[0], error)])
            else:
                for job in jobs:
                    self._transaction([job])
        else:
            wrote, self._changes = changed != self._changes, changed
            if wrote and self._trouble is not None:
                self._log.info("the store can be written again")
                self._trouble = None
            self._tell(outcomes, ledger.monotonic() - started if wrote else None, losses)

    def _roll_back(self) -> None:
        connection = self._ledger.connection
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._ledger.load(connection)
        except sqlite3.Error as error:
            self._note(f"the store cannot be read: {error}")
            self._shut()

    def _open(self) -> None:
        connection = open_database(self._path, self._connect)
        try:
            self._ledger.load(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._changes = connection.total_changes

    def _reopen(self) -> None:
        """Open the file again; if a transaction is in doubt, look what became of it."""
        try:
            self._open()
            doubt = self._doubt
            came_through = doubt is not None and 0 < doubt.head <= self._ledger.head
            if came_through:
                # A checkpoint proves that it is on disk, and not only in a cache.
                self._ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (sqlite3.Error, StoreRefused) as error:
            self._note(str(error))
            self._shut()
            return
        self._log.info("the store {path} is open again", path=self._path)
        self._doubt = None
        if doubt is None:
            return
        if came_through:
            self._tell(doubt.outcomes)
        else:
            # Settlements among it may be on disk all the same; to settle again changes nothing.
            self._ledger.leases.restore(doubt.leases)
            self._refuse([job for job, _ in doubt.outcomes])

    def _shut(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                self._log.warn("closing the store: {error}", error=str(error))
            self._connection = None

    def _end(self) -> None:
        if self._connection is not None:
            self._transaction([_Job(self._ledger.last_words)])
        self._shut()
        if self._doubt is not None:
            self._refuse([job for job, _ in self._doubt.outcomes])
        assert self._closed is not None
        self._reactor.callFromThread(self._closed.callback, None)

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._log.error("{trouble}", trouble=trouble)
        self._trouble = trouble

    def _refuse(self, jobs: Sequence[_Job]) -> None:
        error = StoreUnavailable(self._trouble or "the store is closed")
        self._tell([(job, error) for job in jobs])

    def _tell(
        self, outcomes: list[_Outcome], seconds: float | None = None, losses: Sequence[Loss] = ()
    ) -> None:
        committed = Committed(head=self._ledger.head, seconds=seconds, losses=losses)
        self._reactor.callFromThread(partial(self._answer, outcomes, committed))


def _result_of(job: _Job) -> object:
    try:
        return job.work()
    except sqlite3.Error as error:
        return StoreUnavailable(str(error))
    except Exception as error:
        return error


def _code(error: sqlite3.Error) -> int:
    """The primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
