"""One HTTP request: its limits, its checks and its contents.

twisted.web reads a body of any size and parses forms before a route is called (twisted#4898).
`OneshotRequest` overrides the four steps through which a channel feeds a request, all of
them present and called alike in Twisted 24.11 and 26.10: `gotLength`, `handleContentChunk`,
`requestReceived` and `process`. Its `requestReceived` does not call the inherited one, so no
form is parsed whatever the version, and `request.args` stays empty.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IDelayedCall, IReactorTime, ISSLTransport, ITCPTransport
from twisted.python.failure import Failure
from twisted.web import http, server

from oneshotd.access.rules import Client, Rule
from oneshotd.core.networks import UNIX, plain_zone
from oneshotd.core.parsing.formats import MAX_BODY_BYTES
from oneshotd.core.parsing.idempotency import idempotency_key
from oneshotd.errors import Refused
from oneshotd.web import error_responses
from oneshotd.web.transport.site import NO_ROOM

#: After a 413 the rest of the body is read and dropped for this time (seconds) and up to this size beyond the
#: limit (bytes), so that a client that sends all before it reads gets the answer, not a reset (RFC 9112 9.6).
LINGER = 5.0
LINGER_LIMIT = 16 * MAX_BODY_BYTES

#: A name or an address, a link-local one with its zone as ``%eth0`` or ``%25eth0`` (RFC 6874): clients
#: should remove the zone, and many do not.
_HOST = re.compile(
    rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._~-]{1,64})?\])(?::([0-9]{1,5}))?"
)
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


class OneshotRequest(server.Request):
    """A request whose body is bounded and stays in memory, unparsed.

    :ivar arrived: reactor seconds at which the channel got its first byte; until the channel sets it,
        at which the request line was complete.
    :ivar query: the part of the target after the ``?``, as sent.
    :ivar identity: who sends it, as the access rules see it; None: nobody had to find out.
    :ivar rule: the access rule that lets the client use the route, set before the route is called; None:
        no rule bounds the request.
    """

    defaultContentType = error_responses.TEXT
    arrived: float
    channel: Any  # its `site` is not in Twisted's types
    content: Any  # as an instance of BytesIO
    query: bytes = b""
    identity: Client | None = None
    rule: Rule | None = None
    _length = 0
    _most = MAX_BODY_BYTES
    _answered_early = False
    _linger: IDelayedCall | None = None

    def __init__(
        self,
        channel: http.HTTPChannel,
        *args: Any,
        refused: error_responses.Count | None = None,
        **kwargs: Any,
    ) -> None:
        """
        :param refused: called for each refusal before a route.
        """
        super().__init__(channel, *args, **kwargs)
        self._refused = refused
        for name, value in self.channel.site.headers:
            self.setHeader(name, value)
        self._clock: IReactorTime = self.channel.site.reactor
        self.arrived = self._clock.seconds()

    # The channel calls these methods in this order.

    def gotLength(self, length: int | None) -> None:
        """Note the end of the headers; `length` in bytes, None for a chunked body."""
        self.content = BytesIO()
        if length is None or length > MAX_BODY_BYTES:
            target = self.channel.request_line.split(b" ")[1]
            self._most = self.channel.site.body_limit(_origin_form(target).partition(b"?")[0])
        if length is not None and length > self._most:
            # The channel reads this header after this call, to answer "100 Continue".
            self.requestHeaders.removeHeader(b"Expect")
            self.refuse_early(too_large(self._most))

    def handleContentChunk(self, data: bytes) -> None:
        """Store a part of the body, after its transfer coding is removed."""
        self._length += len(data)
        if self._answered_early:
            if self._length - self._most > LINGER_LIMIT:
                error_responses.abort(self)
        elif self._length <= MAX_BODY_BYTES:
            self.content.write(data)
            self.channel.hold(len(data))
        elif self._length > self._most:
            self.refuse_early(too_large(self._most))
        else:
            large = min(len(data), self._length - MAX_BODY_BYTES)
            self.channel.hold(len(data) - large)
            if self.channel.hold_large(large):
                self.content.write(data)
            else:
                self.refuse_early(NO_ROOM)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Process the complete request."""
        if self._answered_early:
            if self._linger is not None:
                self.channel.loseConnection()
            return
        self.content.seek(0)
        self.method, self.clientproto = command, version
        self.uri = _origin_form(path)
        if command == b"OPTIONS" and self.uri == b"*":  # the server as a whole (RFC 9110 section 9.3.7)
            self.uri = b"/"
        self.path, _, self.query = self.uri.partition(b"?")
        self.args = {}
        self.process()

    def process(self) -> None:
        """Pass the request on to the routes, unless it is malformed."""
        refused = self._malformed()
        if refused is None:
            super().process()
            return
        self._count(refused)
        self.write(error_responses.refuse(self, refused))
        self.finish()

    def connectionLost(self, reason: Failure) -> None:
        """Note the loss of the connection before the answer was sent."""
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer an exception in the request's processing; twisted.web would answer in HTML."""
        body = error_responses.internal_error(self, reason)
        if self.startedWriting:
            error_responses.abort(self)
        else:
            self.write(body)
            self.finish()
        return reason

    def getRequestHostname(self) -> bytes:
        """Return a constant: Klein binds its routes to the host name, and fails on some that clients send."""
        return b"oneshotd"

    # Contents

    def header(self, name: bytes) -> str | None:
        """Return a header as text, its lines joined (RFC 9110 section 5.3); None if absent."""
        values = self.requestHeaders.getRawHeaders(name)
        return None if values is None else b", ".join(values).decode("latin-1")

    def body(self) -> bytes:
        """Return the body of the request."""
        data: bytes = self.content.getvalue()
        return data

    def content_coding(self) -> str:
        """Return the body's content coding in lower case; ``identity`` if not given."""
        return (self.header(b"Content-Encoding") or "identity").strip().lower()

    def media_type(self) -> str:
        """Return the body's media type in lower case, without parameters; empty if not given.

        :raises Refused: the body is compressed or otherwise encoded (415).
        """
        coding = self.content_coding()
        if coding != "identity":
            raise Refused(f"Content-Encoding: expected none, got {coding}", reason="type", status=415)
        return (self.header(b"Content-Type") or "").partition(";")[0].strip().lower()

    def idempotency_key(self) -> str | None:
        """Return the key of the Idempotency-Key header, if any.

        :raises Refused: malformed, or given more than once.
        """
        values = self.requestHeaders.getRawHeaders(b"Idempotency-Key", [])
        if len(values) > 1:
            raise Refused("Idempotency-Key is given more than once", reason="key")
        return idempotency_key(values[0]) if values else None

    def host_text(self) -> str:
        """Return the ``host[:port]`` of the request, checked; a zone is written ``%eth0``."""
        sent = self.header(b"Host")
        if sent:
            address, bracket, port = sent.partition("]")
            return plain_zone(address) + bracket + port
        here = self.getHost()  # of this connection, even if the listener has all addresses
        name = getattr(here, "host", "localhost")
        return f"{f'[{name}]' if ':' in name else name}:{getattr(here, 'port', 80)}"

    def is_from_another_page(self) -> bool:
        """Return whether a browser sends this request for a page of another site.

        ``Sec-Fetch-Site`` decides if the browser sends it (a page cannot forge it), else the host and
        port of ``Origin``, which is ``null`` for pages that hide their origin.
        """
        site = self.header(b"Sec-Fetch-Site")
        if site is not None:
            return site not in ("same-origin", "none")
        origin = self.header(b"Origin")
        if origin is None:
            return False
        scheme, _, authority = origin.lower().partition("://")
        port = _DEFAULT_PORT.get(scheme, "")
        host = (self.header(b"Host") or "").lower()
        return not authority or authority.removesuffix(port) != host.removesuffix(port)

    def hold(self, size: int) -> None:
        """Count bytes that the body has become larger by; they count until the request is answered.

        :raises Refused: there is no room (503).
        """
        if not self.channel.hold_large(size):
            raise NO_ROOM

    # Refusals

    def _malformed(self) -> Refused | None:
        hosts = self.requestHeaders.getRawHeaders(b"Host", [])
        if len(hosts) > 1 or (not hosts and self.clientproto == b"HTTP/1.1"):  # RFC 9112 section 3.2
            text = f"Host: expected one, got {len(hosts)}"
        elif hosts and hosts[0] and not is_host(hosts[0]):
            text = "Host: expected a name or an address, and perhaps a port"
        elif self.method != self.method.upper():  # Werkzeug would read `head` as `HEAD`
            text = "method: expected capital letters"
        elif not self.path.startswith(b"/"):  # twisted.web would cut its first character off
            text = "path: expected a / at its start"
        elif not _is_utf8(unquote_to_bytes(self.path)):
            text = "path: expected UTF-8"
        else:
            return None
        return Refused(text, reason="syntax")

    def refuse_early(self, refused: Refused) -> None:
        """Refuse an incomplete request at once, and process no further request of this connection.

        If the body is too large, the channel decodes its rest and closes at its end at the latest; after
        other faults it parses no further bytes.
        """
        if self._answered_early:  # the body is malformed, too
            self.channel.loseConnection()
            return
        self._answered_early = True
        self.content = BytesIO()
        self.channel.let_go()
        self.channel.let_go_large()
        method, _, rest = self.channel.request_line.partition(b" ")
        self.uri, _, self.clientproto = rest.rpartition(b" ")
        self.method = method
        self._count(refused)
        body = error_responses.refuse(self, refused)
        self.setHeader(b"Connection", b"close")
        self.channel.writeHeaders(b"HTTP/1.1", b"%d" % self.code, self.code_message, self.responseHeaders)
        if method != b"HEAD":
            self.channel.write(body)
            self.sentLength = len(body)
        self.channel.site.log(self)
        transport = self.transport
        if (
            ITCPTransport.providedBy(transport)
            and not ISSLTransport.providedBy(transport)
            and not (self.channel.peer_finished or self.channel.site.finishing)
        ):
            transport.loseWriteConnection()
            self._linger = self._clock.callLater(LINGER, error_responses.abort, self)
        else:  # TLS waits for the peer's close_notify by itself
            self.channel.loseConnection()

    def _count(self, refused: Refused) -> None:
        if self._refused is not None:
            self._refused(refused, _origin_form(self.uri).partition(b"?")[0])
        peer = getattr(self.getClientAddress(), "host", UNIX)
        self.channel.site.note_refusal(refused, peer, self.channel.request_line)


