"""The daemon's service on a reactor in memory, with real sockets."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.fake_store import Disk, TroubledStore, quiet
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

from oneshotd.core.events import Group, NewEvent
from oneshotd.daemon import ports
from oneshotd.daemon import service as module
from oneshotd.daemon.config import Config
from oneshotd.daemon.option_values import StoreAddress, UdpAddress
from oneshotd.daemon.service import OneshotService
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.sqlite.store import SQLiteStore


class Reactor(Clock, ThreadPump):
    """A clock and a queue of calls from the store's thread; its sockets are never read."""

    def __init__(self) -> None:
        Clock.__init__(self)
        ThreadPump.__init__(self)

    def addReader(self, reader: object) -> None: ...

    def removeReader(self, reader: object) -> None: ...


class Port:
    """An HTTP port without clients."""

    def __init__(self, closed: list[str]) -> None:
        self._closed = closed

    def getHost(self) -> str:
        return "somewhere"

    def stopListening(self) -> Deferred[None]:
        self._closed.append("port")
        return succeed(None)


class DaemonInMemory:
    """A daemon on a clock, with a store that can fail and ports without clients."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.reactor, self.disk = Reactor(), Disk()
        self.closed: list[str] = []
        self.store: TroubledStore
        self.real: SQLiteStore
        self.name = ""
        monkeypatch.setattr(ports, "http_ports", lambda *_: [Port(self.closed)])
        monkeypatch.setattr(module, "open_store", self._open)
        self.config = Config(
            store=StoreAddress(kind="sqlite", path=str(folder / "store")),
            **{"udp": (UdpAddress(host="127.0.0.1", port=0),), **options},
        )
        self.service = OneshotService(self.reactor, self.config)

    def _open(self, kind: str, path: str, reactor: Reactor, **options: Any) -> TroubledStore:
        assert kind == "sqlite"
        self.name = options.pop("name")
        self.real = SQLiteStore(path, reactor, connect=self.disk.connect, **options)
        self.store = TroubledStore(self.real)
        return self.store

    def start(self) -> None:
        self.service.privilegedStartService()
        self.service.startService()

    def quiet(self) -> None:
        quiet(self.reactor, self.real)

    def pass_time(self, seconds: float) -> None:
        self.reactor.advance(seconds)
        self.quiet()

    @property
    def not_ready_reason(self) -> str | None:
        """Return the reason that /readyz gives; None if the daemon is ready."""
        return self.service._not_ready_reason()

    @property
    def telemetry(self) -> Telemetry:
        return self.service._telemetry

    def send_datagrams(self, *lines: bytes) -> None:
        """Send datagrams to the socket; the daemon has not read them yet."""
        address = self.service._ports.udp[0].getsockname()
        with socket.socket(self.service._ports.udp[0].family, socket.SOCK_DGRAM) as sender:
            for line in lines:
                sender.sendto(line, address)

    def submit(self, series: str) -> None:
        """Submit one event, as a request over HTTP does."""
        self.service._ingest.submit(Group(events=[NewEvent(series)]), "http").addErrback(lambda _: None)

    def stop(self) -> Deferred[None]:
        """Stop as SIGTERM does; the Deferred fires when the daemon has stopped."""
        return self.service.stopService()

    def stored(self) -> list[str]:
        """Return the series in the file, as the next daemon reads them."""
        with sqlite3.connect(self.config.store.path) as connection:
            rows = connection.execute("SELECT series FROM segment ORDER BY first").fetchall()
        connection.close()
        return "\n".join(series for (series,) in rows).split("\n")


def lines(events: list[LogEvent], *levels: str) -> list[str]:
    return [formatEvent(event) for event in events if event["log_level"].name in levels]
