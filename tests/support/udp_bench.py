"""A UDP reader on the loopback, whose sends arrive before they return, and what becomes of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer, provider

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.policy import AccessPolicy
from oneshotd.core.events import NewEvent, labels_of
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import Rules
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import StoreStats
from oneshotd.udp import reader as udp
from oneshotd.udp.datagrams import Datagrams
from oneshotd.udp.reader import UDPReader

NOBODY = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})


class Offered:
    """An ingest that keeps the events submitted, or fails."""

    def __init__(self) -> None:
        self.events: list[NewEvent] = []
        self.portions: list[int] = []
        self.sources: list[str] = []
        self.fails = False

    def submit_nowait(self, events: Sequence[NewEvent], source: str) -> None:
        self.sources.append(source)
        if self.fails:
            raise RuntimeError("a bug in the ingest")
        self.events += events
        self.portions.append(len(events))

    def types(self) -> list[str]:
        return [labels_of(event.series).get("type", "") for event in self.events]


@implementer(IReactorFDSet)
class Readers:
    """The part of a reactor that holds readers."""

    def __init__(self) -> None:
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def getReaders(self) -> list[Any]:
        return self.readers

    def addWriter(self, writer: Any) -> None:
        raise NotImplementedError

    removeWriter = addWriter

    def removeAll(self) -> list[Any]:
        raise NotImplementedError

    getWriters = removeAll


class Bench:
    """A reader on the loopback, a sender, and the events submitted."""

    def __init__(self, *, allowed: tuple[str, ...] = (), host: str = "127.0.0.1", buffer: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.bind((host, 0))
        self.clock = Clock()
        self.offered = Offered()
        self.telemetry = Telemetry()
        self.access = AccessPolicy(emit=Networks.parse(allowed))
        self.datagrams = Datagrams(
            ingest=cast(Any, self.offered),
            telemetry=self.telemetry,
            rules=Rules(),
            access=self.access,
            bounds=EventBounds(access=self.access, limits=Rules(), seconds=self.clock.seconds),
            clock=self.clock,
        )
        self.reader = UDPReader(self.sock, self.datagrams, telemetry=self.telemetry, clock=self.clock)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(("127.0.0.1", self.sock.getsockname()[1]))

    def send(self, *datagrams: bytes) -> None:
        for data in datagrams:
            self.sender.send(data)

    def figure(self, name: str, **labels: str) -> float | None:
        """Return a sample of the daemon's own metrics, as a scraper would see it."""
        text, _ = self.telemetry.render(NOBODY)
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                if sample.name == f"oneshotd_{name}_total" and sample.labels == labels:
                    return float(sample.value)
        return None

    def close(self) -> None:
        self.reader.stop()
        self.sender.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Failing(socket.socket):
    """A socket with a pending error, and with counters of our choice."""

    errors = 0
    drops: int | None = None

    def recvfrom(self, *args: Any) -> Any:
        if self.errors:
            self.errors -= 1
            raise ConnectionRefusedError(111, "Connection refused")
        return super().recvfrom(*args)

    def getsockopt(self, level: int, option: int, length: int = 0) -> Any:
        if not length:
            return super().getsockopt(level, option)
        if self.drops is None:
            raise OSError(92, "Protocol not available")
        return udp._MEMINFO.pack(0, 0, 0, 0, 0, 0, 0, 0, self.drops)


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """Collect the lines that the daemon logs meanwhile."""
    lines: list[str] = []

    @provider(ILogObserver)
    def keep(event: LogEvent) -> None:
        if event["log_namespace"].startswith("oneshotd"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(keep)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(keep)
