"""The store's thread: it runs jobs on the ledger, many in one transaction (group commit).

States, and what happens to a batch of jobs in each:

* open: it runs in one transaction.
* shut (no `_connection`): the file is reopened first, or the batch is refused.
* in doubt (`_doubt`): as shut, but memory jobs wait; reopened every `REOPEN_INTERVAL` seconds, too.
* closed: it is refused.

===========================================================  ===================  ========================
transition                                                   jobs are answered    next state
===========================================================  ===================  ========================
COMMIT succeeds                                              with their results   open
an error before COMMIT, or SQLITE_FULL at it: rolled back    `StoreUnavailable`   open; shut if `_suspect`
another error at COMMIT                                      not yet              in doubt
a job raises an exception: rolled back, each job run alone   each by itself       open
reopened, and the commit marker is the transaction's         with their results   open
reopened, and it is another: leases are restored             `StoreUnavailable`   open
reopening fails                                              not if in doubt      the same
an unexpected exception                                      `StoreUnavailable`   shut or in doubt
`close`: waiting jobs run, then doubt ends                   `StoreUnavailable`   closed
===========================================================  ===================  ========================

`_suspect`: something could not be read; the next opening looks at every page. Invariants:

* A job is answered once, in the reactor's thread, when it is certain whether it is on disk.
* Jobs run in the order of submission; only a lone job lets the rest of its batch pass.
* A memory job takes effect whatever becomes of its transaction: it runs again after a rollback.
* Each transaction that writes changes `Ledger.commit_marker`.
* `_head` is on disk; a file that takes the store's place gives no seq up to it.
* Of connection and ledger the reactor's thread touches `Leases.settling` alone.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.interface import Loss
from oneshotd.store.sqlite.connection import Connect, is_corrupt, open_database, primary_code, reason_of
from oneshotd.store.sqlite.jobs import Doubt, Job, Results, result_of
from oneshotd.store.sqlite.ledger import Ledger
from oneshotd.store.sqlite.retention import make_room

T = TypeVar("T")

#: Seconds between attempts to reopen the file while its last transaction is in doubt.
REOPEN_INTERVAL = 0.5


class GroupCommit:
    """The store's thread with its connection and its queue of jobs.

    :param told: called in the reactor's thread after each transaction and its answers, with the seconds
        from BEGIN to the end of COMMIT (None if it wrote nothing), and what a full log cost scrapers.
    :raises StoreRefused: the file cannot be used.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        reactor: IReactorFromThreads,
        ledger: Ledger,
        connect: Connect,
        told: Callable[[float | None, Sequence[Loss]], object],
    ) -> None:
        self._path = path
        self._reactor = reactor
        self._ledger = ledger
        self._connect = connect
        self._told = told
        self._closed: Deferred[None] | None = None
        self._trouble: str | None = None
        self._connection: sqlite3.Connection | None = None
        self._doubt: Doubt | None = None
        self._head = 0
        self._suspect = False
        self._open_first()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="oneshotd-sqlite", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], lone: bool = False) -> Deferred[T]:
        """Run work in a transaction and return its result; fails with `StoreUnavailable`.

        Cancelling the Deferred drops the answer; the work is done all the same.
        """
        done: Deferred[T] = Deferred()
        if self._closed is not None:
            done.errback(StoreUnavailable("the store is closed"))
        else:
            self._jobs.put(Job(work, done, lone))
        return done

    def submit_memory_job(self, work: Callable[[], object]) -> Deferred[None]:
        """Run work that needs no disk, before all jobs submitted later; dropped if the store is closed."""
        self._jobs.put(Job(work, in_memory=True))
        return succeed(None)

    def run_pending(self) -> None:
        """Run the waiting jobs; called in the thread, between two steps of a long lone job.

        :raises StoreUnavailable: the long job has to end, since the store is being closed or its file
            was reopened.
        """
        connection = self._connection
        batch: list[Job] = []
        for _ in range(self._jobs.qsize()):
            job = self._jobs.get_nowait()
            if job is None or job.lone:
                self._jobs.put(job)  # it runs after the long job
            else:
                batch.append(job)
        if batch:
            self._attempt(batch)
        if self._closed is not None or self._connection is not connection:
            raise StoreUnavailable(
                "the store is closed" if self._closed is not None else "the store was reopened"
            )

    def close(self) -> Deferred[None]:
        """Run the waiting jobs, then close the file; later jobs are refused."""
        if self._closed is None:
            self._closed = Deferred()
            self._jobs.put(None)
        return self._closed

    def _answer(self, outcomes: Results, seconds: float | None, losses: Sequence[Loss]) -> None:
        for job, result in outcomes:
            if job.done is None or job.done.called:
                continue
            if isinstance(result, Exception):
                job.done.errback(result)
            else:
                job.done.callback(result)
        try:
            self._told(seconds, losses)
        except Exception:
            self._log.failure("counting a commit")

    # -- in the thread

    def _work(self) -> None:
        open_ = True
        while open_:
            batch: list[Job] = []
            try:
                job = self._jobs.get(timeout=REOPEN_INTERVAL if self._doubt else None)
                while job is not None:
                    batch.append(job)
                    job = self._jobs.get_nowait()
                open_ = False  # None was put behind the last job by `close`
            except Empty:
                pass
            self._attempt(batch)
        self._attempt([Job(self._ledger.write_final_state)])
        self._shut()
        if self._doubt is not None:
            self._refuse([job for job, _ in self._doubt.outcomes])
        assert self._closed is not None
        self._reactor.callFromThread(self._closed.callback, None)

    def _attempt(self, batch: list[Job]) -> None:
        try:
            self._run(batch)
        except Exception as error:
            # The ledger in memory may be wrong: the next batch reads it again from the file.
            self._log.failure("the store's thread failed")
            self._note(f"the store failed: {error!r}")
            self._shut()
            doubtful = {job for job, _ in self._doubt.outcomes} if self._doubt else set()
            self._refuse([job for job in batch if job not in doubtful])

    def _run(self, batch: list[Job]) -> None:
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
            self._complete([(job, result_of(job))])

    def _transaction(self, jobs: list[Job]) -> None:
        """Run jobs in one transaction; answer each with its result after COMMIT, or with the failure."""
        ledger, connection = self._ledger, self._ledger.connection
        leases = ledger.leases.snapshot()
        started = ledger.monotonic()
        committing = False
        outcomes: Results = []
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
                self._doubt = Doubt(outcomes, losses, ledger.commit_marker, leases)
                self._shut()
                self._reopen()
            else:
                ledger.leases.restore(leases)
                self._roll_back()
                self._refuse(jobs)
        except Exception as error:
            # One job is wrong. Each gets its own transaction, so that the others are stored.
            ledger.leases.restore(leases)
            self._roll_back()
            if len(jobs) == 1:
                self._complete([(jobs[0], error)])
            else:
                for job in jobs:
                    self._transaction([job])
        else:
            ledger.corrections.committed()
            self._head = ledger.head
            if wrote and self._trouble is not None:
                self._log.info("the store can be written again")
                self._trouble = None
            self._complete(outcomes, ledger.monotonic() - started if wrote else None, losses)

    def _roll_back(self) -> None:
        connection = self._ledger.connection
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if self._suspect:
                self._shut()  # the next opening looks for what is wrong with the file
            else:
                self._ledger.load(connection)
        except sqlite3.Error as error:
            self._note(f"the store cannot be read: {error}")
            self._shut()

    def _open_first(self) -> None:
        damage = (sqlite3.Error, TypeError, ValueError)  # a damaged row may be of any type
        try:
            self._open()
        except damage:
            self._suspect = True
            try:
                self._open()
            except damage as error:
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
        """Reopen the file; if a transaction is in doubt, find out whether it was committed."""
        try:
            if not os.path.exists(self._path):
                # The volume may be unmounted; SQLite would make a new, empty file.
                raise StoreRefused(f"the store {self._path} has vanished")
            self._open()
            doubt = self._doubt
            was_committed = doubt is not None and doubt.marker == self._ledger.commit_marker
            if was_committed:
                # Until a checkpoint it may be in a cache only.
                self._ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (sqlite3.Error, StoreRefused) as error:
            self._suspect = self._suspect or (isinstance(error, sqlite3.Error) and is_corrupt(error))
            self._note(str(error))
            self._shut()
            return
        # At level debug: while writes fail, the file is reopened with every commit.
        self._log.debug("the store {path} is open again", path=self._path)
        self._doubt = None
        if doubt is None:
            return
        if was_committed:
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

    def _refuse(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.in_memory:
                job.work()
        error = StoreUnavailable(self._trouble or "the store is closed")
        self._complete([(job, error) for job in jobs])

    def _complete(self, outcomes: Results, seconds: float | None = None, losses: Sequence[Loss] = ()) -> None:
        self._reactor.callFromThread(partial(self._answer, outcomes, seconds, losses))