def too_large(most: int) -> Refused:
    """Return the refusal of a body that is larger than so many bytes."""
    return Refused(f"body: expected at most {most} bytes", reason="limit", status=413)


def parameters(query: bytes, known: Collection[str]) -> dict[str, str]:
    """Return the parameters of these names in a query; others are ignored.

    :raises Refused: one of them is given more than once, or is not UTF-8.
    """
    found: dict[str, str] = {}
    for pair in query.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        name = _plain(raw_name).decode("latin-1")
        if name not in known:
            continue
        if name in found:
            raise Refused(f"{name} is given more than once", reason="query")
        try:
            found[name] = _plain(raw_value).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(f"{name}: expected UTF-8", reason="query") from None
    return found


def is_host(value: bytes) -> bool:
    """Return whether this is a valid Host header: a name or an address, and perhaps a port."""
    found = _HOST.fullmatch(value)
    return found is not None and int(found[1] or 0) <= 65535


def _origin_form(target: bytes) -> bytes:
    """Return a target without scheme and host: a server has to accept these (RFC 9112 section 3.2.2)."""
    absolute = _ABSOLUTE.match(target)
    return b"/" + target[absolute.end() :].removeprefix(b"/") if absolute else target


def _plain(quoted: bytes) -> bytes:
    return unquote_to_bytes(quoted.replace(b"+", b" "))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
