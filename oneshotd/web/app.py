"""The doors: which request goes where, and what it is answered.

`HTTPApi` knows its collaborators by what it needs of them only. Nothing that must be finished
lives in a coroutine here: Klein cancels it when the client hangs up (klein#840).
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from attrs import define, field
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import CACHED
from twisted.web.resource import IResource
from werkzeug.exceptions import NotFound

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.identity import Visit, forwarded_client
from oneshotd.core.look import LookReason
from oneshotd.core.negotiation import accepts_gzip
from oneshotd.core.networks import UNIX, Networks, client_address
from oneshotd.core.parsing.formats import (
    Rules,
    parse_json,
    parse_json_event,
    parse_lines,
    parse_ndjson,
    parse_query,
)
from oneshotd.core.scrape_request import PARAMETERS, Wanted, read_scrape_request
from oneshotd.errors import Refused
from oneshotd.query import EventQueries
from oneshotd.store.interface import Stored
from oneshotd.web import error_responses as problems
from oneshotd.web.compression import WORTH_IT, compressed
from oneshotd.web.error_responses import JSON, answer
from oneshotd.web.routes import api
from oneshotd.web.status import page
from oneshotd.web.status.assets import ASSETS, FOR_EVER
from oneshotd.web.status.cache import Status, StatusCache
from oneshotd.web.status.readiness import StoreProbe
from oneshotd.web.transport import ack_tracker as receipt
from oneshotd.web.transport.request import OneshotRequest, parameters

FORM = "application/x-www-form-urlencoded"
JSON_BODY = "application/json"

#: Seconds for which an event may wait for the disk before /readyz says so. A worn SD card syncs for
#: seconds now and then.
INTAKE_PATIENCE = 10.0

#: How the body of POST /events is read, by its type; "" is none given. Plain
#: ``curl --data-binary @file`` says that it sends a form.
PARSERS: Mapping[str, Callable[..., Sequence[NewEvent]]] = {
    "": parse_lines,
    "text/plain": parse_lines,
    FORM: parse_lines,
    "application/x-ndjson": parse_ndjson,
    "application/ndjson": parse_ndjson,
    "application/jsonlines": parse_ndjson,
    JSON_BODY: parse_json,
}

#: What a proxy says of the path under which it serves us; Traefik sends it by itself.
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){1,10}/?")


class Shown(Protocol):
    """One answer in an exposition format."""

    @property
    def body(self) -> bytes:
        """All of it."""

    @property
    def content_type(self) -> str:
        """The format, with its version."""


class InFlightDelivery(receipt.InFlightDelivery, Shown, Protocol):
    """One answer whose arrival matters."""


class Ingest(Protocol):
    """What the doors need of `oneshotd.ingest.pipeline`."""

    def submit(self, group: Group, door: str) -> Deferred[Stored]:
        """Fires when the group is on disk, fails with `Refused`; goes on if it is cancelled."""

    def waits(self) -> float:
        """Seconds for which the longest-waiting event has been waiting for the disk."""


class Delivery(Protocol):
    """What the doors need of `oneshotd.delivery.scrapes`."""

    def scrape(self, visit: Visit, wanted: Wanted, *, timeout: float) -> Awaitable[InFlightDelivery]:
        """Set aside what the scraper has to come; cancelled, it returns it."""

    def look(self, visit: Visit, wanted: Wanted, reason: LookReason) -> Awaitable[Shown]:
        """What would come; nothing moves."""

    def timed_before(self, name: str) -> bool:
        """Whether this identity's scrapes carry the scrape timeout header as a rule."""


class Store(Protocol):
    """What the doors need of the store."""

    def check(self) -> Deferred[None]:
        """Fails with `OneshotError` where it cannot be written."""


class Send(Protocol):
    """How a shipment goes out (`web/transport/channel.py`)."""

    def __call__(
        self, request: OneshotRequest, shipment: InFlightDelivery, *, deadline: float
    ) -> Awaitable[None]:
        """Send the body; status and headers are set. Done when the request may be finished.

        :param deadline: seconds from `request.arrived`.
        """


