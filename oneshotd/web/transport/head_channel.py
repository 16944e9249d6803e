"""The part of a connection that reads the head of a request, and refuses a malformed one.

twisted.web answers a request that its parser refuses with an empty 400. `HeadChannel` parses the
request line itself and names the fault of other parts; it overrides these methods of
`http.HTTPChannel`: `lineReceived`, `lineLengthExceeded`, `headerReceived` and
`_respondToBadRequestAndDisconnect`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime, ISSLTransport
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.web import http
from zope.interface import alsoProvides

from oneshotd.errors import Refused
from oneshotd.logs.throttle import ThrottledLog
from oneshotd.web.transport.request_head import (
    BROKEN_CHUNK,
    HEAD_TOO_LONG,
    LINE_TOO_LONG,
    MAX_HEAD,
    MAX_HEADERS,
    header_fault,
    parse_request_line,
)

#: Bytes of a Content-Length header line; a longer one is invalid.
MAX_LENGTH_LINE = 100

#: Bytes that a client may send after a refused head before the connection is reset.
MAX_BEHIND_REFUSAL = 16 << 20


class HeadChannel(http.HTTPChannel):
    """A connection that answers each malformed request with a reason.

    :ivar request_line: of the current request, without its line end; empty until it is here.
    :ivar in_request: the first line of a request is here, its last byte is not.
    :ivar is_refused: an incomplete request was refused: no further bytes are parsed.
    """

    # A client may end lines with LF alone, and a CR before it is ignored (RFC 9112 section 2.2).
    delimiter = b"\n"
    MAX_LENGTH = MAX_HEAD
    maxHeaders = MAX_HEADERS
    # The head is measured as it was sent, in `lineReceived`.
    totalHeadersSize = 4 * MAX_HEAD

    site: Any
    transport: Any
    requests: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.request_line = b""
        self.in_request = False
        self.is_refused = False
        self._head_size = 0
        self._header: bytes | None = None  # the line that twisted.web parses
        self._behind = 0  # bytes after a refused request

    def request_begun(self) -> None:
        """Note that the request line is here; the request is the last of `requests`."""

    def lineReceived(self, line: bytes) -> None:
        if self.is_refused:
            return
        line = line.removesuffix(b"\r")
        self._head_size += len(line)
        if self.in_request:
            if self._head_size > MAX_HEAD:
                self.refuse(HEAD_TOO_LONG)
            else:
                super().lineReceived(line)
        elif line:  # some clients send an empty line after a body
            self._first_line(line)

    def _first_line(self, line: bytes) -> None:
        self.request_line = line
        try:
            method, target, version = parse_request_line(line)
        except Refused as refused:
            self.refuse(refused)
            return
        before = len(self.requests)
        super().lineReceived(b"%b / %b" % (method, version))
        if len(self.requests) > before:
            self.in_request = True
            self._path = target
            self.request_begun()

    def lineLengthExceeded(self, line: bytes) -> None:
        if not self.is_refused:
            if not self.in_request:
                self.request_line = line[:MAX_HEAD]
            self.refuse(HEAD_TOO_LONG if self.in_request else LINE_TOO_LONG)

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's own answer is an empty 400.
        self.refuse(BROKEN_CHUNK if self._header is None else header_fault(self._header))

    def refuse(self, refused: Refused) -> None:
        """Refuse an incomplete request, close the connection, and parse no further bytes."""
        self.is_refused = True
        self.clearLineBuffer()
        self.setTimeout(None)
        if not self.in_request:
            self.requests.append(self.requestFactory(self, False))
        self.requests[-1].refuse_early(refused)

    def headerReceived(self, line: bytes) -> bool:
        self._header = line
        if line.translate(None, b"\0\r\n") != line:  # Twisted before 26 accepts them
            self.refuse(header_fault(line))
            return False
        if len(line) > MAX_LENGTH_LINE and line[:15].lower() == b"content-length:":
            # Python refuses to convert this number of digits; twisted.web does not catch the error.
            line = b"Content-Length: invalid"
        accepted: bool = super().headerReceived(line)
        self._header = None
        return accepted

    @property
    def has_part(self) -> bool:
        """Whether the parser has a part of a request; empty lines before it do not count."""
        return not self.is_refused and (self.in_request or bool(self._buffer.strip(b"\r\n")))

    @property
    def is_receiving(self) -> bool:
        """Whether a part of a request is here, and the rest is not."""
        raise NotImplementedError

    def timeoutConnection(self) -> None:
        if not self.is_receiving:
            super().timeoutConnection()
        elif self.site.finishing:
            self.refuse(Refused("oneshotd is stopping", reason="busy", status=503))
        else:
            text = f"request: not complete within {self.site.request_timeout:g} s"
            self.refuse(Refused(text, reason="timeout", status=408))

    def rawDataReceived(self, data: bytes) -> None:
        if not self.is_refused:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        self.in_request, self._head_size = False, 0
        super().allContentReceived()

    def pass_over(self, size: int) -> None:
        """Count bytes after a refused request; reset the connection beyond the limit."""
        self._behind += size
        if self._behind > MAX_BEHIND_REFUSAL:
            self.transport.abortConnection()


def refusal_log(clock: IReactorTime) -> ThrottledLog:
    """Return a throttled log of requests that were refused before a route."""
    return ThrottledLog(
        clock, Logger(), "HTTP: refused {count} requests ({reason}): {text}; from {peer}: {line}"
    )


def pass_half_closes_on(transport: Any, channel: Any) -> None:
    """Report the FIN of a client to the channel of a ``haproxy:`` connection.

    The transport reports it to the wrapper, which does not support half-closed connections: it would
    close, and the client would get no answer.
    """
    if isinstance(transport, ProtocolWrapper) and not ISSLTransport.providedBy(transport):
        wrapper: Any = transport
        wrapper.readConnectionLost = channel.readConnectionLost
        wrapper.writeConnectionLost = channel.writeConnectionLost
        alsoProvides(wrapper, IHalfCloseableProtocol)
