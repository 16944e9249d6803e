"""A disk that fails on demand, and a store on it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from support.store_backends import Backend
from support.thread_pump import PATIENCE, T, ThreadPump
from twisted.internet.defer import Deferred

from oneshotd.store.interface import IStore
from oneshotd.store.sqlite.store import SQLiteStore

TEXTS = {
    sqlite3.SQLITE_FULL: "database or disk is full",
    sqlite3.SQLITE_IOERR: "disk I/O error",
    sqlite3.SQLITE_CORRUPT: "database disk image is malformed",
}


@frozen
class Fault:
    """A statement that fails.

    :param start: how it begins.
    :param after: it is carried out all the same.
    """

    start: str
    code: int = sqlite3.SQLITE_IOERR
    after: bool = False

    def error(self) -> sqlite3.OperationalError:
        """As the module raises it."""
        error = sqlite3.OperationalError(TEXTS[self.code])
        error.sqlite_errorcode = self.code
        return error


@define
class Disk:
    """What all connections of one store have in common.

    :ivar connecting: fails every attempt to open the file, as long as it is set here.
    :ivar statements: what was executed, in order.
    """

    connecting: Exception | None = None
    statements: list[str] = field(factory=list)
    _fault: Fault | None = None
    _times: int = 0
    _gate: threading.Event | None = None
    _reached: threading.Event = field(factory=threading.Event)

    def fail(self, fault: Fault, times: int = 1) -> None:
        """The next so many such statements fail."""
        self._fault, self._times = fault, times

    def mend(self) -> None:
        """All is well again."""
        self._fault = self.connecting = None

    def connect(self, path: str) -> sqlite3.Connection:
        """For `SQLiteStore`."""
        if self.connecting is not None:
            raise self.connecting
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=0, factory=FaultyConnection
        )
        assert isinstance(connection, FaultyConnection)
        connection.disk = self
        return connection

    def stop(self) -> None:
        """The next transaction waits at its beginning."""
        self._gate, self._reached = threading.Event(), threading.Event()

    def await_stop(self) -> None:
        """Come back when a transaction has got to that point."""
        assert self._reached.wait(PATIENCE)

    def go_on(self) -> None:
        """And go on."""
        assert self._gate is not None
        self._gate.set()
        self._gate = None

    def before(self, statement: str) -> Fault | None:
        """Whether this statement fails."""
        self.statements.append(statement)
        gate = self._gate
        if gate is not None and statement.startswith("BEGIN"):
            self._reached.set()
            gate.wait(PATIENCE)
        fault = self._fault
        if fault is None or not self._times or not statement.startswith(fault.start):
            return None
        self._times -= 1
        if not fault.after:
            raise fault.error()
        return fault


class FaultyConnection(sqlite3.Connection):
    """A connection to a `Disk`."""

    disk: Disk

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        fault = self.disk.before(sql)
        cursor = super().execute(sql, parameters)
        if fault is not None:
            raise fault.error()
        return cursor

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        self.disk.before(sql)
        return super().executemany(sql, parameters)

    def backup(self, target: sqlite3.Connection, **options: Any) -> None:
        fault = self.disk.before("backup")
        super().backup(target, **options)
        assert fault is None


class FaultyBackend(Backend):
    """A SQLite store on such a disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "oneshotd.sqlite"
        self.pump = ThreadPump()
        self.disk = Disk()
        self.commits: list[float] = []

    def get(self, deferred: Deferred[T]) -> T:
        return self.pump.get(deferred)

    def _open(self) -> IStore:
        return SQLiteStore(
            str(self.path),
            self.pump,
            limits=self.limits,
            clock=self.time.clock,
            connect=self.disk.connect,
            committed=self.commits.append,
        )

    def _die(self) -> None:
        raise NotImplementedError

    def backup_path(self) -> str:
        return str(self.path.with_name("backup.sqlite"))

    def open_backup(self, path: str) -> None:
        raise NotImplementedError