@define(kw_only=True, eq=False, slots=False)
class HTTPApi:
    """The HTTP side of the daemon; `resource` is all that a site gets to see.

    :param ready: why the daemon cannot work now ("starting", "stopping"), or None.
    :param trusted_proxies: whose X-Forwarded-For and X-Real-IP count.
    :param allow_emit: who may send events; empty: everyone.
    :param allow_scrape: who may scrape and look; empty: everyone.
    :param now_ms: Unix ms.
    :param hold: seconds for which events are kept.
    :param udp_port: where datagrams are taken, or None.
    """

    intake: Ingest
    delivery: Delivery
    store: Store
    reading: EventQueries
    telemetry: problems.Refusals
    send: Send
    ready: Callable[[], str | None]
    clock: IReactorTime
    rules: Rules
    trusted_proxies: Networks
    allow_emit: Networks
    allow_scrape: Networks
    now_ms: Callable[[], int]
    hold: float
    udp_port: int | None
    _board: StatusCache = field(init=False)
    _store_probe: StoreProbe = field(init=False)

    app = Klein()
    problems.register(app)
    api.register(app)

    def __attrs_post_init__(self) -> None:
        self._store_probe = StoreProbe(lambda: self.store.check(), self.clock)
        self._board = StatusCache(
            reading=self.reading,
            problem=self._problem,
            clock=self.clock,
            now_ms=self.now_ms,
            hold=self.hold,
            render=page.render_live,
        )

    def resource(self) -> IResource:
        """The root of the site."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/event", methods=["POST"])
    async def event(self, request: OneshotRequest) -> bytes:
        """One event; query and body, a form or a JSON object, both carry labels."""
        self._check_emitter(request)
        body = request.body()
        media = request.media_type()
        if body and media not in ("", FORM, JSON_BODY):
            text = f"Content-Type: expected {FORM} or {JSON_BODY}, got {media}"
            raise Refused(text, reason="type", status=415)
        parse = parse_json_event if body and media == JSON_BODY else parse_query
        event = parse(request.query, body, rules=self.rules)
        await self.intake.submit(_group([event], request.idempotency_key()), "http")
        return answer(request, b"ok\n")

    @app.route("/events", methods=["POST"])
    async def events(self, request: OneshotRequest) -> bytes:
        """Many events, all or none."""
        self._check_emitter(request)
        media = request.media_type()
        parse = PARSERS.get(media)
        if parse is None:
            text = f"Content-Type: expected text/plain, application/x-ndjson or application/json, got {media}"
            raise Refused(text, reason="type", status=415)
        events = parse(request.body(), rules=self.rules)
        stored = await self.intake.submit(_group(events, request.idempotency_key()), "http_bulk")
        figures = {"stored": stored.stored, "duplicates": stored.duplicates}
        return answer(request, json.dumps(figures).encode() + b"\n", content_type=JSON)

    @app.route("/metrics", methods=["GET"])
    async def metrics(self, request: OneshotRequest) -> bytes:
        """The scrape, or a look at what it would bring."""
        address = self.check_reader(request)
        asked = read_scrape_request(
            method=request.method,
            parameters=parameters(request.query, PARAMETERS),
            header=request.header,
            address=address,
            timeout_expected=self.delivery.timed_before,
        )
        if asked.look is not None:
            shown = await self.delivery.look(asked.visit, asked.wanted, asked.look)
            request.setHeader(b"Oneshotd-Look", b"1")
            return await _exposition(request, shown, self.clock)
        shipment = await self.delivery.scrape(asked.visit, asked.wanted, timeout=asked.deadline)
        try:
            shipment.body = await _exposition(request, shipment, self.clock)
        except BaseException:  # the client hung up meanwhile
            if shipment.awaits_receipt:
                shipment.returned(uncertain=False)
            raise
        await self.send(request, shipment, deadline=asked.deadline)
        return b""

    @app.route("/", methods=["GET"])
    async def front(self, request: OneshotRequest) -> bytes:
        """A status page for browsers, a few lines for terminals."""
        self.check_reader(request)
        request.setHeader(b"Vary", b"Accept")
        scheme = "https" if request.isSecure() else "http"
        prefix = self._prefix(request)
        if not problems.accepts(request, "text/html"):
            return answer(request, page.welcome(scheme, request.host_text(), prefix))
        status = await self._board.status()
        _restrict(request)
        live = await self._board.html(status)
        html = await page.render(live, scheme, request.host_text(), self.udp_port, prefix)
        return answer(request, html, content_type=page.HTML)

    @app.route("/live", methods=["GET"])
    async def live(self, request: OneshotRequest) -> bytes:
        """What changes on the status page, for its script; 304 where nothing has."""
        self.check_reader(request)
        status: Status = await self._board.status()
        _restrict(request)
        if request.setETag(status.etag) is CACHED:
            return answer(request, b"", status=304, content_type=page.HTML)
        return answer(request, await self._board.html(status), content_type=page.HTML)

    @app.route("/assets/<name>", methods=["GET"])
    def asset(self, request: OneshotRequest, name: str) -> bytes:
        """The status page's style, script and mark."""
        self.check_reader(request)
        found = ASSETS.get(name)
        if found is None:
            raise NotFound
        _restrict(request)
        body = answer(request, found.body, content_type=found.content_type)
        if request.query == found.version.encode("ascii"):
            request.setHeader(b"Cache-Control", FOR_EVER)
        return body

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: OneshotRequest) -> bytes:
        """The process lives."""
        return answer(request, b"ok\n")

    @app.route("/readyz", methods=["GET"])
    async def readyz(self, request: OneshotRequest) -> bytes:
        """The store can be written and the listeners are up."""
        problem = await self._problem()
        if problem is None:
            return answer(request, b"ok\n")
        return problems.refusal(request, 503, problem, retry_after=problems.RETRY_AFTER["store"])

    async def _problem(self) -> str | None:
        """Why events or scrapes would not be answered now."""
        reason = self.ready()
        if reason is not None:
            return reason
        reason = await self._store_probe.problem()
        if reason is not None:
            return reason
        waited = self.intake.waits()
        if waited > INTAKE_PATIENCE:
            return f"ingest: events have been waiting for the disk for {waited:.0f} s"
        return None

    def _check_emitter(self, request: OneshotRequest) -> None:
        """Refuse whom `allow_emit` shuts out, and other sites' pages."""
        _check(self.allow_emit, self._client(request), "send events")
        if request.is_from_another_page():
            raise Refused("a page of another site may not send events", reason="forbidden", status=403)

    def check_reader(self, request: OneshotRequest) -> str:
        """The client's address, unless `allow_scrape` shuts it out."""
        address = self._client(request)
        _check(self.allow_scrape, address, "read here")
        return address

    def _prefix(self, request: OneshotRequest) -> str:
        """The path under which a trusted proxy serves us, as it says; empty where none does."""
        said = request.header(b"X-Forwarded-Prefix") or ""
        trusted = client_address(_peer(request)) in self.trusted_proxies
        return said.rstrip("/") if trusted and _PREFIX.fullmatch(said) else ""

    def _client(self, request: OneshotRequest) -> str:
        """The client's address; "unix" where it came over a socket that has none."""
        peer = _peer(request)
        forwarded = request.requestHeaders.getRawHeaders(b"X-Forwarded-For", [])
        return forwarded_client(
            peer,
            [line.decode("latin-1") for line in forwarded],
            request.header(b"X-Real-IP"),
            self.trusted_proxies,
        )


