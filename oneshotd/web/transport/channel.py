"""The HTTP connection: twisted.web's, with what the receipt and the time limits need.

HTTP/1.1 only: a request is bound to its connection, which HTTP/2 would hide.
"""

from __future__ import annotations

from typing import Any

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

from oneshotd.web.transport.ack_tracker import AckTracker, InFlightDelivery, State
from oneshotd.web.transport.head_channel import HeadChannel, pass_half_closes_on
from oneshotd.web.transport.request_head import ENDED_EARLY, IS_TLS, TLS_RECORD
from oneshotd.web.transport.socket_state import SendQueue

#: Seconds that a request gets at the daemon's end to be complete, and a new connection to send one:
#: between its opening and its first byte there is a moment for every client. (`quick_port.py` has no
#: such connections: they are shown when their first byte is here, and end with the listening socket.)
SHUTDOWN_GRACE = 1.0


@implementer(IHalfCloseableProtocol)
class Channel(HeadChannel):
    """One connection.

    :ivar began: reactor time (seconds) at which the first byte of the current request came.
    :ivar since: reactor time at which it last had a complete request, or was opened.
    :ivar handling: a complete request is being answered.
    :ivar held: bytes of a body that is not whole yet.
    """

    site: Any  # a `site.Site`, which imports this module
    timeOut: float | None  # type: ignore[assignment]  # typed as int by mistake, not used as one

    def __init__(self) -> None:
        super().__init__()
        self.began = 0.0
        self.since = 0.0
        self._receipts: list[AckTracker] = []  # several where requests come ahead
        self.is_waiting = True  # for the first byte of a request
        self.handling = False  # a request that is complete
        self._early = False  # bytes came while one was handled
        self.held = 0
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
    def is_resting(self) -> bool:
        """Whether nothing of a request is here, and nothing is watched over."""
        return self.is_waiting and not self._receipts

    @property
    def is_awaited(self) -> bool:
        """Whether it is in the middle of a request, or so new that there was none yet."""
        if self.handling or self.peer_finished:
            return False
        return not self.is_waiting or (
            self.began == 0.0 and self.clock.seconds() - self.since < SHUTDOWN_GRACE
        )

    @property
    def is_receiving(self) -> bool:
        """Whether a part of a request is here, and the rest is not."""
        return not self.handling and self._answered is None and self.has_part

    # Time limits. The inherited ones start anew with every byte, so that a trickle never ends.

    def connectionMade(self) -> None:
        self.since = self.clock.seconds()
        self.timeOut = self.site.request_timeout
        self.site.admit(self)
        super().connectionMade()
        pass_half_closes_on(self.transport, self)

    def resetTimeout(self) -> None:
        """Nothing: a byte more is no reason to wait longer."""

    def dataReceived(self, data: bytes) -> None:
        if self.is_refused:
            self.pass_over(len(data))
            return
        for receipt in self._receipts:
            receipt.ask()
        if self.is_waiting:
            self.is_waiting = False
            self.began = self.clock.seconds()
            self.setTimeout(self.site.request_timeout)
            for receipt in self._receipts:
                receipt.next_request()
            if data.startswith(TLS_RECORD):
                self.refuse(IS_TLS)
                return
        super().dataReceived(data)

    def request_begun(self) -> None:
        self.requests[-1].arrived = self.began

    def allContentReceived(self) -> None:
        self.handling, self._early = True, False
        self.since = self.clock.seconds()
        self.let_go()
        super().allContentReceived()

    def hold(self, size: int) -> None:
        """So many bytes more are kept of a body that is not whole."""
        self.held += size
        self.site.hold(size)

    def let_go(self) -> None:
        """The body is whole, or not kept."""
        self.site.hold(-self.held)
        self.held = 0

    def rawDataReceived(self, data: bytes) -> None:
        self._early = True
        super().rawDataReceived(data)

    def requestDone(self, request: http.Request) -> None:
        rest = self.clearLineBuffer()
        if rest:  # it came together with a request that was answered at once
            self.rawDataReceived(rest)
        # What came early belongs to a pipelined request, which says nothing of this response.
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

    # A client that sends requests without end gets one answered in a turn of the reactor, as
    # everybody does, and the next one when it has taken the answer.

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
        if self.is_waiting or not self.persistent:  # closing may take for ever as well
            self.setTimeout(self.site.idle_timeout)

    # The end of a connection

    @property
    def _is_last(self) -> bool:
        """Whether nothing that has come waits to be answered, and nothing further is taken."""
        return (self.peer_finished or self.site.finishing) and self._answered is None

    def readConnectionLost(self) -> None:
        """The peer has sent all that it will; it may be waiting for its answer still."""
        self.peer_finished = True
        for receipt in self._receipts:
            receipt.peer_finished()
        if self.is_receiving:
            self.refuse(ENDED_EARLY)
        elif not self.handling and self._answered is None:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """We have closed our side; the peer is still sending."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for receipt in self._receipts:
            receipt.connection_lost(reason)
        self._receipts = []
        self._answered = None
        self.let_go()
        super().connectionLost(reason)
        self.site.gone(self)

    # What the receipt needs

    def watch(self, receipt: AckTracker) -> None:
        """Tell this receipt what happens here, as long as the connection lives."""
        self._receipts = [other for other in self._receipts if other.state is not State.ENDED]
        self._receipts.append(receipt)
        receipt.start()

    @property
    def is_closing(self) -> bool:
        """Whether what is written from now on may not go out."""
        return bool(self._socket_transport().disconnecting)

    def pull_from(self, producer: IPullProducer) -> None:
        """Have the socket itself ask for more: the inherited channel would ask a clock."""
        self.transport.unregisterProducer()
        self._socket_transport().registerProducer(producer, False)

    def pull_no_more(self) -> None:
        """The channel takes the producer's place again."""
        self._socket_transport().unregisterProducer()
        self.transport.registerProducer(self, True)

    def queue(self) -> SendQueue | None:
        """The kernel's send queue of this connection, if it can be seen."""
        get_handle = getattr(self._socket_transport(), "getHandle", None)
        return None if get_handle is None else SendQueue.of(get_handle())

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()

    def _socket_transport(self) -> Any:
        return self.transport.transport if self.is_tls else self.transport


async def send(request: Any, shipment: InFlightDelivery, *, deadline: float) -> None:
    """Send a response and wait until its request may be finished.

    Status and headers are set. What becomes of the delivery goes to the shipment, also when
    the connection or the caller is gone.

    :param deadline: seconds from the request's arrival.
    """
    channel = request.channel
    if not shipment.awaits_receipt:
        request.write(shipment.body)
    elif channel is None:  # the client hung up meanwhile
        shipment.returned(uncertain=False)
    else:
        request.write(b"")  # the headers
        receipt = AckTracker(channel, shipment, request.write, request.arrived + deadline)
        channel.watch(receipt)
        await receipt.done
