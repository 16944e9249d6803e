"""Clients that do not get through the handshake of TLS: one that speaks plain HTTP is told so, the others are
logged with the reason.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Error
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure

from oneshotd.access.tls import refusal
from oneshotd.errors import Refused
from oneshotd.web.transport.tls import TLSConnection, TLSFactory, tls_factory

IS_PLAIN = Refused("expected TLS, got plain HTTP; write https:// in the address", reason="syntax")

#: How a request line begins; a TLS client begins with the byte 0x16.
_METHODS = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ")

_TEXT = f"{IS_PLAIN.text}\n".encode()
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nServer: oneshotd\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b"
) % (len(_TEXT), _TEXT)


class Handshake(TLSConnection):
    """A TLS connection that answers plain HTTP with 400, and whose failed handshake is logged."""

    wrappedProtocol: Any  # a `channel.Channel`
    _has_begun = False
    _is_plain = False

    def dataReceived(self, data: bytes) -> None:
        """Decrypt, unless the first bytes are those of a request."""
        if not self._has_begun:
            self._has_begun = True
            self._is_plain = data.startswith(_METHODS)
            if self._is_plain:
                self._refuse(data.partition(b"\r\n")[0])
        if not self._is_plain:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Log why there was no connection."""
        failed: Any = self._reason
        if failed is not None and failed.check(Error) and not self._handshakeDone:
            connection: Any = self._tlsConnection
            why = refusal(connection) or _words(failed.value)
            self._note(Refused(f"TLS handshake: {why}", reason="syntax"), b"no request yet")
        super().connectionLost(reason)

    def _refuse(self, line: bytes) -> None:
        self._note(IS_PLAIN, line)
        self.transport.write(_ANSWER)
        self.transport.loseConnection()

    def _note(self, refused: Refused, line: bytes) -> None:
        peer = str(getattr(self.transport.getPeer(), "host", ""))
        self.wrappedProtocol.site.note_refusal(refused, peer, line)


def _words(error: Error) -> str:
    """Return OpenSSL's reasons, for instance ``no shared cipher``; an alert is the client's."""
    queue = error.args[0] if error.args else ()
    words = ", ".join(str(entry[-1]) for entry in queue if entry) or "no reason given"
    return f"the client refuses: {words}" if " alert " in words else words


def handshake_factory(site: Factory[Any], creator: Any, clock: IReactorTime) -> TLSFactory:
    """Return a factory that serves a site over TLS, as `tls_factory` does, with such connections."""
    factory = tls_factory(site, creator, clock)
    factory.protocol = Handshake
    return factory
