"""A site in this process: routes, delivery and store behind a listening socket.

The outcome of each delivery is recorded, so that a test can wait for it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from support.bare_scraper import PATIENCE, Scraper
from support.example_hooks import EXAMPLES
from support.fake_connections import ENDS
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.passwords import Authenticator
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.tls import ServerTLS
from oneshotd.core.events import Group, NewEvent, series_text
from oneshotd.core.identity import Visit
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.sockets import adopt, http_ports
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import Delivery
from oneshotd.ingest.hooks.hooks import Hooks
from oneshotd.ingest.pipeline import Ingest
from oneshotd.metrics.registry import Telemetry
from oneshotd.query import EventQueries
from oneshotd.store.interface import Reservation
from oneshotd.store.sqlite.store import SQLiteStore
from oneshotd.web.app import HTTPApi
from oneshotd.web.fastpath.blocks import without_users
from oneshotd.web.fastpath.channel import FastPathChannel
from oneshotd.web.fastpath.listener import Listener
from oneshotd.web.fastpath.requests import RequestMatcher
from oneshotd.web.transport.channel import send
from oneshotd.web.transport.request import OneshotRequest
from oneshotd.web.transport.site import Site
from oneshotd.web.transport.tls_handshake import handshake_factory

reactor: Any = _reactor

#: The endpoint string of Twisted's own port, which accepts connections before their first byte.
TWISTEDS_OWN = "tcp:0:interface=127.0.0.1"

#: Events that make a response larger than any socket buffer (some 5 MB), each this many bytes longer than
#: others: their number is what a test's time depends on.
MANY, MANY_FILLER = 2_000, 2_500


def no_names(transport: object) -> frozenset[str]:
    """Return the names of the certificate of a client without one."""
    return frozenset()


class Watched:
    """A delivery that records its outcome."""

    def __init__(self, shipment: InFlightDelivery) -> None:
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

    def returned(self, uncertain: bool, reset: bool = False) -> None:
        self.fate.append("uncertain" if uncertain else "returned")
        self._shipment.returned(uncertain, reset)

    def revoked(self, uncertain: bool = False) -> None:
        self.fate.append("revoked?" if uncertain else "revoked")
        self._shipment.revoked(uncertain)

    def final(self) -> None:
        self.fate.append("final")
        self._shipment.final()


class GatedStore(SQLiteStore):
    """A store whose reservations are answered only when the gate is open.

    :ivar gate: fired to open it; None without a gate.
    :ivar waiting: number of reservations that have reached the gate so far.
    """

    gate: Deferred[None] | None = None
    waiting = 0

    def reserve(self, visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        reserved = super().reserve(visit, lease, limit)
        if self.gate is None:
            return reserved
        gate, told = self.gate, Deferred[Reservation]()

        def made(reservation: Reservation) -> None:
            self.waiting += 1
            gate.addCallback(lambda _: told.callback(reservation))

        reserved.addCallbacks(made, told.errback)
        return told


class MemoryServer:
    """Routes, delivery and store behind one listening port.

    :param access: which client may do what.
    :param authenticator: checks credentials; None: an address is all that counts.
    :param tls: makes the server's side of TLS connections.
    :param has_fast_path: whether plain requests bypass `twisted.web`.
    :param backups: for admins.
    :ivar doors: the checks of networks, which a test may change.
    :ivar shipments: the deliveries with events so far.
    """

    def __init__(
        self,
        folder: Path,
        where: str,
        *,
        access: AccessPolicy | None = None,
        authenticator: Authenticator | None = None,
        tls: ServerTLS | None = None,
        has_fast_path: bool = True,
        backups: Any = None,
        **limits: Any,
    ) -> None:
        policy = access or AccessPolicy()
        peer_sans = no_names if tls is None else tls.peer_sans
        self.shipments: list[Watched] = []
        self.accepted = 0
        self.telemetry = Telemetry()
        self.store = GatedStore(str(folder / "oneshotd.sqlite"), reactor)
        self.delivery = Delivery(self.store, self.telemetry, reactor)
        ingest = Ingest(self.store, self.telemetry, reactor)
        rules = Rules(metric="seen", taken=frozenset())
        api = HTTPApi(
            ingest=ingest,
            delivery=self.delivery,
            store=self.store,
            queries=EventQueries(self.store, self.telemetry, reactor),
            telemetry=self.telemetry,
            send=self._send,
            ready=lambda: None,
            clock=reactor,
            rules=rules,
            trusted_proxies=Networks(),
            access=policy,
            bounds=EventBounds(access=policy, limits=rules, seconds=reactor.seconds),
            now_ms=lambda: 1_700_000_000_000,
            hold=3600.0,
            udp_port=None,
            authenticator=authenticator,
            peer_sans=peer_sans,
            backups=backups,
            hooks=Hooks(EXAMPLES),
        )
        self.doors = api.clients
        self.site = Site(
            api.resource(),
            requestFactory=partial(OneshotRequest, refused=self.telemetry.refused_request),
            reactor=reactor,
            **limits,
        )
        if has_fast_path:
            self.site.protocol = FastPathChannel
            known = without_users if authenticator is None else authenticator.known
            self.site.matcher = RequestMatcher(ingest, rules, policy, known=known, peer_sans=peer_sans)
        if tls is None:
            self._ports = http_ports(reactor, where, self.site, Listener if has_fast_path else adopt)
        else:
            self._ports = http_ports(reactor, where, handshake_factory(self.site, tls, reactor))
        self.port = self._ports[0]

    async def _send(self, request: OneshotRequest, shipment: InFlightDelivery, *, deadline: float) -> None:
        watched = Watched(shipment)
        if watched.awaits_receipt:
            self.shipments.append(watched)
        await send(request, watched, deadline=deadline)

    @property
    def reserved(self) -> int:
        """The number of reservations that have reached the gate."""
        return self.store.waiting

    @property
    def fates(self) -> list[list[str]]:
        """The outcome of each delivery with events."""
        return [shipment.fate for shipment in self.shipments]

    @property
    def last(self) -> list[str]:
        """The outcome of the latest one."""
        return self.fates[-1] if self.fates else []

    async def happen(self, count: int = 1) -> Counter[int]:
        """Store events; return their numbers, each once."""
        numbers = range(self.accepted, self.accepted + count)
        self.accepted += count
        filler = "x" * (MANY_FILLER if count == MANY else 200)
        events = [
            NewEvent(series_text("seen", [("number", str(number)), ("text", filler)])) for number in numbers
        ]
        await self.store.append([Group(events=events)])
        return Counter(numbers)

    async def shipped(self, count: int = 1) -> None:
        """Wait until this number of deliveries with events has been sent."""
        await until(lambda: len(self.shipments) >= count, lambda: f"{len(self.shipments)} deliveries")

    async def fate(self, *words: str) -> None:
        """Wait until the latest delivery has this outcome."""
        await until(lambda: self.last == list(words), lambda: f"{self.last}, not {list(words)}")

    def scraper(self, **kind: Any) -> Scraper:
        """Return a client with its own connection."""
        return Scraper(self.port.getHost(), **kind)

    async def scrape(self, name: str = "one") -> Counter[int]:
        """Scrape until no events are left, on a new connection; return the events."""
        with self.scraper() as scraper:
            return await everything(scraper, name)

    async def close(self) -> None:
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        self.site.abort()
        await until(lambda: not self.site._channels, lambda: "connections are left")
        # A settlement that found the store closed would be repeated for ever.
        await self.delivery.drain().addTimeout(PATIENCE, reactor)
        self.delivery.log.flush()
        await self.store.close()


async def everything(scraper: Scraper, name: str = "one") -> Counter[int]:
    """Scrape until no events are left; return the events.

    After a large response that did not arrive, the next responses are smaller.
    """
    found: Counter[int] = Counter()
    while True:
        scraper.ask(name)
        events = (await scraper.answer()).events
        if not events:
            return found
        found += events


async def until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for a condition; `what` describes the state for a failure."""
    end = reactor.seconds() + PATIENCE
    while not condition():
        assert reactor.seconds() < end, what()
        await deferLater(reactor, 0.002)


def stop_daemon_until(moment: float) -> None:
    """Block the reactor, which is the daemon's too, until this time of it."""
    while (rest := moment - reactor.seconds()) > 0:
        time.sleep(rest)


def open_descriptors() -> list[str]:
    """Return the sockets of this process by their names in the kernel."""
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
    """Return the delayed calls of the reactor."""
    return sorted(str(call.func) for call in reactor.getDelayedCalls())


@asynccontextmanager
async def open_server(folder: Path, where: str = "localhost:0", **limits: Any) -> AsyncIterator[MemoryServer]:
    """Open a site for one test; check that it leaves no timer, no socket and no unfinished delivery."""
    before = timers(), open_descriptors()
    server = MemoryServer(folder, where, **limits)
    try:
        yield server
        await until(
            lambda: all(fate and fate != ["delivered"] for fate in server.fates), lambda: str(server.fates)
        )
    finally:
        await server.close()
    assert all(fate in ENDS for fate in server.fates)
    await until(lambda: (timers(), open_descriptors()) == before, lambda: f"{timers()} {open_descriptors()}")
