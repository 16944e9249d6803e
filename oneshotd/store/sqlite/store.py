"""The default store: a SQLite file, used by one thread (`worker.py`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.core.events import Group
from oneshotd.core.filters import Selection
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.store.abilities import IBackup
from oneshotd.store.clock import Clock
from oneshotd.store.interface import (
    NOTHING_SENT,
    Conflict,
    IStore,
    LogPage,
    Loss,
    Reservation,
    Sent,
    Settled,
    Stored,
    StoreStats,
)
from oneshotd.store.limits import Limits
from oneshotd.store.sqlite.backup import aside, copy_pages, put_in_place
from oneshotd.store.sqlite.connection import Connect, plain_connect
from oneshotd.store.sqlite.figures import stats
from oneshotd.store.sqlite.ledger import Ledger
from oneshotd.store.sqlite.lookback import recent
from oneshotd.store.sqlite.retention import prune
from oneshotd.store.sqlite.worker import GroupCommit

T = TypeVar("T")


@implementer(IStore, IBackup)
class SQLiteStore:
    """A store in a SQLite file, opened by the constructor; see `IStore` and `IBackup`.

    :param path: the file; created if it does not exist.
    :param reactor: answers are given in its thread.
    :param committed: called in the reactor's thread with the seconds of each commit.
    :param connect: opens the connection; tests pass one that fails.
    :raises StoreRefused: the file cannot be used.
    """

    def __init__(
        self,
        path: str,
        reactor: IReactorFromThreads,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        committed: Callable[[float], object] = lambda seconds: None,
        connect: Connect = plain_connect,
    ) -> None:
        self._committed = committed
        self._reactor = reactor
        self._losses: list[Loss] = []
        self._ledger = Ledger(limits or Limits(), clock or Clock())
        self._worker = GroupCommit(os.path.abspath(path), reactor, self._ledger, connect, self._told)

    def _told(self, seconds: float | None, losses: Sequence[Loss]) -> None:
        self._losses += losses
        if seconds is not None:
            self._committed(seconds)

    def append(self, groups: Sequence[Group]) -> Deferred[list[Stored | Conflict]]:
        return self._worker.submit(lambda: self._ledger.append(groups))

    def reserve(self, visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        return self._worker.submit(lambda: self._ledger.reserve(visit, lease, limit))

    def look(self, visit: Visit, limit: int) -> Deferred[Reservation]:
        return self._worker.submit(lambda: self._ledger.look(visit, limit))

    def settle(
        self,
        token: int,
        delivered: bool,
        cursor: int,
        newly_owed: Sequence[int],
        went_out: Sequence[int],
        history: TimestampHistory | None = None,
        lost: Mapping[str, Sequence[int]] = MappingProxyType({}),
        sent: Sent = NOTHING_SENT,
    ) -> Deferred[Settled]:
        return self._end(
            token,
            lambda: self._ledger.settle(token, delivered, cursor, newly_owed, went_out, history, lost, sent),
        )

    def revoke(self, token: int, sent: Sent = NOTHING_SENT) -> Deferred[Settled]:
        return self._end(token, lambda: self._ledger.revoke(token, sent))

    def _end(self, token: int, work: Callable[[], Settled]) -> Deferred[Settled]:
        """Settle or revoke; the lease does not lapse until that succeeds, as the caller repeats it."""
        settling = self._ledger.leases.settling
        settling.add(token)

        def ended(result: Settled) -> Settled:
            settling.discard(token)
            return result

        def failed(failure: Failure) -> Failure:
            settling.add(token)  # an earlier settlement of it may have succeeded meanwhile
            return failure

        return self._worker.submit(work).addCallbacks(ended, failed)

    def release(self, token: int) -> Deferred[None]:
        return self._worker.submit_memory_job(lambda: self._ledger.release(token))

    def stats(self) -> Deferred[StoreStats]:
        return self._worker.submit(lambda: stats(self._ledger))

    def recent(self, selection: Selection, before: int | None, limit: int) -> Deferred[LogPage]:
        return self._worker.submit(lambda: recent(self._ledger, selection, before, limit))

    def prune(self) -> Deferred[list[Loss]]:
        return Deferred.fromCoroutine(self._prune())

    async def _prune(self) -> list[Loss]:
        more = True
        while more:
            losses, more = await self._worker.submit(lambda: prune(self._ledger))
            self._losses += losses
        found, self._losses = self._losses, []
        return found

    def check(self) -> Deferred[None]:
        return self._worker.submit(self._ledger.write_time)

    def backup(self, path: str) -> Deferred[None]:
        result: Deferred[None] = Deferred()  # cancelling it does not cancel the copy
        copied = self._worker.submit(
            lambda: copy_pages(self._ledger.connection, path, self._worker.run_pending), lone=True
        )
        copied.addCallback(lambda _: aside(self._reactor, lambda: put_in_place(path)))
        copied.chainDeferred(result)
        return result

    def close(self) -> Deferred[None]:
        return self._worker.close()
