"""Stores in trouble: the real one behind answers that are withheld, or on a disk that fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar, cast

from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred, fail
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from oneshotd.core.events import Group
from oneshotd.core.filters import Selection
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.errors import StoreUnavailable
from oneshotd.store.abilities import IBackup
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

T = TypeVar("T")


class Disk:
    """A disk that can be full; `connect` is for `SQLiteStore`."""

    def __init__(self) -> None:
        self.full = False

    def connect(self, path: str) -> sqlite3.Connection:
        """A connection that notices when the disk is full, as late as it can: when what was
        written is committed."""
        disk = self

        class Connection(sqlite3.Connection):
            changes = 0

            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql == "BEGIN IMMEDIATE":
                    self.changes = self.total_changes
                if sql == "COMMIT" and disk.full and self.total_changes > self.changes:
                    error = sqlite3.OperationalError("database or disk is full")
                    error.sqlite_errorcode = sqlite3.SQLITE_FULL
                    raise error
                return super().execute(sql, *parameters)

        return sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=0, factory=Connection
        )


@implementer(IStore, IBackup)
class TroubledStore:
    """Passes everything on to a store, except what is to go wrong.

    :ivar faults: name of a method -> what it fails with, without the store being asked.
    :ivar silent: names of methods that give no answer until `resume`.
    :ivar calls: the names of the methods called, in order.
    :ivar leases: the lease (seconds) of each reservation.
    """

    def __init__(self, store: IStore) -> None:
        self.store = store
        self.faults: dict[str, Exception] = {}
        self.silent: set[str] = set()
        self.calls: list[str] = []
        self.leases: list[float] = []
        self._held: list[Callable[[], object]] = []

    def refuse(self, *methods: str) -> None:
        """The disk is full, as far as these are concerned."""
        self.faults.update(dict.fromkeys(methods, StoreUnavailable("the disk is full")))

    def resume(self) -> None:
        """Everything works again; what was asked meanwhile is asked now."""
        self.faults.clear()
        self.silent.clear()
        held, self._held = self._held, []
        for ask in held:
            ask()

    def _ask(self, method: str, ask: Callable[[], Deferred[T]]) -> Deferred[T]:
        self.calls.append(method)
        if method in self.faults:
            return fail(self.faults[method])
        if method not in self.silent:
            return ask()
        answer: Deferred[T] = Deferred()
        self._held.append(lambda: ask().chainDeferred(answer))
        return answer

    def append(self, groups: Sequence[Group]) -> Deferred[list[Stored | Conflict]]:
        return self._ask("append", partial(self.store.append, groups))

    def reserve(self, visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        self.leases.append(lease)
        return self._ask("reserve", partial(self.store.reserve, visit, lease, limit))

    def look(self, visit: Visit, limit: int) -> Deferred[Reservation]:
        return self._ask("look", partial(self.store.look, visit, limit))

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
        self._keep(token)
        ask = partial(self.store.settle, token, delivered, cursor, newly_owed, went_out, history, lost, sent)
        return self._ask("settle", ask)

    def revoke(self, token: int, sent: Sent = NOTHING_SENT) -> Deferred[Settled]:
        self._keep(token)
        return self._ask("revoke", partial(self.store.revoke, token, sent))

    def _keep(self, token: int) -> None:
        """The real store is not asked yet, but a lease whose end was asked for must not lapse."""
        cast(Any, self.store)._ledger.leases.settling.add(token)

    def release(self, token: int) -> Deferred[None]:
        return self._ask("release", partial(self.store.release, token))

    def stats(self) -> Deferred[StoreStats]:
        return self._ask("stats", self.store.stats)

    def recent(self, selection: Selection, before: int | None, limit: int) -> Deferred[LogPage]:
        return self._ask("recent", partial(self.store.recent, selection, before, limit))

    def prune(self) -> Deferred[list[Loss]]:
        return self._ask("prune", self.store.prune)

    def check(self) -> Deferred[None]:
        return self._ask("check", self.store.check)

    def backup(self, path: str) -> Deferred[None]:
        return self._ask("backup", partial(IBackup(self.store).backup, path))

    def close(self) -> Deferred[None]:
        return self._ask("close", self.store.close)


def quiet(pump: ThreadPump, store: IStore) -> None:
    """Wait until the real store has answered everything, and whatever that led to."""
    for _ in range(4):
        pump.get(store.stats().addErrback(lambda _: None))


@contextmanager
def logged() -> Iterator[list[LogEvent]]:
    """What is logged meanwhile."""
    seen: list[LogEvent] = []

    @implementer(ILogObserver)
    def keep(event: LogEvent) -> None:
        seen.append(event)

    globalLogPublisher.addObserver(keep)
    try:
        yield seen
    finally:
        globalLogPublisher.removeObserver(keep)
