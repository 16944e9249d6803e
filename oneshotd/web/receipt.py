"""The receipt: whether a response has arrived at the scraper.

Twisted's `notifyFinish` says that the bytes are in the transport's buffer, which proves
nothing (twisted#5510). So a body with events goes out through a pull producer on the socket's
own transport: being asked for more after the last piece means that the kernel has all of it.
Then the kernel is asked until the peer has acknowledged every byte.

=========  ==========================  ====================================================
state      what happens                leads to
=========  ==========================  ====================================================
SENDING    asked for more, none left   SENT
SENDING    connection lost or closing  RETURNED, connection aborted
SENDING    deadline                    RETURNED, connection aborted
SENT       queue at 0                  DELIVERED (the request is finished, not before)
SENT       reset                       RETURNED, connection aborted
SENT       deadline, aborted by us     RETURNED as *uncertain*, connection aborted
DELIVERED  next request, FIN, deadline FINAL
DELIVERED  aborted by us               FINAL
DELIVERED  reset                       REVOKED
=========  ==========================  ====================================================

Once the peer has sent its FIN, or we have ours, Twisted does not listen any more: then it is
the kernel, asked at intervals, that tells of a reset.

Where the queue is not to be seen (no Linux, no socket) SENT counts as DELIVERED. Over TLS a
reset cannot be told from a peer that closes without saying so, and the queue of a Unix socket
is at 0 only when the peer has read everything: in both cases DELIVERED is FINAL at once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
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

    @property
    def is_closing(self) -> bool: ...

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
        self._gone = False
        self._heard = 0
        self._pause = FIRST_LOOK
        self._look: IDelayedCall | None = None
        self._deadline = deadline
        seconds = max(0.0, deadline - line.clock.seconds())
        self._timer = line.clock.callLater(seconds, self._out_of_time)

    def start(self) -> None:
        """Send; the headers are in the transport's buffer already, or go with the first piece."""
        self._queue = self._line.queue()
        if self._queue is not None:
            self._queue.perish_with_us(True)
        self._line.pull_from(self)

    # IPullProducer

    def resumeProducing(self) -> None:
        """The kernel has all that was written so far."""
        if self.state is not State.SENDING:
            return
        if self._line.is_closing:  # TLS has ended, and drops what is written
            self._return()
        elif self._rest and self._line.clock.seconds() >= self._deadline:
            self._return()  # held up for so long that nobody waits for it any more
        elif self._rest:
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
        unacknowledged = 0 if self._queue is None else self._queue.unacknowledged()
        if self._peer() is PeerState.RESET:
            self._return()
        elif unacknowledged == 0:
            self._delivered()
        else:
            self._look_later()

    def next_request(self) -> None:
        """The first byte of a further request has come on this connection."""
        self._final()

    def peer_finished(self) -> None:
        """The peer has closed its side (FIN): if it had not read all, it would have reset."""
        self.ask()
        if self.state is State.DELIVERED and self._peer() is PeerState.RESET:
            # Twisted's epoll reactor takes one reset in some thousands for a FIN: its look at the
            # socket falls into the middle of the kernel's work.
            self._revoke()
        self._final()

    def connection_lost(self, reason: Failure) -> None:
        """The connection is gone: closed by us, aborted by us, or reset."""
        self._gone = True
        self._look_now()
        orderly, aborted = reason.check(ConnectionDone), reason.check(ConnectionAborted)
        if orderly or aborted or self._line.is_tls:
            # Not after a reset: the queue of a Unix socket would be empty, whatever was in it.
            self.ask()
        if orderly and self.state is not State.SENDING:
            # By us: the kernel goes on sending what it has, and can still be asked.
            self._watch()
        elif self.state is State.DELIVERED and aborted:
            self._final()
        elif self.state is State.DELIVERED:
            self._revoke()
        elif self.state is not State.ENDED:
            self._return(uncertain=bool(aborted) and self.state is State.SENT)

    # Ends

    def _delivered(self) -> None:
        self.state = State.DELIVERED
        if self._queue is not None:
            self._queue.perish_with_us(False)
            self._heard = self._queue.heard()
        self._shipment.delivered()
        if self._line.is_tls or (self._queue is not None and not self._queue.is_tcp):
            self._final()
        self._watch()
        if not self.done.called:
            self.done.callback(None)

    def _watch(self) -> None:
        """After we have closed: until the peer has closed as well, by a FIN or by a reset."""
        if self.state is not State.DELIVERED or not self._gone:
            return
        peer = self._peer()
        if peer is PeerState.OPEN:
            self._look_later()
        elif peer is PeerState.RESET and self._queue is not None and self._queue.heard() == self._heard:
            self._revoke()
        else:
            # Bytes that come after we have closed are answered by our own kernel with a reset; as
            # the beginning of a further request they mean the same as on an open connection.
            self._final()

    def _final(self) -> None:
        if self.state is State.DELIVERED:
            self._end()
            self._shipment.final()

    def _revoke(self) -> None:
        self._end()
        self._shipment.revoked()

    def _return(self, uncertain: bool = False) -> None:
        self._end()
        if not self._gone:
            self._line.abort()
        self._shipment.returned(uncertain=uncertain)

    def _out_of_time(self) -> None:
        self._look_again()
        if self.state is State.DELIVERED:
            # Timers come before sockets: where the daemon was held up, a reset that came in time
            # has not been looked at yet.
            self._timer = self._line.clock.callLater(0, self._final)
        elif self.state is not State.ENDED:
            self._return(uncertain=self.state is State.SENT)

    def _end(self) -> None:
        self.state = State.ENDED
        self._look_now()
        if self._timer.active():
            self._timer.cancel()
        if self._queue is not None:
            self._queue.close()
            self._queue = None
        self._rest = memoryview(b"")

    # Looking

    def _peer(self) -> PeerState:
        return PeerState.ENDED if self._queue is None else self._queue.state()

    def _look_later(self) -> None:
        if self._look is None or not self._look.active():
            self._look = self._line.clock.callLater(self._pause, self._look_again)
            self._pause = min(2 * self._pause, LAST_LOOK)

    def _look_again(self) -> None:
        self.ask()
        self._watch()

    def _look_now(self) -> None:
        """Something has happened: no pause any more, and the next one is the shortest."""
        if self._look is not None and self._look.active():
            self._look.cancel()
        self._pause = FIRST_LOOK
