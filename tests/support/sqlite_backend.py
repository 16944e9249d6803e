"""The SQLite store as a backend of the contract's tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeVar

from support.store_backends import Backend
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred

from oneshotd.store.interface import IStore
from oneshotd.store.sqlite.store import SQLiteStore

T = TypeVar("T")


class SQLiteBackend(Backend):
    """A file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._path = folder / "oneshotd.sqlite"
        self._deaths = 0
        self.pump = ThreadPump()

    def get(self, deferred: Deferred[T]) -> T:
        return self.pump.get(deferred)

    def _open(self) -> IStore:
        return SQLiteStore(str(self._path), self.pump, limits=self.limits, clock=self.time.clock)

    def _die(self) -> None:
        # What kill -9 leaves are the files as they are after the last answer: the next store
        # gets a copy of them, and what this one writes when it is closed does not count.
        self._deaths += 1
        copy = self._folder / f"after-death-{self._deaths}.sqlite"
        for suffix in ("", "-wal"):
            if (file := Path(f"{self._path}{suffix}")).exists():
                shutil.copyfile(file, f"{copy}{suffix}")
        self._path = copy

    def backup_path(self) -> str:
        return str(self._folder / "backup.sqlite")

    def open_backup(self, path: str) -> None:
        self._path = Path(path)
        self.open_anew()
