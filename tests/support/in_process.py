"""The daemon in this process, on a disk that takes its time or fails, with a clock set by hand."""

from __future__ import annotations

import sqlite3
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from attrs import Factory, define
from support.daemon import BROWSER
from support.processes import free_port, until
from support.store_backends import SettableClock
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from oneshotd.daemon import service
from oneshotd.daemon.config_sources import configure
from oneshotd.ingest import pipeline
from oneshotd.store.sqlite import worker
from oneshotd.store.sqlite.store import SQLiteStore

reactor: Any = _reactor

T = TypeVar("T")

#: Seconds within which everything happens that happens at all.
PATIENCE = 20.0


@define(eq=False)
class Disk:
    """What commits go to.

    :ivar commit: done instead of a commit, given how to do it.
    :ivar is_there: whether the file can be opened.
    """

    commit: Callable[[Callable[[], object]], object] = lambda do: do()
    is_there: bool = True

    def mend(self) -> None:
        """All is well from now on."""
        self.commit, self.is_there = lambda do: do(), True

    def connect(self, path: str) -> sqlite3.Connection:
        """For `SQLiteStore`."""
        if not self.is_there:
            raise io_error()
        made = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=0, factory=Connection
        )
        assert isinstance(made, Connection)
        made.disk = self
        return made


class Connection(sqlite3.Connection):
    """A connection to such a disk."""

    disk: Disk

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        do = partial(super().execute, sql, parameters)
        if sql == "COMMIT":
            self.disk.commit(do)
            return self.cursor()
        return do()


def io_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


@define(eq=False)
class SlowCommits:
    """Commits that wait until they may; see `Disk.commit`."""

    begun: threading.Event = Factory(threading.Event)
    may_end: threading.Event = Factory(threading.Event)

    def __call__(self, do: Callable[[], object]) -> None:
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        do()


@define(eq=False)
class InProcess:
    """The daemon, its disk and its clock; `Client` talks to it, from other threads."""

    service: service.OneshotService
    port: int
    disk: Disk
    time: SettableClock

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, accept: str = "*/*") -> str:
        """As `Daemon.get`."""
        request = urllib.request.Request(self.url + path, headers={"Accept": accept})
        with BROWSER.open(request, timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def is_ready(self) -> bool:
        """Whether ``/readyz`` says 200."""
        try:
            return self.get("/readyz") == "ok\n"
        except urllib.error.HTTPError:
            return False

    def waiting(self) -> int:
        """Events that came in and are not answered."""
        return self.service._ingest.load.events


@asynccontextmanager
async def running(
    folder: Path, patch: pytest.MonkeyPatch, disk: Disk | None = None, time: SettableClock | None = None
) -> AsyncIterator[InProcess]:
    """A daemon whose store is in the folder."""
    disk, time = disk or Disk(), time or SettableClock()
    clock = time.clock

    def open_store(kind: str, place: str, reactor: Any, *, name: str, **more: Any) -> SQLiteStore:
        return SQLiteStore(place, reactor, connect=disk.connect, **more)

    patch.setattr(service, "open_store", open_store)
    patch.setattr(service, "Clock", lambda: clock)
    patch.setattr(worker, "REOPEN_INTERVAL", 0.05)
    patch.setattr(pipeline, "COMMIT_OVERDUE_SECONDS", 0.05)
    port = free_port()
    where = {"http": f"tcp:{port}:interface=127.0.0.1", "udp": f"127.0.0.1:{port}"}
    made = service.OneshotService(
        reactor, configure(where | {"store": f"sqlite:{folder / 'oneshotd.sqlite'}"}, {})
    )
    daemon = InProcess(made, port, disk, time)
    made.privilegedStartService()
    made.startService()
    try:
        await in_thread(until, daemon.is_ready, PATIENCE, "ready")
        yield daemon
    finally:
        disk.mend()
        await made.stopService()


def in_thread(call: Callable[..., T], *args: Any) -> Deferred[T]:
    """What blocks; the daemon goes on meanwhile."""
    return cast(Deferred[T], deferToThread(call, *args))
