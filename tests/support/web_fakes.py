"""The routes with fakes behind them: submitted events are recorded, answers are set by the test.

Requests go as bytes through Twisted's channel and parser, and the standard library's client reads the
answers, so the two sides of a test share no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from http.client import HTTPMessage, HTTPResponse
from io import BytesIO
from typing import Any, cast

from attrs import Factory, define, field, frozen
from support.example_hooks import EXAMPLES
from support.fake_queries import FakeQueries
from support.fake_telemetry import FakeTelemetry
from support.threads import at_once
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.access.check_queue import DeferToThread
from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.passwords import Authenticator
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Rule
from oneshotd.core.events import Group
from oneshotd.core.identity import Visit
from oneshotd.core.look import LookReason
from oneshotd.core.networks import Networks
from oneshotd.core.origin import Origin
from oneshotd.core.parsing.formats import MAX_HOOK_BODY_BYTES, Rules
from oneshotd.core.scrape_request import Wanted
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.ingest.dialects.pings import Checks
from oneshotd.ingest.hooks.hooks import Hooks
from oneshotd.store.interface import ScraperStatus, Stored, StoreStats
from oneshotd.web.app import HTTPApi
from oneshotd.web.routes.hooks import body_limit
from oneshotd.web.status.assets import CACHE_FOREVER
from oneshotd.web.transport.request import OneshotRequest
from oneshotd.web.transport.site import Limit, Site

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
BODY = b'events_to_metrics{type="deploy"} 1\n'


@frozen
class Answer:
    """One answer as a client reads it."""

    status: int
    phrase: str
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")


@define
class FakeShipment:
    """A delivery whose outcome is never reported, since no tracker is here."""

    body: bytes = BODY
    content_type: str = EXPOSITION
    awaits_receipt: bool = True
    is_look: bool = False

    def delivered(self) -> None:
        raise NotImplementedError

    def returned(self, uncertain: bool, reset: bool = False) -> None:
        raise NotImplementedError

    def revoked(self, uncertain: bool = False) -> None:
        raise NotImplementedError

    def final(self) -> None:
        raise NotImplementedError


@define
class FakeIngest:
    """Records submitted groups; answers with `outcome`, or when `waiting` fires."""

    groups: list[tuple[Group, str]] = field(factory=list)
    outcome: Stored | Exception | None = None
    waiting: Deferred[Stored] | None = None
    waited: float = 0.0

    def waits(self) -> float:
        return self.waited

    def submit(self, group: Group, door: str) -> Deferred[Stored]:
        assert len(group.events) > 0
        self.groups.append((group, door))
        if self.waiting is not None:
            return self.waiting
        if isinstance(self.outcome, Exception):
            return fail(self.outcome)
        return succeed(self.outcome or Stored(stored=len(group.events)))


@define
class FakeDelivery:
    """Records requests: (look or scrape, visit, limit, timeout)."""

    asked: list[tuple[str, Visit, int | None, float | None]] = field(factory=list)
    timed: set[str] = field(factory=set)
    fault: Exception | None = None

    async def scrape(self, visit: Visit, wanted: Wanted, *, timeout: float, origin: Origin) -> FakeShipment:
        self.asked.append(("scrape", visit, wanted.limits.samples, timeout))
        if self.fault is not None:
            raise self.fault
        return FakeShipment()

    async def look(self, visit: Visit, wanted: Wanted, reason: LookReason) -> FakeShipment:
        self.asked.append(("look", visit, wanted.limits.samples, None))
        return FakeShipment()

    def timed_before(self, name: str) -> bool:
        return name in self.timed

    def is_receiver(self, name: str) -> bool:
        return False


@define
class FakeStore:
    """Answers a check and the statistics at once, or never, or with a fault."""

    fault: Exception | None = None
    silent: bool = False
    scrapers: tuple[ScraperStatus, ...] = ()
    checks: int = 0

    def check(self) -> Deferred[None]:
        self.checks += 1
        return self._answer(None)

    def stats(self) -> Deferred[StoreStats]:
        return self._answer(StoreStats(events=1234, size=98765, head=2000, scrapers=self.scrapers, lost={}))

    def _answer(self, result: Any) -> Deferred[Any]:
        if self.silent:
            return Deferred()
        return succeed(result) if self.fault is None else fail(self.fault)


@define(eq=False, slots=False)
class FakeServer:
    """The routes and the fakes behind them."""

    allow_emit: Iterable[str] = ()
    allow_scrape: Iterable[str] = ()
    trusted: Iterable[str] = ()
    peer: IAddress = Factory(lambda: IPv4Address("TCP", "192.0.2.7", 40000))
    unready: str | None = None
    warned: list[str] = Factory(list)
    clock: Clock = Factory(Clock)
    ingest: FakeIngest = Factory(FakeIngest)
    delivery: FakeDelivery = Factory(FakeDelivery)
    store: FakeStore = Factory(FakeStore)
    queries: FakeQueries = Factory(FakeQueries)
    telemetry: FakeTelemetry = Factory(FakeTelemetry)
    sent: list[tuple[InFlightDelivery, float]] = Factory(list)
    send_fault: Exception | None = None
    now: int = 1_700_000_000_000
    udp_port: int | None = 8091
    users: Mapping[str, bytes] = Factory(dict)
    rules: Sequence[Rule] | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    limit: Limit | None = None
    is_tls: bool = False
    sans: frozenset[str] = frozenset()
    backups: Any = None
    hooks: Hooks = Factory(lambda: Hooks(EXAMPLES))
    checks: Checks = Factory(Checks)
    defer_to_thread: DeferToThread = at_once
    requests: list[OneshotRequest] = Factory(list)

    @cached_property
    def access(self) -> AccessPolicy:
        """Return the policy of `allow_emit`, `allow_scrape`, `users` and `rules`."""
        emit, scrape = Networks.parse(self.allow_emit), Networks.parse(self.allow_scrape)
        policy = AccessPolicy(emit=emit, scrape=scrape)
        policy.update(rules=self.rules, has_users=bool(self.users))
        return policy

    @cached_property
    def authenticator(self) -> Authenticator | None:
        """Return what checks the users; None without a web configuration and an access file."""
        if not self.users and self.rules is None and not self.headers and self.limit is None:
            return None
        return Authenticator(
            self.users,
            self.defer_to_thread,
            cast(IReactorTime, self.clock),
            has_token=self.access.has_token,
        )

    def site(self, reactor: Any = None) -> Site:
        clock, access = reactor or self.clock, self.access
        api = HTTPApi(
            ingest=cast(Any, self.ingest),
            delivery=cast(Any, self.delivery),
            store=cast(Any, self.store),
            queries=cast(Any, self.queries),
            telemetry=cast(Any, self.telemetry),
            send=self.send,
            ready=lambda: self.unready,
            clock=cast(IReactorTime, clock),
            rules=Rules(),
            trusted_proxies=Networks.parse(self.trusted),
            access=access,
            bounds=EventBounds(access=access, limits=Rules(), seconds=clock.seconds),
            now_ms=lambda: self.now,
            hold=3600.0,
            udp_port=self.udp_port,
            warnings=lambda: self.warned,
            authenticator=self.authenticator,
            peer_sans=lambda transport: self.sans,
            backups=self.backups,
            hooks=self.hooks,
            checks=lambda: self.checks,
        )
        site = Site(
            api.resource(),
            requestFactory=self.make_request,
            reactor=clock,
            body_limit=body_limit(MAX_HOOK_BODY_BYTES),
        )
        site.headers, site.limit = self.headers, self.limit
        return site

    def make_request(self, *args: Any) -> OneshotRequest:
        made = OneshotRequest(*args, refused=self.telemetry.refused_request)
        self.requests.append(made)
        return made

    async def send(self, request: OneshotRequest, shipment: InFlightDelivery, *, deadline: float) -> None:
        self.sent.append((shipment, deadline))
        request.write(shipment.body[:5])
        if self.send_fault is not None:
            raise self.send_fault
        request.write(shipment.body[5:])

    def connect(self, site: Site | None = None) -> Connection:
        return Connection(site or self.site(), self.peer, is_tls=self.is_tls)

    def ask(self, *lines: str, body: bytes = b"") -> Answer:
        """Send a request of these lines; Host and Content-Length are added. Return the answer."""
        return self.connect().ask(*lines, body=body)


class Connection:
    """A client's end of a connection in memory."""

    def __init__(self, site: Site, peer: IAddress, *, is_tls: bool = False) -> None:
        self.transport = (TLSTransport if is_tls else StringTransport)(peerAddress=peer)
        self.protocol = cast(Any, site.buildProtocol(peer))
        self.protocol.makeConnection(self.transport)

    @property
    def closed(self) -> bool:
        return self.transport.disconnecting or self.transport.disconnected

    def ask(self, *lines: str, body: bytes = b"") -> Answer:
        sent = request(*lines, body=body)
        self.protocol.dataReceived(sent)
        (answer,) = self.answers(sent.split(b" ", 1)[0].decode())
        return answer

    def answers(self, *methods: str) -> list[Answer]:
        """Return the answers since the last call; `methods` are the methods of the requests."""
        file = _Open(self.transport.value())
        self.transport.clear()
        read = []
        for method in methods:
            response = HTTPResponse(cast(Any, file), method=method)
            response.begin()
            read.append(Answer(response.status, response.reason, response.headers, response.read()))
        assert file.read() == b"", "more answers than requests"
        for answer in read:
            assert answer.headers["Server"] == "oneshotd"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] in ("no-store", CACHE_FOREVER.decode())
            assert "charset=utf-8" in answer.headers["Content-Type"]
            assert answer.headers["Content-Length"] is not None
            assert answer.headers["Date"] is not None
        return read

    def hang_up(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


@implementer(ISSLTransport)
class TLSTransport(StringTransport):
    """A transport that says that it encrypts."""

    @property
    def transport(self) -> StringTransport:
        """Return the transport below: this one."""
        return self

    def getPeerCertificate(self) -> None: ...

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def getTcpNoDelay(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None: ...

    def getTcpKeepAlive(self) -> bool:
        return False

    def loseWriteConnection(self) -> None: ...


class _Open(BytesIO):
    """Bytes that several `HTTPResponse` objects read one after the other."""

    def makefile(self, mode: str) -> _Open:
        return self

    def close(self) -> None:
        pass


def request(*lines: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request; Host and Content-Length are added unless given."""
    head = [f"{lines[0]} HTTP/1.1", *lines[1:]]
    names = {line.partition(":")[0].lower() for line in lines[1:]}
    if "host" not in names:
        head.append("Host: oneshot.example:8090")
    if body and not names & {"content-length", "transfer-encoding"}:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


@contextmanager
def failures_logged() -> Iterator[list[LogEvent]]:
    """Collect the log events with a traceback."""
    with events_logged(lambda event: event.get("log_failure") is not None) as seen:
        yield seen


@contextmanager
def events_logged(wanted: Callable[[LogEvent], bool] = lambda event: True) -> Iterator[list[LogEvent]]:
    """Collect log events."""
    seen: list[LogEvent] = []

    @implementer(ILogObserver)
    def keep(event: LogEvent) -> None:
        if wanted(event):
            seen.append(event)

    globalLogPublisher.addObserver(keep)
    try:
        yield seen
    finally:
        globalLogPublisher.removeObserver(keep)
