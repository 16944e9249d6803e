"""TLS connections of the site: Twisted's, which wait for the end of TCP before they end themselves.

A client that throws a response away closes its socket with bytes unread, and its kernel resets the
connection; but its TLS library may send close_notify before (Go's does). Twisted answers close_notify and
closes TCP at once, so the reset that follows would never be seen. And the answer, like a close_notify of
the daemon's own after the response, are bytes that a client which has read the whole response may leave
unread: its kernel would then reset, too. So while a response is tracked (`ack_tracker.py`), neither of
them is sent for `CLOSE_GRACE` seconds. Most clients close TCP in that time, with a FIN or with a reset.

Only the four methods of `TLSMemoryBIOProtocol` that end a connection are overridden; they are alike in
Twisted 24.11 and 26.10.
"""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

#: Seconds without close_notify of the daemon's own. A lost FIN is sent again within it (200 ms and a round
#: trip, the kernel's shortest time), and a client that waits for close_notify is not held up for long.
CLOSE_GRACE = 0.5

#: Seconds after close_notify of the daemon's own in which the peer may answer; then TCP is closed. A client
#: that still sends a body gets this time to read why it was refused (`request.LINGER`).
NOTICE_GRACE = 5.0

#: Bytes that a client may send after its close_notify before the connection is reset.
MAX_BEHIND_CLOSE = 65536

#: The first bytes of a client that does not speak TLS, and its answer.
_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ")
_NOT_TLS = b"expected TLS, got HTTP; the address begins with https://\n"
_NOT_TLS_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_NOT_TLS), _NOT_TLS)
)


class Guard(Protocol):
    """The interface of `oneshotd.web.transport.channel.Channel`, which imports this module."""

    @property
    def is_tracking(self) -> bool: ...

    def tls_ended(self) -> None: ...

    def tls_over(self) -> None: ...


class TLSConnection(TLSMemoryBIOProtocol):
    """One connection.

    :ivar guard: the channel that tracks responses; set by itself.
    :ivar peer_has_closed: the peer has sent close_notify.
    :ivar has_sent_notice: the daemon has sent close_notify or another alert.
    :ivar tcp_reason: why TCP has ended, before the wrapped protocol's `connectionLost`: this class passes on
        errors of TLS there.
    """

    factory: TLSFactory
    transport: Any
    guard: Guard | None = None
    peer_has_closed = False
    has_sent_notice = False
    tcp_reason: Failure | None = None
    _timer: IDelayedCall | None = None
    _last_timer: IDelayedCall | None = None
    _behind = 0
    _has_spoken = False
    _is_plain = False

    @property
    def tls_layer(self) -> TLSConnection:
        """This object; the wrapper of a PROXY header passes the attribute on."""
        return self

    @property
    def is_greeted(self) -> bool:
        """Whether the client's hello is complete: OpenSSL has a random of the client only then."""
        return self._tlsConnection.client_random() is not None

    @property
    def holds_back(self) -> bool:
        """Whether bytes wait for TLS to encrypt them (TLS 1.2 renegotiates), or the end of TCP is awaited."""
        return bool(self._appSendBuffer) or self._is_waiting

    @property
    def is_closing(self) -> bool:
        """Whether bytes that are written are dropped, and the peer does not decide on the end any more."""
        ended = self._lostTLSConnection or self.disconnecting or self.transport.disconnecting
        return bool(ended) and not self._is_waiting

    def dataReceived(self, data: bytes) -> None:
        """Decrypt; bytes behind the peer's close_notify have no meaning (RFC 8446 section 6.1)."""
        if not self._has_spoken:
            self._has_spoken, self._is_plain = True, data.startswith(_METHODS)
            if self._is_plain:
                self.refuse_plain(data.partition(b"\r\n")[0])
        if self._is_plain:
            return
        if not self.peer_has_closed:
            super().dataReceived(data)
            return
        self._behind += len(data)
        if self._behind > MAX_BEHIND_CLOSE:
            self.abortConnection()

    def refuse_plain(self, line: bytes) -> None:
        """Answer a client that speaks plain HTTP; `line` is what it has sent of its request line."""
        self.transport.write(_NOT_TLS_ANSWER)
        self.transport.loseConnection()

    def loseConnection(self) -> None:
        """Close as the inherited method does, but leave the first word to the peer of a tracked response."""
        if not self.connected or self.disconnecting:
            return
        if self._is_guarded:
            self.disconnecting = True
            self._wait()
        else:
            super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note that TCP has ended."""
        self.tcp_reason = reason
        self._stop_waiting()
        super().connectionLost(reason)
        self.guard = None

    def _shutdownTLS(self) -> None:
        if self._has_received_notice() and self._is_guarded:
            return
        self._note_notice()
        super()._shutdownTLS()
        if self._last_timer is None and self.tcp_reason is None:
            self._last_timer = self.factory.clock.callLater(NOTICE_GRACE, self.transport.loseConnection)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        if reason is None:  # close_notify
            self.peer_has_closed = True
        if reason is not None or not self._is_guarded:
            self._note_notice()
            super()._tlsShutdownFinished(reason)
            return
        self._lostTLSConnection = True  # ends the loop that reads, and drops further writes
        self._wait()
        if self.guard is not None:
            self.guard.tls_ended()

    def _note_notice(self) -> None:
        if self.tcp_reason is None:  # else nothing can be sent any more
            self.has_sent_notice = True

    def _has_received_notice(self) -> bool:
        return bool(self._tlsConnection.get_shutdown() & SSL.RECEIVED_SHUTDOWN)

    @property
    def _is_guarded(self) -> bool:
        return self.guard is not None and self.guard.is_tracking

    # The time in which the peer may end TCP first

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.factory.clock.callLater(CLOSE_GRACE, self._go_on)

    @property
    def _is_waiting(self) -> bool:
        return self._timer is not None and self._timer.active()

    def _stop_waiting(self) -> None:
        for timer in (self._timer, self._last_timer):
            if timer is not None and timer.active():
                timer.cancel()

    def _go_on(self) -> None:
        """End TLS as the inherited class would have done at once."""
        guard, self.guard = self.guard, None
        if guard is not None:
            guard.tls_over()
        if not self.connected or self._aborted:
            return
        if self.peer_has_closed:
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        else:
            self.disconnecting = False
            self.loseConnection()


class TLSFactory(TLSMemoryBIOFactory):
    """Makes such connections.

    :ivar clock: the reactor, which the inherited class keeps to itself.
    """

    protocol = TLSConnection

    def __init__(self, creator: Any, factory: Factory[Any], clock: IReactorTime) -> None:
        super().__init__(creator, False, factory, clock)
        self.clock = clock


def tls_factory(site: Factory[Any], creator: Any, clock: IReactorTime) -> TLSFactory:
    """Return a factory that serves a site over TLS.

    A connection counts for the site's limits from its beginning: one whose handshake takes longer than a
    request may take is reset.

    :param creator: an `IOpenSSLServerConnectionCreator`, or Twisted's `CertificateOptions`.
    """
    return TLSFactory(creator, site, clock)