async def _exposition(request: OneshotRequest, shown: Shown, reactor: IReactorTime) -> bytes:
    """Set the headers for a body in an exposition format; gives the body as it goes out."""
    request.setHeader(b"Vary", b"Accept, Accept-Encoding")
    body = shown.body
    if len(body) >= WORTH_IT and accepts_gzip(request.header(b"Accept-Encoding")):
        body = await compressed(body, reactor)
        request.setHeader(b"Content-Encoding", b"gzip")
    return answer(request, body, content_type=shown.content_type.encode("ascii"))


def _peer(request: OneshotRequest) -> str:
    """The address at the other end of the connection; "unix" where it has none."""
    peer: str = getattr(request.getClientAddress(), "host", UNIX)
    return peer


def _restrict(request: OneshotRequest) -> None:
    """Let the status page do what it has to, and nothing else."""
    for name, value in page.HEADERS.items():
        request.setHeader(name, value)


def _check(allowed: Networks, address: str, what: str) -> None:
    if not allowed.admits(address):
        raise Refused(f"{address} may not {what}", reason="forbidden", status=403)


def _group(events: Sequence[NewEvent], key: str | None) -> Group:
    """What is stored together.

    :raises Refused: the header names a key, and an event another.
    """
    if key is not None and any(event.key is not None for event in events):
        raise Refused("Idempotency-Key and __id__: expected one of them, got both", reason="key")
    return Group(events=events, key=key)
