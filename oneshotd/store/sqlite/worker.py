"""One thread that works the ledger: group commit, and what a failure leaves behind.

All that waits goes into one transaction; an answer is given after its COMMIT. A transaction
that certainly failed is rolled back and its callers told. One whose outcome is unknown (an
I/O error at COMMIT) is looked up in the reopened file; until that opens, its callers wait and
everybody else is refused.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.interface import Loss
from oneshotd.store.sqlite.connection import Connect, is_corrupt, open_database, primary_code, reason_of
from oneshotd.store.sqlite.ledger import Ledger
from oneshotd.store.sqlite.retention import make_room

T = TypeVar("T")

#: Seconds between attempts to open the file again while its last transaction is in doubt.
REOPEN_INTERVAL = 0.5


@frozen(eq=False)
class _Job:
    """Work for the thread.

    :param lone: it cannot run inside a transaction.
    :param in_memory: it needs no disk, so it is done even if its transaction fails.
    :param at_once: called in the thread when it is committed; not if that was in doubt.
    """

    work: Callable[[], Any]
    done: Deferred[Any] | None = None
    lone: bool = False
    in_memory: bool = False
    at_once: Callable[[], object] | None = None


_Outcome = tuple[_Job, object]


@frozen
class _Doubt:
    """A transaction whose COMMIT failed in an unknown way.

    :param marker: the ledger's, if it came through.
    :param leases: the reservations to go back to if it did not come through.
    :param then: what has come in meanwhile and needs no disk.
    """

    outcomes: list[_Outcome]
    losses: Sequence[Loss]
    marker: tuple[int, int]
    leases: object
    then: list[_Job] = field(factory=list)


@frozen(kw_only=True)
class Committed:
    """What a transaction left, told to the reactor's thread behind its answers.

    :param seconds: from its beginning to the end of its commit; None if it wrote nothing.
    """

    seconds: float | None = None
    losses: Sequence[Loss] = ()


class GroupCommit:
    """The thread, its connection and its queue.

    :param told: called in the reactor's thread after each transaction, and after its answers.
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
        self._doubt: _Doubt | None = None
        self._head = 0  # of what is certainly on disk
        self._suspect = False  # something in the file could not be read
        self._open_first()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="oneshotd-sqlite", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[], T], lone: bool = False, at_once: Callable[[], object] | None = None
    ) -> Deferred[T]:
        """Have work done and committed; fails with `StoreUnavailable`.

        What waits cannot be called back, so cancelling the answer leaves only the answer out.
        """
        done: Deferred[T] = Deferred()
        if self._closed is not None:
            done.errback(StoreUnavailable("the store is closed"))
        else:
            self._jobs.put(_Job(work, done, lone, at_once=at_once))
        return done

    def submit_memory_job(self, work: Callable[[], object]) -> Deferred[None]:
        """Have work done that needs no disk; fails with `StoreUnavailable` if the store is closed.

        The Deferred fires at once: the job is run whatever becomes of its transaction, and before every
        job that is submitted later.
        """
        if self._closed is not None:
            return fail(StoreUnavailable("the store is closed"))
        self._jobs.put(_Job(work, in_memory=True))
        return succeed(None)

    def run_pending(self) -> None:
        """Do what waits, between two steps of a long lone job that calls this in the thread.

        :raises StoreUnavailable: the job has to end, since the store is being closed or its file
            was opened anew.
        """
        connection = self._connection
        batch: list[_Job] = []
        for _ in range(self._jobs.qsize()):
            job = self._jobs.get_nowait()
            if job is None or job.lone:
                self._jobs.put(job)  # its turn comes after this one
            else:
                batch.append(job)
        if batch:
            self._attempt(batch)
        if self._closed is not None or self._connection is not connection:
            raise StoreUnavailable(
                "the store is closed" if self._closed is not None else "the store was opened anew"
            )

    def close(self) -> Deferred[None]:
        """Do what waits, then let go of the file; later work is refused."""
        if self._closed is None:
            self._closed = Deferred()
            self._jobs.put(None)
        return self._closed

    def _answer(self, outcomes: list[_Outcome], committed: Committed) -> None:
        for job, result in outcomes:
            if job.done is None or job.done.called:
                continue
            if isinstance(result, Exception):
                job.done.errback(result)
            else:
                job.done.callback(result)
        try:
            self._told(committed)
        except Exception:
            self._log.failure("noting a commit")

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
            self._attempt(batch)
        self._attempt([_Job(self._ledger.write_final_state)])
        self._shut()
        if self._doubt is not None:
            self._refuse([job for job, _ in self._doubt.outcomes])
        assert self._closed is not None
        self._reactor.callFromThread(self._closed.callback, None)

    def _attempt(self, batch: list[_Job]) -> None:
        try:
            self._run(batch)
        except Exception as error:
            # Nobody shall wait for ever: the file is opened and read anew.
            self._log.failure("the store's thread stumbled")
            self._note(f"the store failed: {error!r}")
            self._shut()
            doubtful = {job for job, _ in self._doubt.outcomes} if self._doubt else set()
            self._refuse([job for job in batch if job not in doubtful])

    def _run(self, batch: list[_Job]) -> None:
        lone = [job for job in batch if job.lone]
        together = [job for job in batch if not job.lone]
        if self._connection is None:
            self._reopen()
        if self._connection is None:
            if self._doubt is not None:
                self._doubt.then.extend(job for job in batch if job.in_memory)
                batch = [job for job in batch if not job.in_memory]
            self._refuse(batch)
            return
        if together:
            self._transaction(together)
        for job in lone:
            self._complete([(job, _result_of(job))])

    def _transaction(self, jobs: list[_Job]) -> None:
        """Run jobs in one transaction; each gets its result after the commit, or the failure."""
        ledger, connection = self._ledger, self._ledger.connection
        leases = ledger.leases.snapshot()
        started = ledger.monotonic()
        committing = False
        outcomes: list[_Outcome] = []
        losses: Sequence[Loss] = ()
        try:
            marker, changes = ledger.commit_marker, connection.total_changes
            connection.execute("BEGIN IMMEDIATE")
            ledger.begin()
            outcomes = [(job, job.work()) for job in jobs]
            ledger.flush()
            losses = make_room(ledger)
            wrote = connection.total_changes != changes
            if wrote and ledger.commit_marker == marker:
                ledger.bump_commit_counter()
            committing = True
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._suspect = self._suspect or is_corrupt(error)
            self._note(f"the store cannot be written: {reason_of(error)}")
            if committing and primary_code(error) != sqlite3.SQLITE_FULL:
                self._doubt = _Doubt(outcomes, losses, ledger.commit_marker, leases)
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
                self._complete([(jobs[0], error)])
            else:
                for job in jobs:
                    self._transaction([job])
        else:
            self._say_at_once(jobs)
            ledger.corrections.committed()
            self._head = ledger.head
            if wrote and self._trouble is not None:
                self._log.info("the store can be written again")
                self._trouble = None
            self._complete(outcomes, ledger.monotonic() - started if wrote else None, losses)

    def _say_at_once(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            try:
                if job.at_once is not None:
                    job.at_once()
            except Exception:
                self._log.failure("who was told of a commit at once")

    def _roll_back(self) -> None:
        connection = self._ledger.connection
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if self._suspect:
                self._shut()  # what is wrong with the file is found when it is opened again
            else:
                self._ledger.load(connection)
        except sqlite3.Error as error:
            self._note(f"the store cannot be read: {error}")
            self._shut()

    def _open_first(self) -> None:
        nonsense = (sqlite3.Error, TypeError, ValueError)  # a rotten row may be of any type
        try:
            self._open()
        except nonsense:
            self._suspect = True
            try:
                self._open()
            except nonsense as error:
                raise StoreRefused(f"cannot read the store {self._path}: {error}") from error

    def _open(self) -> None:
        connection = open_database(self._path, self._connect, self._suspect)
        try:
            self._ledger.load(connection)
            if self._ledger.head < self._head:
                self._ledger.resume_sequence_after(self._head)
                if self._doubt is not None:
                    self._doubt = evolve(self._doubt, leases=self._ledger.leases.snapshot())
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._suspect = False
        self._head = self._ledger.head

    def _reopen(self) -> None:
        """Open the file again; if a transaction is in doubt, look what became of it."""
        try:
            if not os.path.exists(self._path):
                # Unmounted, perhaps; a new file would be an empty one.
                raise StoreRefused(f"the store {self._path} has vanished")
            self._open()
            doubt = self._doubt
            came_through = doubt is not None and doubt.marker == self._ledger.commit_marker
            if came_through:
                # A checkpoint proves that it is on disk, and not only in a cache.
                self._ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (sqlite3.Error, StoreRefused) as error:
            self._suspect = self._suspect or (isinstance(error, sqlite3.Error) and is_corrupt(error))
            self._note(str(error))
            self._shut()
            return
        # Not at each attempt for the operator: while writes fail there is one with every commit.
        self._log.debug("the store {path} is open again", path=self._path)
        self._doubt = None
        if doubt is None:
            return
        if came_through:
            self._ledger.corrections.committed()
            self._complete(doubt.outcomes, losses=doubt.losses)
        else:
            self._ledger.leases.restore(doubt.leases)
            self._refuse([job for job, _ in doubt.outcomes])
        for job in doubt.then:
            job.work()

    def _shut(self) -> None:
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                self._log.warn("closing the store: {error}", error=str(error))
            self._connection = None

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._log.error("{trouble}", trouble=trouble)
        self._trouble = trouble

    def _refuse(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            if job.in_memory:
                job.work()
        error = StoreUnavailable(self._trouble or "the store is closed")
        self._complete([(job, error) for job in jobs])

    def _complete(
        self, outcomes: list[_Outcome], seconds: float | None = None, losses: Sequence[Loss] = ()
    ) -> None:
        committed = Committed(seconds=seconds, losses=losses)
        self._reactor.callFromThread(partial(self._answer, outcomes, committed))


def _result_of(job: _Job) -> object:
    try:
        return job.work()
    except sqlite3.Error as error:
        return StoreUnavailable(str(error))
    except Exception as error:
        return error
