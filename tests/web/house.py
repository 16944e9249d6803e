"""The daemon's way out on real sockets, in this process, and a scraper of bare sockets.

Every delivery's fate is kept in the words of the receipt, so that a test can wait for it.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any, cast

from attrs import frozen
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from oneshotd.core.address import Networks
from oneshotd.core.event import Group, NewEvent, series_text
from oneshotd.core.scraper import Visit
from oneshotd.core.wire import Rules
from oneshotd.delivery import Delivery
from oneshotd.intake import Intake
from oneshotd.listen import listen_http
from oneshotd.store.interface import Reservation
from oneshotd.store.sqlite import SQLiteStore
from oneshotd.telemetry import Telemetry
from oneshotd.web.app import Doors, Shipment
from oneshotd.web.channel import Site, send
from oneshotd.web.request import OneshotRequest

reactor: Any = _reactor

#: Seconds within which everything here happens that happens at all.
PATIENCE = 20.0

#: Events that make a response larger than any socket buffer (some 5 MB).
MANY = 20_000

#: Resets the connection when it is closed (socket(7), SO_LINGER).
AT_ONCE = struct.pack("ii", 1, 0)

_EVENT = re.compile(rb'^seen\{number="(\d+)"[^}]*\} (\d+)$', re.MULTILINE)


@frozen
class Answer:
    """One response; `events` counts how often each event is in it."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def events(self) -> Counter[int]:
        return Counter({int(number): int(count) for number, count in _EVENT.findall(self.body)})


class Watched:
    """A shipment that keeps what is said of it."""

    def __init__(self, shipment: Shipment) -> None:
        self._shipment = shipment
        self.body = shipment.body
        self.content_type = shipment.content_type
        self.fate: list[str] = []

    @property
    def awaits_receipt(self) -> bool:
        return self._shipment.awaits_receipt

    def delivered(self) -> None:
        self.fate.append("delivered")
        self._shipment.delivered()

    def returned(self, uncertain: bool) -> None:
        self.fate.append("uncertain" if uncertain else "returned")
        self._shipment.returned(uncertain)

    def revoked(self) -> None:
        self.fate.append("revoked")
        self._shipment.revoked()

    def final(self) -> None:
        self.fate.append("final")
        self._shipment.final()


