"""The receipt: whether a response has arrived (DESIGN, "The receipt").

Twisted's `notifyFinish` says that the bytes are in the transport's buffer, which proves
nothing (twisted#5510). So a body with events goes out through a pull producer on the socket's
own transport: being asked for more after the last piece means that the kernel has all of it.
Then the kernel is asked until the peer has acknowledged every byte.

=========  ==========================  ====================================================
state      what happens                leads to
=========  ==========================  ====================================================
SENDING    asked for more, none left   SENT
SENDING    connection lost             RETURNED
SENT       queue at 0                  DELIVERED (the request is finished, not before)
SENT       reset                       RETURNED
SENDING    deadline                    RETURNED, connection aborted
SENT       deadline                    RETURNED as *uncertain*, connection aborted
DELIVERED  next request, FIN, deadline FINAL
DELIVERED  reset                       REVOKED
=========  ==========================  ====================================================

Where the queue is not to be seen (no Linux, no socket) SENT counts as DELIVERED. Over TLS a
reset cannot be told from a peer that closes without saying so: there DELIVERED is FINAL.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.web.kernel import KernelQueue, PeerState

#: Bytes handed to the transport at a time.
PIECE = 256 * 1024

#: Seconds between two looks at the queue: they double from the first to the last.
FIRST_LOOK, LAST_LOOK = 0.001, 0.25


class Shipment(Protocol):
    """What is told how its delivery went; see `oneshotd.delivery.Shipment`."""

    body: bytes

    @property
    def awaits_receipt(self) -> bool: ...

    def delivered(self) -> None: ...

    def returned(self, uncertain: bool) -> None: ...

    def revoked(self) -> None: ...

    def final(self) -> None: ...


class Line(Protocol):
    """The connection as the receipt sees it; see `oneshotd.web.channel.Channel`."""

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def is_tls(self) -> bool: ...

    def pull_from(self, producer: IPullProducer) -> None: ...

    def pull_no_more(self) -> None: ...

    def queue(self) -> KernelQueue | None: ...

    def abort(self) -> None: ...


class State(Enum):
    """See the table in the module's docstring."""

    SENDING = auto()
    SENT = auto()
    DELIVERED = auto()
    ENDED = auto()


@implementer(IPullProducer)
class Receipt:
    """Sends one body over one connection and finds out whether it arrived.

    :param write: puts bytes of the body on the line.
    :param deadline: reactor time (seconds) at which the scraper has given up.
    :ivar done: fires when it is delivered, so that the request may be finished. It never fires
        if it is not: the connection is gone then, or about to be.
    """

    def __init__(
        self, line: Line, shipment: Shipment, write: Callable[[bytes], object], deadline: float
    ) -> None:
        self.done: Deferred[None] = Deferred()
        self.state = State.SENDING
        self._line = line
        self._write = write
        self._shipment = shipment
        self._rest = memoryview(shipment.body)
        self._queue: KernelQueue | None = None
        self._closed_by_us = False
        self._pause = FIRST_LOOK
        self._look: IDelayedCall | None = None
        seconds = max(0.0, deadline - line.clock.seconds())
        self._timer = line.clock.callLater(seconds, self._out_of_time)

    def start(self) -> None:
        """Send; the headers are in the transport's buffer already, or go with the first piece."""
        self._queue = self._line.queue()
        self._line.pull_from(self)

    # IPullProducer

    def resumeProducing(self) -> None:
        """The kernel has all that was written so far."""
        if self.state is not State.SENDING:
            return
        if self._rest:
            piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
            self._write(bytes(piece))
        else:
            self.state = State.SENT
            self._line.pull_no_more()
            self.ask()

    def stopProducing(self) -> None:
        """The connection is gone; `connection_lost` says how."""

    # What the channel tells

    def ask(self) -> None:
        """Look at the queue now, and again later if it is not empty yet."""
        if self.state is not State.SENT:
            return
        if not self._unacknowledged():
            self._delivered()
        elif self._closed_by_us and self._line_state() is PeerState.RESET:
            self._end()
            self._shipment.returned(uncertain=False)
        elif self._look is None or not self._look.active():
            self._look = self._line.clock.callLater(self._pause, self.ask)
            self._pause = min(2 * self._pause, LAST_LOOK)

    def next_request(self) -> None:
        """The first byte of a further request has come on this connection."""
        self._final()

    def peer_finished(self) -> None:
        """The peer has closed its side (FIN): if it had not read all, it would have reset."""
        self.ask()
        self._final()

    def connection_lost(self, reason: Failure) -> None:
        """The connection is gone: closed by us, or reset."""
        orderly = isinstance(reason.value, ConnectionDone)
        if self.state is State.SENT:
            self.ask()
        if self.state is State.ENDED:
            return
        if orderly and self.state is not State.SENDING:
            # By us: the kernel goes on sending what it has, and can still be asked.
            self._closed_by_us = True
            self._watch()
            return
        delivered = self.state is State.DELIVERED
        self._end()
        if delivered:
            self._shipment.revoked()
        else:
            self._shipment.returned(uncertain=False)

    # Ends

    def _delivered(self) -> None:
        self.state = State.DELIVERED
        self._shipment.delivered()
        if self._line.is_tls:
            self._final()
        elif self._closed_by_us:
            self._watch()
        if not self.done.called:
            self.done.callback(None)

    def _watch(self) -> None:
        """After we have closed: until the peer has closed as well, by a FIN or by a reset."""
        if self.state is State.SENT:
            self.ask()
            return
        if self.state is not State.DELIVERED:
            return
        state = self._line_state()
        if state is PeerState.OPEN:
            self._look = self._line.clock.callLater(self._pause, self._watch)
            self._pause = min(2 * self._pause, LAST_LOOK)
        elif state is PeerState.RESET:
            self._end()
            self._shipment.revoked()
        else:
            self._final()

    def _final(self) -> None:
        if self.state is State.DELIVERED:
            self._end()
            self._shipment.final()

    def _out_of_time(self) -> None:
        self.ask()
        if self.state is State.DELIVERED:
            self._final()
        elif self.state is not State.ENDED:
            uncertain = self.state is State.SENT
            self._end()
            self._line.abort()
            self._shipment.returned(uncertain=uncertain)

    def _end(self) -> None:
        self.state = State.ENDED
        for call in (self._timer, self._look):
            if call is not None and call.active():
                call.cancel()
        if self._queue is not None:
            self._queue.close()
            self._queue = None
        self._rest = memoryview(b"")

    def _unacknowledged(self) -> int | None:
        return None if self._queue is None else self._queue.unacknowledged()

    def _line_state(self) -> PeerState:
        return PeerState.ENDED if self._queue is None else self._queue.state()
