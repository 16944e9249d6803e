"""Log clients that do not get through the handshake of TLS, with the reason."""

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


class Handshake(TLSConnection):
    """A TLS connection whose failed handshake is logged."""

    wrappedProtocol: Any  # a `channel.Channel`

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Log why there was no connection."""
        failed: Any = self._reason
        if failed is not None and failed.check(Error) and not self._handshakeDone:
            connection: Any = self._tlsConnection
            why = refusal(connection) or _words(failed.value)
            self._note(Refused(f"TLS handshake: {why}", reason="syntax"), b"no request yet")
        super().connectionLost(reason)

    def refuse_plain(self, line: bytes) -> None:
        """Log the request line, and answer it."""
        self._note(IS_PLAIN, line)
        super().refuse_plain(line)

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