class GatedStore(SQLiteStore):
    """A store whose reservations are told only when the gate is open.

    :ivar gate: fired to open it; None where there is none.
    """

    gate: Deferred[None] | None = None
    waiting = 0

    def reserve(self, visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        reserved = super().reserve(visit, lease, limit)
        if self.gate is None:
            return reserved
        self.waiting += 1
        told: Deferred[Reservation] = Deferred()

        def opened(_: object) -> None:
            reserved.chainDeferred(told)

        self.gate.addCallback(opened)
        return told


class House:
    """Doors, delivery and store behind one listening port.

    :ivar shipments: the deliveries with events so far.
    """

    def __init__(self, folder: Path, where: str, **limits: Any) -> None:
        self.shipments: list[Watched] = []
        self.accepted = 0
        self.telemetry = Telemetry()
        self.store = GatedStore(str(folder / "oneshotd.sqlite"), reactor)
        self.delivery = Delivery(self.store, self.telemetry, reactor, lambda: int(time.time() * 1000))
        everyone = Networks.parse(())
        doors = Doors(
            intake=Intake(self.store, self.telemetry, reactor),
            delivery=self.delivery,
            store=self.store,
            telemetry=self.telemetry,
            send=self._send,
            ready=lambda: None,
            clock=reactor,
            rules=Rules(metric="seen", taken=frozenset()),
            trusted_proxies=everyone,
            allow_emit=everyone,
            allow_scrape=everyone,
        )
        self.site = Site(
            doors.resource(),
            requestFactory=partial(OneshotRequest, refused=self.telemetry.refused),
            reactor=reactor,
            **limits,
        )
        self.port = listen_http(reactor, where, self.site)

    async def _send(self, request: OneshotRequest, shipment: Shipment, *, deadline: float) -> None:
        watched = Watched(shipment)
        if watched.awaits_receipt:
            self.shipments.append(watched)
        await send(request, watched, deadline=deadline)

    @property
    def reserved(self) -> int:
        """How many reservations wait at the gate."""
        return self.store.waiting

    @property
    def fates(self) -> list[list[str]]:
        """What became of each delivery with events."""
        return [shipment.fate for shipment in self.shipments]

    @property
    def last(self) -> list[str]:
        """What became of the latest one."""
        return self.fates[-1] if self.fates else []

    async def happen(self, count: int = 1) -> Counter[int]:
        """Let so many events happen; their numbers, each once."""
        numbers = range(self.accepted, self.accepted + count)
        self.accepted += count
        filler = "x" * 200
        events = [
            NewEvent(series_text("seen", [("number", str(number)), ("text", filler)])) for number in numbers
        ]
        await self.store.append([Group(events=events)])
        return Counter(numbers)

    async def shipped(self, count: int = 1) -> None:
        """Wait until so many deliveries with events are on their way, or were."""
        await until(lambda: len(self.shipments) >= count, lambda: f"{len(self.shipments)} deliveries")

    async def fate(self, *words: str) -> None:
        """Wait until this is what became of the latest delivery."""
        await until(lambda: self.last == list(words), lambda: f"{self.last}, not {list(words)}")

    def scraper(self, **kind: Any) -> Scraper:
        """A client with a connection of its own."""
        return Scraper(self.port.getHost(), **kind)

    async def scrape(self, name: str = "one") -> Counter[int]:
        """Scrape once, to the end, on a new connection: what comes."""
        with self.scraper() as scraper:
            scraper.ask(name)
            return (await scraper.answer()).events

    async def close(self) -> None:
        await maybeDeferred(self.port.stopListening)
        self.site.abort()
        await until(lambda: not self.site._channels, lambda: "connections are left")
        await self.store.close()


class Scraper:
    """A connection that is read only when it is told to.

    :param window: the receive buffer in bytes, as little as the kernel allows.
    """

    def __init__(self, where: Any, *, window: int | None = None) -> None:
        path = getattr(where, "name", None)
        self.sock = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        if window is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.settimeout(PATIENCE)
        self.sock.connect((where.host, where.port) if path is None else path)
        self._file: Any = None

    def __enter__(self) -> Scraper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def handshake(self, *protocols: str) -> str | None:
        """Begin to speak TLS, believing everybody; the protocol that was agreed upon."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(protocols)
        tls = await deferToThread(context.wrap_socket, self.sock)
        self.sock = tls
        return tls.selected_alpn_protocol()

    def say_goodbye(self) -> None:
        """Send close_notify, and wait for no answer."""
        self.sock.settimeout(0)
        with suppress(ssl.SSLError):
            cast(ssl.SSLSocket, self.sock).unwrap()
        self.sock.settimeout(PATIENCE)

    def ask(self, name: str = "one", *headers: str, times: int = 1, method: str = "GET", **more: str) -> None:
        """Send a scrape, or several in one segment."""
        version = more.get("version", "HTTP/1.1")
        path = more.get("path", f"/metrics?scraper={name}")
        lines = [f"{method} {path} {version}", "Host: oneshot.example", *headers, "", ""]
        self.send("\r\n".join(lines).encode() * times)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    async def answer(self, method: str = "GET") -> Answer:
        """Read one response to its end."""
        return cast(Answer, await deferToThread(self._answer, method))

    def _answer(self, method: str) -> Answer:
        if self._file is None:
            self._file = self.sock.makefile("rb")
        response = HTTPResponse(cast(Any, _Opened(self._file)), method=method)
        response.begin()
        return Answer(response.status, response.headers, response.read())

    async def read(self, size: int) -> bytes:
        """Read so many bytes and no more."""

        def read() -> bytes:
            data = bytearray()
            while len(data) < size:
                piece = self.sock.recv(size - len(data))
                assert piece, f"the connection ended after {len(data)} bytes"
                data += piece
            return bytes(data)

        return cast(bytes, await deferToThread(read))

    async def rest(self) -> bytes:
        """Read until the connection ends.

        :raises ConnectionResetError: it is reset.
        """

        return cast(bytes, await deferToThread(self._rest, self.sock.recv))

    async def rest_raw(self) -> bytes:
        """Read until the connection ends, as it comes, whatever it means in TLS."""
        return cast(bytes, await deferToThread(self._rest, partial(socket.socket.recv, self.sock)))

    @staticmethod
    def _rest(receive: Callable[[int], bytes]) -> bytes:
        data = bytearray()
        while piece := receive(1 << 16):
            data += piece
        return bytes(data)

    def finish_sending(self) -> None:
        """Say that no request will follow, as ``nc -N`` does."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close: a FIN if all was read, else the kernel resets."""
        if self._file is not None:
            self._file.close()
        self.sock.close()

    def reset(self) -> None:
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.close()


class _Opened:
    """A socket as `HTTPResponse` sees it, whose file outlives the response."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def makefile(self, mode: str) -> _Opened:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """One response is read; the next one may follow."""


async def until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for a condition; `what` says what is the case instead."""
    end = reactor.seconds() + PATIENCE
    while not condition():
        assert reactor.seconds() < end, what()
        await deferLater(reactor, 0.002)


def open_descriptors() -> list[str]:
    """The sockets of this process, by their names in the kernel."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if name.startswith("socket:"):
            found.append(name)
    return sorted(found)


def timers() -> Sequence[str]:
    """The calls that wait in the reactor."""
    return sorted(str(call.func) for call in reactor.getDelayedCalls())


@asynccontextmanager
async def open_house(
    folder: Path, where: str = "tcp:0:interface=127.0.0.1", **limits: Any
) -> AsyncIterator[House]:
    """A house for one test; it must leave no timer and no socket behind, and each delivery one end."""
    before = timers(), open_descriptors()
    house = House(folder, where, **limits)
    try:
        yield house
        await until(
            lambda: all(fate and fate != ["delivered"] for fate in house.fates), lambda: str(house.fates)
        )
    finally:
        await house.close()
    assert all(
        fate in (["returned"], ["uncertain"], ["delivered", "final"], ["delivered", "revoked"])
        for fate in house.fates
    )
    await until(lambda: (timers(), open_descriptors()) == before, lambda: f"{timers()} {open_descriptors()}")


def fired(deferred: Deferred[Any]) -> bool:
    """Whether it has a result."""
    return bool(deferred.called)
