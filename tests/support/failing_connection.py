"""Back ends under which the disk can be told to fail at any moment, for as long as one likes."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define
from support.failing_database import Disk, Fault
from support.sqlite_backend import SQLiteBackend
from support.store_backends import Backend
from twisted.internet.defer import Deferred, DeferredList

from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import IStore
from oneshotd.store.sqlite.store import SQLiteStore


class Trouble(Enum):
    """What the disk does to the next transaction that writes."""

    FULL = "there is no room"
    BROKEN = "a statement fails, reading or writing"
    LOST = "the commit fails"
    DONE = "the commit comes through, and fails to say so"


class FrailBackend(Backend):
    """A back end on such a disk. A restart mends it.

    :cvar in_order: requests are answered in the order of asking.
    :cvar keeps_time: up-time and visits are written at once, so that a kill sets nothing back.
    :cvar keeps_leases: a lease whose end the store refused to write does not lapse before it is asked again.
        In a database, which may not be within reach, it lapses.
    """

    in_order = True
    keeps_time = False
    keeps_leases = True

    @abstractmethod
    def fail(self, trouble: Trouble, after: int, lasting: bool) -> None:
        """Let the next transaction that writes fail.

        :param after: statements that succeed before one is BROKEN.
        :param lasting: all that follow fail too; if it was more than a full disk, nothing can be
            opened anew either.
        """

    @abstractmethod
    def mend(self) -> None:
        """From here on all is well."""

    @property
    @abstractmethod
    def in_trouble(self) -> bool:
        """Whether something will fail, or fails."""

    @property
    @abstractmethod
    def came_through(self) -> bool:
        """Whether what failed last is on disk nevertheless."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is asked for in here is done in one transaction, where there is group commit."""
        yield

    @abstractmethod
    def wait(self, asked: Sequence[Deferred[Any]]) -> None:
        """Until each is answered, or will not be before the disk is mended."""


@define
class FrailDisk(Disk):
    """Fails by transactions, not by statements.

    :ivar refused: called in the store's thread, with why, when it tries in vain to open the file.
    """

    refused: Callable[[Exception], object] = lambda error: None
    trouble: Trouble | None = None
    after: int = 0
    lasting: bool = False
    came_through: bool = False
    _armed: Trouble | None = None
    _left: int = 0
    _wrote: bool = False

    def connect(self, path: str) -> sqlite3.Connection:
        if self.connecting is not None:
            self.refused(self.connecting)
        return super().connect(path)

    def before(self, statement: str) -> Fault | None:
        stopped = self._gate is not None  # this one only holds up the others
        super().before(statement)
        self.statements.clear()
        word = statement.split(None, 1)[0]
        if word == "BEGIN":
            self._armed = None if stopped else self.trouble
            self._left, self._wrote = self.after, False
        elif word == "COMMIT":
            if self._wrote and self._armed in (Trouble.LOST, Trouble.DONE):
                return self._strike(statement)
            self._armed = None
        elif word in ("INSERT", "UPDATE", "DELETE"):
            self._wrote = True
            if self._armed is Trouble.FULL:
                return self._strike(statement, sqlite3.SQLITE_FULL)
        if self._armed is Trouble.BROKEN and word in ("INSERT", "UPDATE", "DELETE", "SELECT", "PRAGMA"):
            self._left -= 1
            if self._left < 0:
                return self._strike(statement)
        return None

    def _strike(self, statement: str, code: int = sqlite3.SQLITE_IOERR) -> Fault:
        fault = Fault(statement, code, after=self._armed is Trouble.DONE)
        self.came_through = fault.after
        if not self.lasting:
            self.trouble = None
        elif self._armed is not Trouble.FULL:
            self.connecting = fault.error()
        self._armed = None
        if fault.after:
            return fault
        raise fault.error()

    def mend(self) -> None:
        super().mend()
        self.trouble, self.lasting = None, False


class FrailSQLite(FrailBackend, SQLiteBackend):
    """The SQLite store on such a disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._disks: list[FrailDisk] = []
        self._stuck: Deferred[None] = Deferred()

    @property
    def disk(self) -> FrailDisk:
        """The disk under the store that is open now."""
        return self._disks[-1]

    def _open(self) -> IStore:
        self._disks.append(FrailDisk())
        self.disk.refused = partial(self.pump.callFromThread, self._nothing_to_open)
        return SQLiteStore(
            str(self._path),
            self.pump,
            limits=self.limits,
            clock=self.time.clock,
            connect=self.disk.connect,
        )

    def fail(self, trouble: Trouble, after: int, lasting: bool) -> None:
        self.disk.after, self.disk.lasting, self.disk.trouble = after, lasting, trouble

    def mend(self) -> None:
        self.disk.mend()

    @property
    def in_trouble(self) -> bool:
        return self.disk.trouble is not None or self.disk.connecting is not None

    @property
    def came_through(self) -> bool:
        return self.disk.came_through

    @contextmanager
    def together(self) -> Iterator[None]:
        if self.disk.connecting is not None:
            yield  # nothing comes as far as the gate
            return
        self.disk.stop()
        first = self.store.look(self.visit("nobody"), 0)
        self.disk.await_stop()
        try:
            yield
        finally:
            self.disk.go_on()
        self.get(first)

    def wait(self, asked: Sequence[Deferred[Any]]) -> None:
        answered = DeferredList([watch(deferred) for deferred in asked])
        self.get(DeferredList([answered, self._stuck], fireOnOneCallback=True))
        self._stuck = Deferred()
        if not answered.called:
            # What the thread can say of these it says before it answers a further question.
            with suppress(StoreUnavailable):
                self.get(self.store.stats())

    def _nothing_to_open(self, error: Exception) -> None:
        if error is self.disk.connecting and not self._stuck.called:  # else that has been mended
            self._stuck.callback(None)

    def finish(self) -> None:
        for disk in self._disks:
            disk.mend()
        super().finish()


def watch(asked: Deferred[Any]) -> Deferred[None]:
    """Fires when that one has, whatever the answer."""
    seen: Deferred[None] = Deferred()

    def note(answer: object) -> object:
        seen.callback(None)
        return answer

    asked.addBoth(note)
    return seen
