"""Stores what a dialect makes of a request, and answers it; the routes of all dialects use it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial

from attrs import define, evolve
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from oneshotd.access.event_bounds import EventBounds
from oneshotd.core.parsing.formats import MAX_BODY_BYTES, Rules
from oneshotd.core.parsing.grammar import quoted
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.translation import Answer, Context, Message, Translation
from oneshotd.ingest.parts import parts_of, sum_of
from oneshotd.ingest.pipeline import Ingest
from oneshotd.store.interface import Stored
from oneshotd.web.error_responses import answer
from oneshotd.web.routes.clients import Clients
from oneshotd.web.transport.gzip_body import inflated
from oneshotd.web.transport.request import OneshotRequest, too_large

#: Bytes of a body that may wait for its translation, or be inflated, without counting as a large one: as many
#: for each connection.
MAX_UNCOUNTED = 64 * 1024

#: Translates one message; `ingest.hooks.hooks.Hooks.translate` does for the name of a hook.
Translator = Callable[[Message, Context], Awaitable[Translation]]


@define(kw_only=True, eq=False)
class DialectRequests:
    """Takes requests whose bodies are of a dialect.

    :param bounds: of the access rule that lets the client send events.
    :param hold: seconds for which events are kept.
    :param now_ms: returns Unix ms.
    """

    ingest: Ingest
    rules: Rules
    bounds: EventBounds
    clients: Clients
    hold: float
    now_ms: Callable[[], int]
    clock: IReactorTime

    async def take(
        self,
        request: OneshotRequest,
        source: str,
        translate: Translator,
        *,
        path: str = "",
        most: int | None = None,
    ) -> bytes:
        """Store the events of a request, and return the body of its answer.

        :param source: the door, for the metrics: ``hook/NAME``.
        :param path: see `Message`.
        :param most: bytes that a body may have, which may be compressed then; None: it may not, and has the
            limit of all bodies.
        :raises Refused: the client may not send events, or the request cannot be read.
        """
        self.clients.check_emitter(request)
        body = plain_body(request) if most is None else await self._inflated(request, most)
        found = await translate(self.message(request, body, path=path), self.context())
        return await self.store(request, source, found)

    async def store(self, request: OneshotRequest, source: str, found: Translation) -> bytes:
        """Store the events of a request that may send them; return the body of its answer.

        :param source: the door, for the metrics.
        :raises Refused: the rule of the client does not allow the events, or they cannot be stored now.
        """
        stored = Stored(stored=0)
        if found.group is not None:
            with self.bounds.admitted(request.rule, found.group.events) as events:
                parts = parts_of(evolve(found.group, events=events))
                stored = sum_of([await self.ingest.submit(part, source) for part in parts])
        made = _usual(stored, found.ignored) if found.answer is None else found.answer(stored)
        return respond(request, made)

    async def _inflated(self, request: OneshotRequest, most: int) -> bytes:
        body = request.body()
        if len(body) > most:
            raise too_large(most)
        if len(body) > MAX_UNCOUNTED:
            request.hold(min(len(body), MAX_BODY_BYTES))  # what is beyond counts since it arrived
        coding = request.content_coding()
        if coding in ("gzip", "x-gzip"):  # RFC 9110 section 8.4.1.3
            return await inflated(
                body, most=most, hold=request.hold, pause=partial(deferLater, self.clock, 0)
            )
        if coding != "identity":
            text = f"Content-Encoding: expected gzip or none, got {quoted(coding)}"
            raise Refused(text, reason="type", status=415)
        return body

    def message(self, request: OneshotRequest, body: bytes, *, path: str = "") -> Message:
        """Return the message of a request.

        :param body: without its content coding.
        """
        return Message(
            body=body,
            raw=request.body(),
            headers={
                name.decode("latin-1").lower(): b", ".join(values).decode("latin-1")
                for name, values in request.requestHeaders.getAllRawHeaders()
            },
            method=request.method.decode("ascii"),
            query=request.query,
            path=path,
            principal="" if request.rule is None else request.rule.principal,
        )

    def context(self) -> Context:
        """Return what a dialect knows of the daemon."""
        return Context(rules=self.rules, hold=self.hold, now=self.now_ms() / 1000)


def plain_body(request: OneshotRequest) -> bytes:
    """Return the body of a request that has no content coding.

    :raises Refused: it has one (415).
    """
    request.media_type()
    return request.body()


def respond(request: OneshotRequest, made: Answer) -> bytes:
    """Set status and headers of a dialect's answer; return its body."""
    kind = made.content_type if "charset=" in made.content_type else f"{made.content_type}; charset=utf-8"
    body = answer(request, made.body, status=made.status, content_type=kind.encode("ascii"))
    for name, value in made.headers.items():
        request.setHeader(name.encode("ascii"), value.encode("latin-1"))
    return body


def _usual(stored: Stored, ignored: int) -> Answer:
    figures = {"stored": stored.stored, "duplicates": stored.duplicates, "ignored": ignored}
    return Answer(body=json.dumps(figures).encode() + b"\n")
