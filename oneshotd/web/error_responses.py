"""Turns errors into answers, and sets the headers that all answers have.

Every answer of the daemon goes through `answer`: it has a length and a type with a charset, and
forbids browsers to guess another type. A refusal is one line of text, or ``{"error": ...}`` for a
client that accepts JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, cast

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from oneshotd.core.negotiation import names_type
from oneshotd.core.text import escape_unprintable, without_secrets
from oneshotd.errors import Refused, StoreUnavailable

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json; charset=utf-8"

#: Seconds after which a client may try again, sent with every 503. The ingest queue empties with the
#: next commit; somebody has to make room on a full disk.
RETRY_AFTER = {"busy": 1, "store": 5}

#: Status codes that Twisted has no phrase for (RFC 9110 section 15.5.21, RFC 6585 section 4).
_PHRASES = {422: b"Unprocessable Content", 429: b"Too Many Requests"}

_log = Logger()


#: Counts a refused request, by its reason and its path.
Count = Callable[[Refused, bytes], object]


def answer(request: server.Request, body: bytes, *, status: int = 200, content_type: bytes = TEXT) -> bytes:
    """Set the status and the headers of an answer with this body; return the body."""
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
    """Set the status and the headers of a refusal; return its body, one line with the reason.

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
    """Return the answer for a `Refused`; a 503 always gets a Retry-After."""
    retry_after = None if refused.retry_after is None else math.ceil(refused.retry_after)
    if retry_after is None and refused.status == http.SERVICE_UNAVAILABLE:
        retry_after = RETRY_AFTER.get(refused.reason, 1)
    return refusal(request, refused.status, refused.text, retry_after=retry_after)


def accepts(request: server.Request, media: str) -> bool:
    """Return whether Accept names this media type with q above 0 (RFC 9110 section 12.5.1).

    Wildcards do not count: clients without a preference send ``*/*``.
    """
    headers = request.requestHeaders.getRawHeaders(b"Accept", ())
    return names_type(b",".join(headers).decode("latin-1"), media)


def internal_error(request: server.Request, failure: Failure) -> bytes:
    """Log an unexpected error; return an answer without details."""
    _log.failure("{method} {path} failed", failure=failure, method=request.method, path=_path(request))
    return refusal(request, http.INTERNAL_SERVER_ERROR, "internal error")


def abort(request: server.Request) -> None:
    """Reset the connection."""
    # Every stream transport of Twisted has this, UNIX sockets and TLS among them.
    cast(ITCPTransport, request.transport).abortConnection()


def _path(request: server.Request) -> str:
    """Return the path of a request for the log."""
    return without_secrets(request.path.decode("latin-1"))


def _refused(count: Count, request: server.Request, failure: Failure) -> bytes:
    error = cast(Refused, failure.value)
    count(error, request.path)
    _log.debug("refused {path}: {text}", path=_path(request), text=error.text)
    return refuse(request, error)


def _store_unavailable(count: Count, request: server.Request, failure: Failure) -> bytes:
    refused = Refused(f"the store is not available: {failure.value}", reason="store", status=503)
    count(refused, request.path)
    return refuse(request, refused)


def _cancelled(count: Count, request: server.Request, failure: Failure) -> bytes:
    # The client has not hung up: Klein would not call this handler then (klein#840). The daemon has
    # cancelled the work, as in a shutdown; its outcome is unknown.
    refused = Refused("cancelled, the outcome is unknown", reason="busy", status=503)
    count(refused, request.path)
    return refuse(request, refused)


def _method_not_allowed(count: Count, request: server.Request, failure: Failure) -> bytes:
    allowed = sorted({*(cast(MethodNotAllowed, failure.value).valid_methods or ())} - {"OPTIONS"})
    request.setHeader(b"Allow", ", ".join(sorted([*allowed, "OPTIONS"])).encode("ascii"))
    if request.method == b"OPTIONS":
        # HAProxy's `option httpchk` sends OPTIONS by default, and expects 2xx or 3xx.
        # A browser's preflight request (CORS) gets no permission from this answer.
        return answer(request, b"")
    return refusal(request, http.NOT_ALLOWED, f"method: expected {' or '.join(allowed)}")


def _not_found(count: Count, request: server.Request, failure: Failure) -> bytes:
    # Werkzeug's redirects, too: a client that follows one would lose its body.
    return refusal(request, http.NOT_FOUND, "not found, see / for the endpoints")


def _unexpected(count: Count, request: server.Request, failure: Failure) -> bytes:
    return internal_error(request, failure)


#: Specific before generic: Klein takes the first that matches.
_ANSWERS: tuple[tuple[type[Exception], Callable[[Count, server.Request, Failure], bytes]], ...] = (
    (Refused, _refused),
    (StoreUnavailable, _store_unavailable),
    (CancelledError, _cancelled),
    (MethodNotAllowed, _method_not_allowed),
    (HTTPException, _not_found),
    (Exception, _unexpected),
)


def register(app: Klein, counter: Callable[[Any], Count]) -> None:
    """Make `app` answer every error.

    :param counter: finds the counter of refusals in the object that `app` is bound to.
    """
    for error, respond in _ANSWERS:
        _register(app, counter, error, respond)


def _register(
    app: Klein,
    counter: Callable[[Any], Count],
    error: type[Exception],
    respond: Callable[[Count, server.Request, Failure], bytes],
) -> None:
    @app.handle_errors(error)
    def handle(self: Any, request: IRequest, failure: Failure) -> bytes:
        failed = cast(server.Request, request)
        if not failed.startedWriting:
            return respond(counter(self), failed, failure)
        # A part of the answer is sent: only a reset can tell the client that it is incomplete.
        _log.failure("{path} failed in its answer", failure=failure, path=_path(failed))
        abort(failed)
        return b""
