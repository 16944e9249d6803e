"""``GET /api/v1/events`` and ``/api/v1/scrapers``: held events and known scrapers as JSON.

No request here delivers anything. The names of the fields are public (docs/api.md): none of them
may be renamed or removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import define, field, frozen
from klein import Klein

from oneshotd.core.filters import METRIC
from oneshotd.core.parsing.details import PREFIX
from oneshotd.core.parsing.formats import query_pairs
from oneshotd.core.parsing.grammar import MAX_LABELS, Pair, label_name, one_line_end, quoted
from oneshotd.errors import Refused
from oneshotd.query import MAX_PAGE, EventQueries, EventSeen, ScraperSeen
from oneshotd.web.error_responses import JSON, answer
from oneshotd.web.routes.clients import Clients
from oneshotd.web.timestamps import moment, rfc3339
from oneshotd.web.transport.request import OneshotRequest

#: Prefix of a label that is named like a parameter; no label's own name can begin with it.
LABEL = "__label__"

#: Events of a page if no limit is given.
DEFAULT_PAGE = 100

_NUMBER = re.compile(r"[0-9]{1,18}")


@frozen(kw_only=True)
class EventsRequest:
    """The parameters of a request for events; see `oneshotd.query.EventQueries.events`."""

    filters: Mapping[str, str] = field(factory=dict)
    since: int | None = None
    until: int | None = None
    limit: int = DEFAULT_PAGE
    before: int | None = None


@define(kw_only=True, eq=False)
class QueryRoutes:
    """Answers queries.

    :param hold: seconds for which events are kept.
    """

    queries: EventQueries
    clients: Clients
    hold: float

    async def events(self, request: OneshotRequest) -> bytes:
        """Return a page of the held events, newest first."""
        self.clients.check_reader(request)
        asked = read_parameters(query_pairs(request.query))
        page = await self.queries.events(
            asked.filters, since=asked.since, until=asked.until, limit=asked.limit, before=asked.before
        )
        return _json(request, {"events": [_event(event) for event in page.events], "next": page.next})

    async def scrapers(self, request: OneshotRequest) -> bytes:
        """Return the known scrapers."""
        self.clients.check_reader(request)
        for name, _ in query_pairs(request.query):
            raise Refused(f"{quoted(name)}: /api/v1/scrapers takes no parameters", reason="query")
        known = await self.queries.scrapers()
        found = {"hold_seconds": self.hold, "scrapers": [_scraper(scraper) for scraper in known]}
        return _json(request, found)


def register(app: Klein, routes: Callable[[Any], QueryRoutes]) -> None:
    """Add these routes to `app`.

    :param routes: finds them in the object that `app` is bound to.
    """

    @app.route("/api/v1/events", methods=["GET"])
    async def held_events(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).events(request)

    @app.route("/api/v1/scrapers", methods=["GET"])
    async def known_scrapers(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).scrapers(request)


def read_parameters(pairs: Iterable[Pair]) -> EventsRequest:
    """Read the query of a request for events.

    ``since``, ``until``, ``limit`` and ``before`` are parameters; each other name is a label that
    an event must have with this value. ``__name__`` is the metric name; ``__label__limit`` the
    label ``limit``. Labels may be spelled as they were when the event was sent.

    :raises Refused: a parameter is wrong, no label can have this name, or a name is given twice.
    """
    filters: dict[str, str] = {}
    given: dict[str, int] = {}
    for name, text in pairs:
        if name in _PARAMETERS:
            if name in given:
                raise Refused(f"{name} is given more than once", reason="query")
            try:
                given[name] = _PARAMETERS[name](text or "")
            except ValueError as error:
                raise Refused(f"{name}: {error}", reason="query") from None
            continue
        label = _filter_name(name)
        if label in filters:
            raise Refused(f"label {quoted(label)} is given more than once", reason="query")
        if len(filters) == MAX_LABELS:
            raise Refused(f"there are more than {MAX_LABELS} labels", reason="limit")
        filters[label] = one_line_end(text or "")
    return EventsRequest(filters=filters, **given)


def _filter_name(name: str) -> str:
    if name == METRIC:
        return METRIC
    if name.startswith(PREFIX):
        raise Refused(f"{quoted(name)}: events cannot be asked for by their details", reason="query")
    label = label_name(name.removeprefix(LABEL))
    if label == "value":
        raise Refused("value: events cannot be asked for by their value", reason="query")
    return label


def _limit(text: str) -> int:
    number = int(text) if _NUMBER.fullmatch(text) else 0
    if not 1 <= number <= MAX_PAGE:
        raise ValueError(f"expected a whole number from 1 to {MAX_PAGE}, got {text[:80]!a}")
    return number


def _seq(text: str) -> int:
    number = int(text) if _NUMBER.fullmatch(text) else 0
    if number < 1:
        raise ValueError(f"expected an event's seq, a whole number from 1, got {text[:80]!a}")
    return number


_PARAMETERS = {"since": moment, "until": moment, "limit": _limit, "before": _seq}


def _json(request: OneshotRequest, found: Mapping[str, Any]) -> bytes:
    body = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    return answer(request, body + b"\n", content_type=JSON)


def _event(event: EventSeen) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": event.at,
        "time": rfc3339(event.at),
        "metric": event.metric,
        "labels": dict(event.labels),
        "value": event.value,
        **({"detail": dict(event.detail)} if event.detail else {}),
    }


def _scraper(scraper: ScraperSeen) -> dict[str, Any]:
    oldest, since = scraper.oldest_pending, scraper.lag_since
    return {
        "name": scraper.name,
        "named": scraper.named,
        "way": None if scraper.way is None else scraper.way.value,
        "live": scraper.live,
        "last_seen_at": scraper.last_seen,
        "last_seen": rfc3339(scraper.last_seen),
        "interval_seconds": scraper.interval,
        "scrapes": scraper.answered,
        "cursor": scraper.cursor,
        "pending": scraper.pending,
        "owed": scraper.owed,
        "oldest_pending_at": oldest,
        "oldest_pending": None if oldest is None else rfc3339(oldest),
        "queueing_series": scraper.queueing,
        "in_flight": scraper.in_flight,
        "delivered": scraper.delivered,
        "returned": scraper.returned,
        "revoked": scraper.revoked,
        "uncertain": scraper.uncertain,
        "lost": dict(scraper.lost),
        "longest_lag_seconds": scraper.longest_lag,
        "lag_since_at": since,
        "lag_since": None if since is None else rfc3339(since),
    }
