"""The receipt: whether a response has arrived (docs/semantics.md, "The promise").

Twisted's `notifyFinish` says that the bytes are in the transport's buffer, which proves nothing
(twisted#5510). So a body with events goes out through a pull producer on the socket's own
transport: a request for more after the last piece means that the kernel has all of it. Then the
kernel is asked until the peer has acknowledged every byte.

Theory of operation
===================

Four things happen to a receipt: Twisted asks for more of the body, Twisted reports the
connection (bytes of a further request, FIN, lost), a timer looks at the kernel's queue, and the
deadline passes. They come in any order, and late: a process that was stopped sees all of them in
one turn of the reactor, timers before sockets. So each handler asks the kernel first and acts on
the answer; what Twisted reports is only the occasion.

The kernel's answer (`SendQueue`) is *reset* if an error waits in the socket, or if the socket is
closed (TCP_CLOSE) and not by us, so that Twisted has taken the error away. Else it is *acknowledged*
if the queue was at 0 when it was read, before the socket's state.

A reset is never an acknowledgement, whatever the queue reads. A reset *contradicts* itself if
the peer had acknowledged everything and has sent further bytes since the response began: it may
have read the response and gone on to its next request. Then the events go out again, counted as
*uncertain*; without such bytes the peer has closed with the response unread.

=========  ============================  =========================================================
state      what happens                  leads to
=========  ============================  =========================================================
SENDING    asked for more, some left     SENDING, the next piece is written
SENDING    asked for more, none left     SENT
SENDING    lost, closing, or deadline    ENDED: returned; connection aborted
SENT       acknowledged                  DELIVERED; the request is finished, not before
SENT       reset                         ENDED: returned; connection aborted
SENT       reset that contradicts        ENDED: returned as uncertain; connection aborted
SENT       deadline, or aborted by us    ENDED: returned as uncertain; connection aborted
DELIVERED  next request (read or not)    ENDED: final
DELIVERED  FIN, or aborted by us         ENDED: final
DELIVERED  reset                         ENDED: revoked
DELIVERED  reset that contradicts        ENDED: revoked as uncertain
DELIVERED  deadline                      OVERDUE
OVERDUE    RESET_GRACE is over           ENDED: final
OVERDUE    anything else                 as in DELIVERED
=========  ============================  =========================================================

A reset that does not contradict itself is told as such, returned or revoked: a scraper that resets
again and again may refuse one sample (`core/sampling/suspects.py`). Nothing else is a sign of that.

Invariants:

* `delivered` or `returned` is called once; after `delivered`, `revoked` or `final` once.
* The settlement is on its way to the disk from DELIVERED on. What waits for ENDED is the release
  of the lease: until then the scraper gets no further events, so a revocation always finds the
  cursor where the delivery left it.
* Nothing is final by a timer without a last question to the kernel. So a daemon that was stopped beyond
  the lease (30 s more than the timeout) still revokes: the timer is due before a socket is read.
* A FIN after DELIVERED is taken for the end of a reader: a peer that closes both sides with bytes unread
  sends a reset instead. A peer that closes its sending side alone, and later the rest unread, loses
  them (limit (f)); one whose FIN came before DELIVERED does not.
* A kill between DELIVERED and the commit repeats the delivery; a kill between a reset and the
  commit of its revocation loses it (limits (a) and (e) in docs/semantics.md).

Once the peer has sent its FIN, or we have ours, Twisted does not listen any more: then the kernel
is asked at intervals for a reset.

Where the queue is not to be seen (no Linux, no socket) SENT counts as DELIVERED. Over TLS a
reset cannot be told from a peer that closes without saying so, and the queue of a Unix socket
is at 0 only when the peer has read everything: in both cases DELIVERED is final at once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.web.transport.socket_state import PeerState, SendQueue

#: Bytes handed to the transport at a time.
PIECE = 256 * 1024

#: Seconds between two looks at the queue: they double from the first to the last.
FIRST_LOOK, LAST_LOOK = 0.001, 0.25

#: Seconds after the deadline for which a reset still revokes a delivery. The scraper's timeout began
#: before ours and ends before ours, but on a machine that is short of processors the scraper may close
#: its connection later than that.
RESET_GRACE = 1.0


class InFlightDelivery(Protocol):
    """What is told how its delivery went; see `oneshotd.delivery.scrapes.InFlightDelivery`."""

    body: bytes

    @property
    def awaits_receipt(self) -> bool: ...

    def delivered(self) -> None: ...

    def returned(self, uncertain: bool, reset: bool = False) -> None: ...

    def revoked(self, uncertain: bool = False) -> None: ...

    def final(self) -> None: ...


class Connection(Protocol):
    """The connection as the receipt sees it; see `oneshotd.web.transport.channel.Channel`."""

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def is_tls(self) -> bool: ...

    @property
    def is_closing(self) -> bool: ...

    @property
    def is_waiting(self) -> bool: ...

    def pull_from(self, producer: IPullProducer) -> None: ...

    def pull_no_more(self) -> None: ...

    def queue(self) -> SendQueue | None: ...

    def abort(self) -> None: ...


class State(Enum):
    """See the table in the module's docstring."""

    SENDING = auto()
    SENT = auto()
    DELIVERED = auto()
    OVERDUE = auto()
    ENDED = auto()


