"""The default store: the ledger in a SQLite file, worked by one thread (`worker.py`)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from oneshotd.core.event import Event, Group
from oneshotd.core.scraper import Visit
from oneshotd.store.clock import Clock
from oneshotd.store.database import Connect, plain_connect
from oneshotd.store.interface import Census, Conflict, IStore, Loss, Reservation, Settled, Stored
from oneshotd.store.ledger import Ledger, Limits
from oneshotd.store.pruning import prune
from oneshotd.store.worker import Committed, GroupCommit


@implementer(IStore)
class SQLiteStore:
    """See `IStore`; open it with the constructor, end it with `close`.

    :param path: the file; made if it does not exist.
    :param reactor: answers are given in its thread.
    :param committed: called in the reactor's thread with the seconds of each commit.
    :param connect: how a connection is made, for tests that let the disk fail.
    :raises StoreRefused: the file is not to be had.
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
        self._losses: list[Loss] = []
        self._waiting: list[tuple[int, Deferred[int]]] = []
        self._ledger = Ledger(limits or Limits(), clock or Clock())
        self._worker = GroupCommit(os.path.abspath(path), reactor, self._ledger, connect, self._told)
        self._head = self._ledger.head

    def _told(self, committed: Committed) -> None:
        self._losses += committed.losses
        if committed.seconds is not None:
            self._committed(committed.seconds)
        self._head = max(self._head, committed.head)
        due = [waiter for waiter in self._waiting if waiter[0] < self._head]
        for waiter in due:
            self._waiting.remove(waiter)
            waiter[1].callback(self._head)

    def append(self, groups: Sequence[Group]) -> Deferred[list[Stored | Conflict]]:
        return self._worker.ask(lambda: self._ledger.append(groups))

    def reserve(self, visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        return self._worker.ask(lambda: self._ledger.reserve(visit, lease, limit))

    def look(self, visit: Visit, limit: int) -> Deferred[Reservation]:
        return self._worker.ask(lambda: self._ledger.look(visit, limit))

    def settle(
        self, token: int, delivered: bool, cursor: int, newly_owed: Sequence[int], went_out: Sequence[int]
    ) -> Deferred[Settled]:
        settling = self._ledger.leases.settling
        settling.add(token)  # from here on the lease does not lapse, even if the disk refuses

        def settled(result: Settled) -> Settled:
            settling.discard(token)
            return result

        return self._worker.ask(
            lambda: self._ledger.settle(token, delivered, cursor, newly_owed, went_out)
        ).addCallback(settled)

    def revoke(self, token: int) -> Deferred[Settled]:
        return self._worker.ask(lambda: self._ledger.revoke(token))

    def release(self, token: int) -> None:
        self._worker.post(lambda: self._ledger.release(token))

    def census(self) -> Deferred[Census]:
        return self._worker.ask(self._ledger.census)

    def events(self, after: int, where: Mapping[str, str], limit: int) -> Deferred[list[Event]]:
        return self._worker.ask(lambda: self._ledger.events(after, where, limit))

    def changed(self, after: int) -> Deferred[int]:
        if self._head > after:
            return succeed(self._head)
        waiter: Deferred[int] = Deferred(lambda cancelled: self._waiting.remove((after, cancelled)))
        self._waiting.append((after, waiter))
        return waiter

    def prune(self) -> Deferred[list[Loss]]:
        return Deferred.fromCoroutine(self._prune())

    async def _prune(self) -> list[Loss]:
        more = True
        while more:
            losses, more = await self._worker.ask(lambda: prune(self._ledger))
            self._losses += losses
        found, self._losses = self._losses, []
        return found

    def check(self) -> Deferred[None]:
        return self._worker.ask(self._ledger.write_time)

    def backup(self, path: str) -> Deferred[None]:
        def copy() -> None:
            target = sqlite3.connect(path)
            try:
                self._ledger.connection.backup(target)
            finally:
                target.close()

        return self._worker.ask(copy, lone=True)

    def close(self) -> Deferred[None]:
        return self._worker.close()
