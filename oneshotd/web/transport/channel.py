"""The HTTP connection: twisted.web's, with time limits and the tracking of acknowledgements.

HTTP/1.1 only: a request is bound to its connection, which HTTP/2 would hide.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPullProducer,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from oneshotd.web.transport.ack_states import State
from oneshotd.web.transport.ack_tracker import AckTracker
from oneshotd.web.transport.head_channel import HeadChannel, pass_half_closes_on
from oneshotd.web.transport.request_head import ENDED_EARLY, IS_TLS, TLS_RECORD
from oneshotd.web.transport.socket_state import SendQueue
from oneshotd.web.transport.tracked import TrackedDelivery

if TYPE_CHECKING:
    from oneshotd.web.transport.tls import TLSConnection  # needs pyOpenSSL

#: Seconds at shutdown for a request to become complete, and for a new connection to send its first
#: byte, which no client sends in the moment of connecting. (`web/fastpath/listener.py` has no such
#: connections: the kernel reports them at their first byte, and they end with the listening socket.)
SHUTDOWN_GRACE = 1.0


class Progress(IntEnum):
    """How far a connection has come: open, beyond the hello of TLS, or beyond its first request."""

    CONNECTED = 0
    GREETED = 1
    USED = 2


@implementer(IHalfCloseableProtocol)
class Channel(HeadChannel):
    """One connection.

    :ivar began: reactor time (seconds) at which the first byte of the current request arrived.
    :ivar since: reactor time at which its last complete request arrived, or it was opened.
    :ivar handling: a complete request is being answered.
    :ivar held: bytes of a body that is not complete yet, up to 1 MiB.
    :ivar large: further bytes of the body; they count until the request is answered.
    :ivar received: bytes of all requests so far.
    :ivar tls: the encryption of this connection, if it is `tls.TLSConnection`.
    """

    site: Any  # a `site.Site`, which imports this module
    timeOut: float | None  # type: ignore[assignment]  # typed as int by mistake, not used as one

    def __init__(self) -> None:
        super().__init__()
        self.began = 0.0
        self.since = 0.0
        self._trackers: list[AckTracker] = []  # several if requests are pipelined
        self.is_waiting = True  # for the first byte of a request
        self.handling = False  # a request that is complete
        self._is_used = False
        self._early = False  # bytes have arrived while one was handled
        self.held = self.large = 0
        self.received = 0
        self.tls: TLSConnection | None = None
        self._answered: http.Request | None = None  # and the next one has to wait
        self.peer_finished = False

    @property
    def clock(self) -> IReactorTime:
        """The site's reactor."""
        clock: IReactorTime = self.site.reactor
        return clock

    @property
    def is_tls(self) -> bool:
        """Whether the transport encrypts."""
        return bool(ISSLTransport.providedBy(self.transport))

    @property
    def progress(self) -> Progress:
        """How far this connection has come."""
        if self._is_used:
            return Progress.USED
        return Progress.GREETED if self.tls is not None and self.tls.is_greeted else Progress.CONNECTED

    @property
    def is_resting(self) -> bool:
        """Whether no byte of a request is here, and no delivery is tracked."""
        return self.is_waiting and not self._trackers

    @property
    def is_awaited(self) -> bool:
        """Whether the client is in the middle of a request, or has just connected."""
        if self.handling or self.peer_finished:
            return False
        return not self.is_waiting or (
            self.began == 0.0 and self.clock.seconds() - self.since < SHUTDOWN_GRACE
        )

    @property
    def is_receiving(self) -> bool:
        """Whether a part of a request is here, and the rest is not."""
        return not self.handling and self._answered is None and self.has_part

    # Time limits. The inherited ones start again with each byte, so that a slow request never ends.

    def connectionMade(self) -> None:
        self.tls = getattr(self.transport, "tls_layer", None)
        if self.tls is not None:
            self.tls.guard = self
        self.since = self.clock.seconds()
        self.timeOut = self.site.request_timeout
        self.site.admit(self)
        super().connectionMade()
        pass_half_closes_on(self.transport, self)

    def resetTimeout(self) -> None:
        """Do nothing: a further byte does not extend the time limit."""

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self.is_refused:
            self.pass_over(len(data))
            return
        for tracker in self._trackers:
            tracker.ask()
        if self.is_waiting:
            self.is_waiting = False
            self.began = self.clock.seconds()
            self.setTimeout(self.site.request_timeout)
            for tracker in self._trackers:
                tracker.next_request()
            if data.startswith(TLS_RECORD):
                self.refuse(IS_TLS)
                return
        super().dataReceived(data)

    def setLineMode(self, extra: bytes = b"") -> None:
        # These bytes were received while a request was handled, and are counted already.
        self.received -= len(extra)
        super().setLineMode(extra)

    def request_begun(self) -> None:
        self.requests[-1].arrived = self.began

    def allContentReceived(self) -> None:
        self.handling, self._is_used, self._early = True, True, False
        self.since = self.clock.seconds()
        self.let_go()
        super().allContentReceived()

    def hold(self, size: int) -> None:
        """Count bytes of a body that is not complete."""
        self.held += size
        self.site.hold(size)

    def let_go(self) -> None:
        """Count the bytes of the body off: it is complete, or not kept."""
        self.site.hold(-self.held)
        self.held = 0

    def hold_large(self, size: int) -> bool:
        """Count bytes of a large body; return whether there is room for them."""
        self.large += size
        has_room: bool = self.site.hold_large(self, size)
        return has_room

    def let_go_large(self) -> None:
        """Count the bytes of a large body off: its request is answered, or it is not kept."""
        self.site.let_go_large(self.large)
        self.large = 0

    def rawDataReceived(self, data: bytes) -> None:
        self._early = True
        super().rawDataReceived(data)

    def requestDone(self, request: http.Request) -> None:
        if self.large:
            self.let_go_large()
        rest = self.clearLineBuffer()
        if rest:  # it arrived together with a request that was answered at once
            self.rawDataReceived(rest)
        # Early bytes belong to a pipelined request, which is no sign that the client has read this response.
        self.is_waiting, self.handling = not self._early, False
        self.began = self.clock.seconds()
        if self in self.site.unread:
            self._answered = request
            self.setTimeout(self.site.idle_timeout)
        elif self._early:
            self._answered = request
            self.clock.callLater(0, self._go_on)
        else:
            self._done(request)

    # Pipelined requests are answered one in a turn of the reactor, so that other clients get their turn,
    # and each after the client has taken the answer before.

    def pauseProducing(self) -> None:
        self.site.unread_by(self)
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self.site.unread.pop(self, None)
        super().resumeProducing()
        self.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        request, self._answered = self._answered, None
        if request is not None:
            self._done(request)

    def _done(self, request: http.Request) -> None:
        super().requestDone(request)
        if self.handling:
            return
        if self._is_last:
            self.loseConnection()
        if self.is_waiting or not self.persistent:  # closing may take for ever, too
            self.setTimeout(self.site.idle_timeout)

    # The end of a connection

    @property
    def _is_last(self) -> bool:
        """Whether no received request waits for its answer, and no further one is accepted."""
        return (self.peer_finished or self.site.finishing) and self._answered is None

    def readConnectionLost(self) -> None:
        """Handle the peer's FIN; the peer may still wait for its answer."""
        self.peer_finished = True
        for tracker in self._trackers:
            tracker.peer_finished()
        if self.is_receiving:
            self.refuse(ENDED_EARLY)
        elif not self.handling and self._answered is None:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: the daemon has closed its side, and the peer still sends."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        end = reason if self.tls is None else self.tls.tcp_reason or reason
        for tracker in self._trackers:
            tracker.connection_lost(end)
        self._trackers = []
        self._answered = None
        self.let_go()
        self.let_go_large()
        super().connectionLost(reason)
        self.site.gone(self)

    # Calls of the tracker

    def watch(self, tracker: AckTracker) -> None:
        """Start a tracker; report the events of this connection to it."""
        self._trackers = [other for other in self._trackers if other.state is not State.ENDED]
        self._trackers.append(tracker)
        tracker.start()

    @property
    def hides_end(self) -> bool:
        """Whether the encryption is not `tls.TLSConnection`, which sees the end of TCP."""
        return self.is_tls and self.tls is None

    @property
    def is_closing(self) -> bool:
        """Whether the transport may drop further writes."""
        return bool(self._socket_transport().disconnecting if self.tls is None else self.tls.is_closing)

    @property
    def holds_back(self) -> bool:
        """Whether TLS has bytes that it has not passed on, or would not pass on further ones."""
        return self.tls is not None and self.tls.holds_back

    @property
    def has_sent_notice(self) -> bool:
        """Whether TLS has sent close_notify."""
        return self.tls is not None and self.tls.has_sent_notice

    def pull_from(self, producer: IPullProducer) -> None:
        """Register a producer at the socket's transport: the inherited channel would poll by a timer."""
        self.transport.unregisterProducer()
        self._socket_transport().registerProducer(producer, False)

    def pull_no_more(self) -> None:
        """Register the channel as the producer again."""
        self._socket_transport().unregisterProducer()
        self.transport.registerProducer(self, True)

    def queue(self) -> SendQueue | None:
        """Return the kernel's send queue of this connection, or None if it cannot be read."""
        get_handle = getattr(self._socket_transport(), "getHandle", None)
        return None if get_handle is None else SendQueue.of(get_handle())

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()

    def _socket_transport(self) -> Any:
        if self.tls is not None:
            return self.tls.transport
        return self.transport.transport if self.is_tls else self.transport

    # Calls of TLS

    @property
    def is_tracking(self) -> bool:
        """Whether the outcome of a response depends on what the peer does next."""
        return any(tracker.state is not State.ENDED for tracker in self._trackers)

    def tls_ended(self) -> None:
        """Note that the peer has sent close_notify; its FIN or reset is awaited."""
        for tracker in self._trackers:
            tracker.ask()

    def tls_over(self) -> None:
        """Note that the peer has not ended TCP in the time that it had for it."""
        for tracker in self._trackers:
            tracker.tls_over()


async def send(request: Any, delivery: TrackedDelivery, *, deadline: float) -> None:
    """Send a response and wait until its request may be finished.

    Status and headers are set. The outcome is reported to the delivery, even if the connection is lost
    or this coroutine is cancelled.

    :param deadline: seconds from the request's arrival.
    """
    channel = request.channel
    if not delivery.awaits_receipt:
        request.write(delivery.body)
    elif channel is None:  # the client has hung up
        delivery.returned(uncertain=False)
    else:
        request.write(b"")  # the headers
        tracker = AckTracker(channel, delivery, request.write, request.arrived + deadline)
        channel.watch(tracker)
        await tracker.done