@implementer(IPullProducer)
class AckTracker:
    """Sends one body over one connection and finds out whether it arrived.

    :param write: puts bytes of the body on the line.
    :param deadline: reactor time (seconds) at which the scraper has given up.
    :ivar done: fires when it is delivered, so that the request may be finished. It never fires
        if it is not: the connection is gone then, or about to be.
    """

    _log = Logger()

    def __init__(
        self, line: Connection, shipment: InFlightDelivery, write: Callable[[bytes], object], deadline: float
    ) -> None:
        self.done: Deferred[None] = Deferred()
        self.state = State.SENDING
        self._line = line
        self._write = write
        self._shipment = shipment
        self._rest = memoryview(shipment.body)
        self._queue: SendQueue | None = None
        self._gone = False
        self._heard_at_start: int | None = 0
        self._heard_when_delivered: int | None = 0
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
            self._heard_at_start = self._queue.heard()
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
        # The queue before the state: a reset in between is seen.
        unacknowledged = 0 if self._queue is None else self._queue.unacknowledged()
        if self._is_reset():
            self._return(uncertain=self._contradicts(), reset=True)
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
        if self._is_revocable and self._is_reset():
            # Twisted's epoll reactor takes one reset in some thousands for a FIN: its look at the
            # socket falls into the middle of the kernel's work.
            self._reset()
        self._final()

    def connection_lost(self, reason: Failure) -> None:
        """The connection is gone: closed by us, aborted by us, or reset."""
        orderly, aborted = bool(reason.check(ConnectionDone)), bool(reason.check(ConnectionAborted))
        if aborted and self._is_reset():
            aborted = False  # the peer was first, and Twisted has not looked
        self._gone = True
        self._look_now()
        if orderly or aborted or self._line.is_tls:
            # Not after a reset: the queue of a Unix socket would be empty, whatever was in it.
            self.ask()
        if orderly and self.state is not State.SENDING:
            # By us: the kernel goes on sending what it has, and can still be asked.
            self._watch()
        elif self._is_revocable and aborted:
            self._final()
        elif self._is_revocable:
            self._reset()
        elif self.state is State.SENT:
            self._return(uncertain=aborted or self._contradicts(), reset=not aborted)
        elif self.state is State.SENDING:
            self._return(reset=not (orderly or aborted))

    # Ends

    @property
    def _is_revocable(self) -> bool:
        return self.state in (State.DELIVERED, State.OVERDUE)

    def _delivered(self) -> None:
        self.state = State.DELIVERED
        if self._queue is not None:
            self._queue.perish_with_us(False)
            self._heard_when_delivered = self._queue.heard()
        self._shipment.delivered()
        if self._line.is_tls or (self._queue is not None and not self._queue.is_tcp):
            self._final()
        self._watch()
        if not self.done.called:
            self.done.callback(None)

    def _watch(self) -> None:
        """After we have closed: until the peer has closed as well, by a FIN or by a reset."""
        if not self._is_revocable or not self._gone:
            return
        peer = self._peer()
        if peer is PeerState.OPEN:
            self._look_later()
        elif peer is PeerState.RESET and not self._has_spoken_since_delivery():
            self._revoke()
        else:
            # Bytes that come after we have closed are answered by our own kernel with a reset; as
            # the beginning of a further request they mean the same as on an open connection.
            self._final()

    def _final(self) -> None:
        if self._is_revocable:
            self._end()
            self._shipment.final()

    def _reset(self) -> None:
        """The peer has reset the connection of a delivered response."""
        if self._line.is_waiting and self._has_spoken_since_delivery():
            self._final()  # the next request is there, and Twisted has not read it
        else:
            self._revoke()

    def _revoke(self) -> None:
        uncertain = self._contradicts()
        self._end()
        self._shipment.revoked(uncertain=uncertain)

    def _return(self, uncertain: bool = False, reset: bool = False) -> None:
        self._end()
        if not self._gone:
            self._line.abort()
        self._shipment.returned(uncertain=uncertain, reset=reset and not uncertain)

    def _out_of_time(self) -> None:
        self._look_again()
        if self.state is State.DELIVERED:
            self.state = State.OVERDUE
            self._timer = self._line.clock.callLater(RESET_GRACE, self._grace_over)
        elif self.state is not State.ENDED:
            self._return(uncertain=self.state is State.SENT)

    def _grace_over(self) -> None:
        # Timers come before sockets: where the daemon was held up, a reset that came in time has
        # not been read yet. The kernel knows of it; where it cannot be asked, sockets come first.
        self._look_again()
        if self._queue is not None:
            self._final()
        elif self.state is State.OVERDUE:
            self._timer = self._line.clock.callLater(0, self._final)

    def _end(self) -> None:
        if self._queue is not None:
            self._log.debug(
                "a response ends in {state}, {size} bytes: {kernel}, {before} before, connection {gone}",
                state=self.state.name,
                size=len(self._shipment.body),
                kernel=str(self._queue),
                before=self._heard_at_start,
                gone="gone" if self._gone else "open",
            )
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

    def _is_reset(self) -> bool:
        """Whether the peer has reset the connection, also where Twisted has read the error."""
        if self._queue is None:
            return False
        peer = self._queue.state()
        if peer is PeerState.ENDED and self._queue.is_tcp and not self._gone:
            return self._queue.heard() is not None  # otherwise the kernel says nothing at all
        return peer is PeerState.RESET

    def _contradicts(self) -> bool:
        """Whether a reset says that the response is unread, and other signs that it may be read."""
        if self._queue is None or not self._queue.is_tcp:
            return False
        # After DELIVERED the queue may hold our FIN.
        acknowledged = self._is_revocable or self._queue.unacknowledged() in (0, None)
        heard = self._queue.heard()
        return acknowledged and (heard is None or heard != self._heard_at_start)

    def _has_spoken_since_delivery(self) -> bool:
        """Whether the peer has certainly sent data since, read or not."""
        heard = None if self._queue is None else self._queue.heard()
        return heard is not None and heard != self._heard_when_delivered

    def _look_later(self) -> None:
        if self._look is None or not self._look.active():
            self._look = self._line.clock.callLater(self._pause, self._look_again)
            self._pause = min(2 * self._pause, LAST_LOOK)

    def _look_again(self) -> None:
        """By a timer: ask the kernel, whose answer does not wait for Twisted to read the socket."""
        self.ask()
        if not self._gone and self._is_revocable and self._is_reset():
            self._reset()
        self._watch()

    def _look_now(self) -> None:
        """Something has happened: no pause any more, and the next one is the shortest."""
        if self._look is not None and self._look.active():
            self._look.cancel()
        self._pause = FIRST_LOOK
