"""Errors become answers here, and nowhere else.

Every answer of the daemon, good or bad, goes through `answer`: it always says its length, its
type with a charset, and that no browser may guess another type. A refusal is one line of
text, or ``{"error": ...}`` for a client that accepts JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol, cast

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from oneshotd.core.negotiation import names_type
from oneshotd.core.text import escape_unprintable
from oneshotd.errors import Refused, StoreUnavailable

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json; charset=utf-8"

#: Seconds after which a client may try again, sent with every 503. The queue to the store
#: empties with the next commit, a full disk takes somebody's hand.
RETRY_AFTER = {"busy": 1, "store": 5}

#: Status codes that Twisted has no phrase for (RFC 9110 section 15.5.21).
_PHRASES = {422: b"Unprocessable Content"}

_log = Logger()


class Refusals(Protocol):
    """Where refusals are counted (`telemetry.Telemetry`)."""

    def refused(self, reason: str, n: int = 1) -> None:
        """Count `n` refusals for one of `errors.REASONS`."""


class Counting(Protocol):
    """What a Klein application's instance has so that its refusals are counted."""

    @property
    def telemetry(self) -> Refusals:
        """Where refusals are counted."""


def answer(request: server.Request, body: bytes, *, status: int = 200, content_type: bytes = TEXT) -> bytes:
    """Set the status and the headers of an answer with this whole body; gives the body back."""
    request.setResponseCode(status, _PHRASES.get(status))
    for name, value in (
        (b"Content-Type", content_type),
        (b"Content-Length", b"%d" % len(body)),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Cache-Control", b"no-store"),
        (b"Server", b"oneshotd"),
        (b"Date", http.datetimeToString()),
    ):
        request.setHeader(name, value)
    return body


def refusal(request: server.Request, status: int, text: str, *, retry_after: int | None = None) -> bytes:
    """The answer to a request that is not granted: one line saying why.

    :param retry_after: seconds, for the header of that name.
    """
    line = escape_unprintable(text)
    if retry_after is not None:
        request.setHeader(b"Retry-After", b"%d" % retry_after)
    if accepts(request, "application/json"):
        body = json.dumps({"error": line}, ensure_ascii=False).encode()
        return answer(request, body + b"\n", status=status, content_type=JSON)
    return answer(request, line.encode() + b"\n", status=status)


def refuse(request: server.Request, refused: Refused) -> bytes:
    """The answer that a `Refused` asks for; a 503 says when to try again."""
    retry_after = RETRY_AFTER.get(refused.reason, 1) if refused.status == http.SERVICE_UNAVAILABLE else None
    return refusal(request, refused.status, refused.text, retry_after=retry_after)


def accepts(request: server.Request, media: str) -> bool:
    """Whether the client names this media type in Accept (RFC 9110 section 12.5.1), with q above 0.

    Wildcards do not count: ``*/*`` is what every client says that does not care.
    """
    headers = request.requestHeaders.getRawHeaders(b"Accept", ())
    return names_type(b",".join(headers).decode("latin-1"), media)


def internal_error(request: server.Request, failure: Failure) -> bytes:
    """What we did not foresee: told to the log once, and to the client without any detail."""
    _log.failure("{method} {path} failed", failure=failure, method=request.method, path=request.path)
    return refusal(request, http.INTERNAL_SERVER_ERROR, "internal error")


def abort(request: server.Request) -> None:
    """Cut the connection, with a reset."""
    # Every stream transport of Twisted has this, UNIX sockets and TLS among them.
    cast(ITCPTransport, request.transport).abortConnection()


def _refused(doors: Counting, request: server.Request, failure: Failure) -> bytes:
    error = cast(Refused, failure.value)
    doors.telemetry.refused(error.reason)
    _log.debug("refused {path}: {text}", path=request.path, text=error.text)
    return refuse(request, error)


def _store_unavailable(doors: Counting, request: server.Request, failure: Failure) -> bytes:
    doors.telemetry.refused("store")
    text = f"the store is not available: {failure.value}"
    return refuse(request, Refused(text, reason="store", status=503))


def _cancelled(doors: Counting, request: server.Request, failure: Failure) -> bytes:
    # A client that hangs up never gets here (klein#840): this client is still there, so it
    # was our side that gave up, as in a shutdown. What became of its request is unknown.
    doors.telemetry.refused("busy")
    return refuse(request, Refused("given up, the outcome is unknown", reason="busy", status=503))


def _method_not_allowed(doors: Counting, request: server.Request, failure: Failure) -> bytes:
    allowed = sorted(cast(MethodNotAllowed, failure.value).valid_methods or ())
    request.setHeader(b"Allow", ", ".join(sorted([*allowed, "OPTIONS"])).encode("ascii"))
    if request.method == b"OPTIONS":
        # HAProxy's `option httpchk` asks so unless it is told otherwise, and takes 2xx and 3xx for well.
        # A browser that asks for another page's sake (CORS) finds no permission in it.
        return answer(request, b"")
    return refusal(request, http.NOT_ALLOWED, f"this door takes {' and '.join(allowed)} only")


def _no_such_door(doors: Counting, request: server.Request, failure: Failure) -> bytes:
    # Werkzeug's redirects end here too: a scraper or an emitter sent elsewhere loses its body.
    return refusal(request, http.NOT_FOUND, "no such door, see / for those there are")


def _unforeseen(doors: Counting, request: server.Request, failure: Failure) -> bytes:
    return internal_error(request, failure)


#: Specific before generic: Klein asks them in this order and takes the first that matches.
_ANSWERS: tuple[tuple[type[Exception], Callable[[Counting, server.Request, Failure], bytes]], ...] = (
    (Refused, _refused),
    (StoreUnavailable, _store_unavailable),
    (CancelledError, _cancelled),
    (MethodNotAllowed, _method_not_allowed),
    (HTTPException, _no_such_door),
    (Exception, _unforeseen),
)


def register(app: Klein) -> None:
    """Make `app` answer every error; its instance counts refusals (`Counting`)."""
    for error, respond in _ANSWERS:
        _register(app, error, respond)


def _register(
    app: Klein, error: type[Exception], respond: Callable[[Counting, server.Request, Failure], bytes]
) -> None:
    @app.handle_errors(error)
    def handle(self: Counting, request: IRequest, failure: Failure) -> bytes:
        asked = cast(server.Request, request)
        if not asked.startedWriting:
            return respond(self, asked, failure)
        # Half an answer is out: there is one way left to say that it is not whole.
        _log.failure("{path} failed in its answer", failure=failure, path=asked.path)
        abort(asked)
        return b""
