"""``POST /event`` and ``POST /events``: store events."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from attrs import define
from klein import Klein

from oneshotd.access.event_bounds import EventBounds
from oneshotd.core.events import Group, NewEvent
from oneshotd.core.parsing.formats import (
    Rules,
    parse_json,
    parse_json_event,
    parse_lines,
    parse_ndjson,
    parse_query,
)
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.registry import MEDIA_TYPES, TELLING_HEADERS
from oneshotd.ingest.pipeline import Ingest
from oneshotd.web.error_responses import JSON, answer
from oneshotd.web.routes.clients import Clients
from oneshotd.web.transport.request import OneshotRequest

FORM = "application/x-www-form-urlencoded"
JSON_BODY = "application/json"

#: Media type of a body of POST /events -> its parser; "" is no Content-Type. Plain
#: ``curl --data-binary @file`` sends the type of a form.
PARSERS: Mapping[str, Callable[..., Sequence[NewEvent]]] = {
    "": parse_lines,
    "text/plain": parse_lines,
    FORM: parse_lines,
    "application/x-ndjson": parse_ndjson,
    "application/ndjson": parse_ndjson,
    "application/jsonlines": parse_ndjson,
    JSON_BODY: parse_json,
}

_TELLING = tuple((header.encode("ascii"), hook) for header, hook in TELLING_HEADERS.items())


@define(kw_only=True, eq=False)
class IngestRoutes:
    """Parses the events of a request and answers after their commit.

    :param bounds: of the access rule that lets the client send events.
    :param by_hook: stores the events of a request as the hook of this name does; for formats that are told by
        a media type or a header, not by the path.
    """

    ingest: Ingest
    rules: Rules
    bounds: EventBounds
    clients: Clients
    by_hook: Callable[[OneshotRequest, str], Awaitable[bytes]]

    async def event(self, request: OneshotRequest) -> bytes:
        """Store one event; its labels are in the query and in the body (a form or a JSON object)."""
        self.clients.check_emitter(request)
        if hook := _told_by_header(request):
            return await self.by_hook(request, hook)
        body = request.body()
        media = request.media_type()
        if media in MEDIA_TYPES:
            return await self.by_hook(request, MEDIA_TYPES[media])
        if body and media not in ("", FORM, JSON_BODY):
            text = f"Content-Type: expected {FORM} or {JSON_BODY}, got {media}"
            raise Refused(text, reason="type", status=415)
        parse = parse_json_event if body and media == JSON_BODY else parse_query
        event = parse(request.query, body, rules=self.rules)
        key = _key([event], request)
        with self.bounds.admitted(request.rule, [event]) as events:
            await self.ingest.submit(Group(events=events, key=key), "http")
        return answer(request, b"ok\n")

    async def events(self, request: OneshotRequest) -> bytes:
        """Store all events of a body, or none of them."""
        self.clients.check_emitter(request)
        if hook := _told_by_header(request):
            return await self.by_hook(request, hook)
        media = request.media_type()
        parse = PARSERS.get(media)
        if parse is None and media in MEDIA_TYPES:
            return await self.by_hook(request, MEDIA_TYPES[media])
        if parse is None:
            text = f"Content-Type: expected text/plain, application/x-ndjson or application/json, got {media}"
            raise Refused(text, reason="type", status=415)
        sent = parse(request.body(), rules=self.rules)
        key = _key(sent, request)
        with self.bounds.admitted(request.rule, sent) as events:
            stored = await self.ingest.submit(Group(events=events, key=key), "http_bulk")
        figures = {"stored": stored.stored, "duplicates": stored.duplicates}
        return answer(request, json.dumps(figures).encode() + b"\n", content_type=JSON)


def register(app: Klein, routes: Callable[[Any], IngestRoutes]) -> None:
    """Add these routes to `app`.

    :param routes: finds them in the object that `app` is bound to.
    """

    @app.route("/event", methods=["POST"])
    async def event(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).event(request)

    @app.route("/events", methods=["POST"])
    async def events(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).events(request)


def _told_by_header(request: OneshotRequest) -> str | None:
    """Return the hook for a request, if a header tells it."""
    for header, hook in _TELLING:
        if request.requestHeaders.hasHeader(header):
            return hook
    return None


def _key(events: Sequence[NewEvent], request: OneshotRequest) -> str | None:
    """Return the idempotency key of the request's header.

    :raises Refused: it is malformed, or both the header and an event have one.
    """
    key = request.idempotency_key()
    if key is not None and any(event.key is not None for event in events):
        raise Refused("Idempotency-Key and __id__: expected one of them, got both", reason="key")
    return key
