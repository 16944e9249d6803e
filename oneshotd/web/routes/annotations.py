"""Annotations of charts: ``POST`` as Grafana and Graphite take them, and ``GET`` as Grafana answers.

An annotation is an event. It cannot be changed or deleted, so the other methods of Grafana's API are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import define, frozen
from klein import Klein

from oneshotd.core.filters import Selection
from oneshotd.core.parsing.formats import query_pairs
from oneshotd.core.parsing.grammar import Pair, quoted
from oneshotd.errors import Refused
from oneshotd.ingest.dialects import annotations as dialect
from oneshotd.ingest.dialects.pings import TYPE as PING
from oneshotd.ingest.dialects.tags import tag, tags_of_labels
from oneshotd.ingest.dialects.translation import Translate
from oneshotd.query import MAX_PAGE, EventQueries, EventSeen
from oneshotd.web.error_responses import JSON, answer
from oneshotd.web.routes.dialects import DialectRequests, plain_body
from oneshotd.web.timestamps import moment
from oneshotd.web.transport.request import OneshotRequest, too_large

#: The source of these events in the metrics.
SOURCE = "annotations"

#: Bytes of a body. It is decoded in a turn of the reactor, and 4 KiB of its text are kept.
MAX_BODY = 64 * 1024

#: Annotations of a page if no limit is given, as in Grafana.
DEFAULT_PAGE = 100

#: Tags of a query.
MAX_TAGS = 64


@frozen(kw_only=True)
class AnnotationsRequest:
    """The parameters of a request for annotations.

    :param since: Unix ms of the earliest event.
    :param until: Unix ms of the latest event.
    :param tags: label -> members that it has to have.
    :param match_any: one of the tags is enough.
    :param before: only events below this seq.
    """

    since: int | None = None
    until: int | None = None
    tags: Sequence[tuple[str, str]] = ()
    match_any: bool = False
    limit: int = DEFAULT_PAGE
    before: int | None = None

    def selection(self) -> Selection:
        """Return the condition that an event has to meet."""
        until = None if self.until is None else self.until + 1
        return Selection(since=self.since, until=until, members=self.tags, any_member=self.match_any)


@define(kw_only=True, eq=False)
class AnnotationRoutes:
    """Stores annotations, and answers with held events as annotations."""

    dialects: DialectRequests
    queries: EventQueries

    async def add(self, request: OneshotRequest, translate: Translate) -> bytes:
        """Store an annotation, and answer after its commit."""
        self.dialects.clients.check_emitter(request)
        body = plain_body(request)
        if len(body) > MAX_BODY:
            raise too_large(MAX_BODY)
        message = self.dialects.message(request, body)
        translation = translate(message, self.dialects.context())
        return await self.dialects.store(request, SOURCE, translation)

    async def find(self, request: OneshotRequest) -> bytes:
        """Return held events as annotations, newest first."""
        self.dialects.clients.check_reader(request)
        asked = read_parameters(query_pairs(request.query))
        page = await self.queries.select(asked.selection(), limit=asked.limit, before=asked.before)
        found = [annotation(event) for event in page.events]
        if page.next is not None:
            request.setHeader(b"Link", b'<?before=%d>; rel="next"' % page.next)
        body = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
        return answer(request, body + b"\n", content_type=JSON)

    def refuse(self, request: OneshotRequest) -> bytes:
        """Refuse what Grafana does with one annotation; the answer is the same for all clients."""
        text = "an annotation is an event here, which is not changed or deleted: send another one"
        request.setHeader(b"Allow", b"")
        raise Refused(text, reason="syntax", status=405)


def register(app: Klein, routes: Callable[[Any], AnnotationRoutes]) -> None:
    """Add these routes to `app`.

    :param routes: finds them in the object that `app` is bound to.
    """

    @app.route("/api/annotations", methods=["POST"])
    async def annotate(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).add(request, dialect.grafana)

    @app.route("/api/annotations/graphite", methods=["POST"])
    async def annotate_graphite(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).add(request, dialect.grafana_graphite)

    @app.route("/events/", methods=["POST"])
    async def graphite_events(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).add(request, dialect.graphite)

    @app.route("/api/annotations", methods=["GET"])
    async def annotations(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).find(request)

    @app.route("/api/annotations/<number>", methods=["GET", "PUT", "PATCH", "DELETE"])
    def annotation_by_number(api: object, request: OneshotRequest, number: str) -> bytes:
        return routes(api).refuse(request)


# The query


def read_parameters(pairs: Iterable[Pair]) -> AnnotationsRequest:
    """Read the query of a request for annotations.

    Grafana's parameters about dashboards, panels, alerts and users are ignored: events have none.

    :raises Refused: a parameter is wrong, unknown, or given twice.
    """
    given: dict[str, Any] = {}
    tags: list[tuple[str, str]] = []
    for name, text in pairs:
        if name in _IGNORED or not text:
            continue
        if name == "tags":
            if len(tags) == MAX_TAGS:
                raise Refused(f"tags: expected at most {MAX_TAGS}", reason="limit")
            tags.append(tag(text))
            continue
        if name not in _PARAMETERS:
            raise Refused(f"{quoted(name)}: expected one of {', '.join(_KNOWN)}", reason="query")
        field, read = _PARAMETERS[name]
        if field in given:
            raise Refused(f"{name} is given more than once", reason="query")
        try:
            given[field] = read(text)
        except ValueError as error:
            raise Refused(f"{name}: {error}", reason="query") from None
    return AnnotationsRequest(tags=tuple(tags), **given)


def _count(most: int, what: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0
        if not 1 <= number <= most:
            raise ValueError(f"expected {what}, got {text[:80]!a}")
        return number

    return read


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"expected true or false, got {text[:80]!a}")
    return text == "true"


_PARAMETERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "from": ("since", moment),
    "to": ("until", moment),
    "limit": ("limit", _count(MAX_PAGE, f"a whole number from 1 to {MAX_PAGE}")),
    "matchAny": ("match_any", _boolean),
    "before": ("before", _count(10**18, "the id of an annotation")),
}
_KNOWN = ("tags", *_PARAMETERS)
_IGNORED = frozenset(("type", "dashboardId", "dashboardUID", "panelId", "alertId", "alertUID", "userId"))


# The answer


def annotation(event: EventSeen) -> dict[str, Any]:
    """Return an event with the fields that Grafana's annotations have.

    Start and end are the sender's own times if it has sent them. A ping with a value ended a run of so many
    seconds. Other events are points, for which Grafana has the same time twice.
    """
    details = event.detail
    begin = end = _sent(details.get("time")) or event.at
    if "end" in details:
        end = max(begin, _sent(details["end"]) or begin)
    elif event.labels.get("type") == PING and event.value is not None:
        begin, end = event.at - _milliseconds(event.value), event.at
    labels = {name: text for name, text in event.labels.items() if (name, text) != ("type", dialect.TYPE)}
    found: dict[str, Any] = {
        "id": event.seq,
        "time": begin,
        "timeEnd": end,
        "text": details.get("text") or event.series,
        "tags": tags_of_labels(labels),
    }
    if "dashboard" in details:
        found["dashboardUID"] = details["dashboard"]
    if details.get("panel", "").isdecimal():
        found["panelId"] = int(details["panel"])
    return found


def _sent(text: str | None) -> int | None:
    """Return a sender's time as Unix ms; None: it has sent none, or none that can be read."""
    try:
        return moment(text) if text else None
    except ValueError:
        return None


def _milliseconds(value: str) -> int:
    """Return a sample's value in seconds as milliseconds, from 0 to a century."""
    seconds = float(value)
    return int(seconds * 1000) if 0 <= seconds < 3.2e9 else 0
