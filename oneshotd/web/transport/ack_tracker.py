"""Finds out whether a response has arrived (docs/semantics.md, "The promise").

Twisted's `notifyFinish` says that the bytes are in the transport's buffer, which proves nothing
(twisted#5510). So a pull producer on the socket's own transport sends a body with events: a call of
`resumeProducing` after the last piece means that the kernel has all of it. Then the tracker polls the
kernel until the peer has acknowledged every byte.

The states of a response, and the theory of operation, are in `ack_states.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPullProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.web.transport.ack_states import State
from oneshotd.web.transport.further_bytes import FurtherBytes
from oneshotd.web.transport.socket_state import PeerState, SendQueue
from oneshotd.web.transport.tracked import Connection, TrackedDelivery

#: Bytes handed to the transport at a time.
PIECE = 256 * 1024

#: Seconds between two reads of the queue: they double from the first to the last.
FIRST_LOOK, LAST_LOOK = 0.001, 0.25

#: Seconds after the deadline for which a reset still revokes a delivery. The scraper's timeout begins
#: and ends before the deadline, but on a machine that is short of processors the scraper may close its
#: connection later.
RESET_GRACE = 1.0


@implementer(IPullProducer)
class AckTracker:
    """Sends one body over one connection and finds out whether it arrived.

    :param write: writes bytes of the body to the connection.
    :param deadline: reactor time (seconds) at which the scraper's timeout is over.
    :ivar done: fires when the response is delivered, so that the request may be finished. It does not
        fire otherwise: then the connection is lost or will be aborted.
    """

    _log = Logger()

    def __init__(
        self,
        connection: Connection,
        delivery: TrackedDelivery,
        write: Callable[[bytes], object],
        deadline: float,
    ) -> None:
        self.done: Deferred[None] = Deferred()
        self.state = State.SENDING
        self._connection = connection
        self._write = write
        self._delivery = delivery
        self._rest = memoryview(delivery.body)
        self._queue: SendQueue | None = None
        self._gone = False
        self._further: FurtherBytes | None = None
        self._pause = FIRST_LOOK
        self._poll_timer: IDelayedCall | None = None
        self._deadline = deadline
        seconds = max(0.0, deadline - connection.clock.seconds())
        self._timer = connection.clock.callLater(seconds, self._deadline_passed)

    def start(self) -> None:
        """Start to send; the headers are in the transport's buffer already."""
        self._queue = self._connection.queue()
        if self._queue is not None:
            self._queue.set_reset_on_kill(True)
            self._further = FurtherBytes(self._connection, self._queue)
        self._connection.pull_from(self)

    # IPullProducer

    def resumeProducing(self) -> None:
        """Send the next piece: the kernel has all bytes written so far."""
        if self.state is not State.SENDING:
            return
        if self._connection.is_closing:  # TLS has ended and drops all writes
            self._return()
        elif self._connection.holds_back:
            pass  # the transport asks again when TLS has written to it, and `tls_over` is called at the end
        elif self._rest and self._connection.clock.seconds() >= self._deadline:
            self._return()  # the daemon was held up until the scraper's timeout was over
        elif self._rest:
            piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
            # The last byte is a TLS record of its own, so that a client that does not read it leaves it in
            # its kernel; its TLS library decrypts a record as a whole.
            cut = len(piece) - 1 if self._connection.is_tls and not self._rest else 0
            for part in filter(None, (piece[:cut], piece[cut:])):
                self._write(bytes(part))
        else:
            self.state = State.SENT
            self._connection.pull_no_more()
            self._poll()

    def stopProducing(self) -> None:
        """Do nothing: `connection_lost` handles the end of the connection."""

    # Calls of the channel

    def ask(self) -> None:
        """Read the queue now, and again later if it is not empty yet."""
        if self.state is not State.SENT:
            return
        # The queue before the state: a reset in between is seen.
        unacknowledged = 0 if self._queue is None else self._queue.unacknowledged()
        if self._is_reset():
            if not self._is_put_off():
                self._return(uncertain=self._contradicts(), reset=True)
        elif unacknowledged == 0:
            self._delivered()
        else:
            self._poll_later()

    def next_request(self) -> None:
        """Note that the first byte of a further request has arrived on this connection."""
        self._final()

    def peer_finished(self) -> None:
        """Note the peer's FIN: if it had not read everything, it would have sent a reset."""
        self.ask()
        if self._is_revocable and self._is_reset():
            # Twisted's epoll reactor reports one reset in some thousands as a FIN: it reads the socket
            # while the kernel processes the reset.
            self._reset()
        self._final()

    def tls_over(self) -> None:
        """Note that TLS has ended, and that the peer has not ended TCP in the time that it had for it."""
        if self.state is State.SENDING:
            self._return()

    def connection_lost(self, reason: Failure) -> None:
        """Note that the connection is gone: closed by the daemon, aborted by the daemon, or reset.

        :param reason: the end of TCP, not of TLS, unless the connection hides it.
        """
        orderly, aborted = bool(reason.check(ConnectionDone)), bool(reason.check(ConnectionAborted))
        if aborted and self._is_reset():
            aborted = False  # the peer has reset before, and Twisted has not read the error
        self._gone = True
        self._stop_polling()
        if orderly or aborted or self._connection.hides_end:
            # Not after a reset: the queue of a Unix socket is empty then, even with bytes unread.
            self.ask()
        if orderly and self.state is not State.SENDING:
            # The kernel goes on sending its queue, and the socket's duplicate can still be read.
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
            self._queue.set_reset_on_kill(False)
        if self._further is not None:
            self._further.mark_delivered()
        self._delivery.delivered()
        if self._connection.hides_end or (self._queue is not None and not self._queue.is_tcp):
            self._final()
        self._watch()
        if not self.done.called:
            self.done.callback(None)

    def _watch(self) -> None:
        """After the daemon has closed, wait until the peer has closed as well, by a FIN or by a reset."""
        if not self._is_revocable or not self._gone:
            return
        peer = self._peer()
        if peer is PeerState.OPEN:
            self._poll_later()
        elif peer is PeerState.RESET and not self._has_sent_since_delivery():
            self._revoke()
        else:
            # The daemon's own kernel answers bytes that arrive after the close with a reset. They are the
            # beginning of a further request, so they mean the same as on an open connection.
            self._final()

    def _final(self) -> None:
        if self._is_revocable:
            self._end()
            self._delivery.final()

    def _reset(self) -> None:
        """Handle a reset by the peer after the response was delivered."""
        if self._connection.is_waiting and self._has_sent_since_delivery():
            self._final()  # the next request has arrived, and Twisted has not read it
        else:
            self._revoke()

    def _revoke(self) -> None:
        uncertain = self._contradicts()
        self._end()
        self._delivery.revoked(uncertain=uncertain)

    def _return(self, uncertain: bool = False, reset: bool = False) -> None:
        self._end()
        if not self._gone:
            self._connection.abort()
        self._delivery.returned(uncertain=uncertain, reset=reset and not uncertain)

    def _deadline_passed(self) -> None:
        if self._is_to_be_read():
            self._timer = self._connection.clock.callLater(0, self._deadline_passed)
            return
        self._poll()
        if self.state is State.DELIVERED:
            self.state = State.OVERDUE
            self._timer = self._connection.clock.callLater(RESET_GRACE, self._grace_over)
        elif self.state is not State.ENDED:
            self._return(uncertain=self.state is State.SENT)

    def _grace_over(self) -> None:
        # If the daemon was held up, the reactor has not read a reset that arrived in time. The kernel reports
        # it; without a queue, let the reactor read first.
        if self._is_to_be_read():
            self._timer = self._connection.clock.callLater(0, self._grace_over)
            return
        self._poll()
        if self._queue is not None:
            self._final()
        elif self.state is State.OVERDUE:
            self._timer = self._connection.clock.callLater(0, self._final)

    def _end(self) -> None:
        if self._queue is not None:
            self._log.debug(
                "a response ends in {state}, {size} bytes: {kernel}, further {further}, connection {gone}",
                state=self.state.name,
                size=len(self._delivery.body),
                kernel=str(self._queue),
                further=str(self._further),
                gone="gone" if self._gone else "open",
            )
        self.state = State.ENDED
        self._stop_polling()
        if self._timer.active():
            self._timer.cancel()
        if self._queue is not None:
            self._queue.close()
            self._queue = self._further = None
        self._rest = memoryview(b"")

    # The kernel's state

    def _peer(self) -> PeerState:
        return PeerState.ENDED if self._queue is None else self._queue.state()

    def _is_reset(self) -> bool:
        """Return whether the peer has reset the connection, even if Twisted has read the error."""
        if self._queue is None:
            return False
        peer = self._queue.state()
        if peer is PeerState.ENDED and self._queue.is_tcp and not self._gone:
            return self._queue.segments_received() is not None  # None: the kernel gives no state at all
        return peer is PeerState.RESET

    def _contradicts(self) -> bool:
        """Return whether the peer may have read the response although it has reset the connection."""
        if self._queue is None or not self._queue.is_tcp:
            return False
        # After DELIVERED the queue may hold the daemon's FIN.
        acknowledged = self._is_revocable or self._queue.unacknowledged() in (0, None)
        if self._connection.has_sent_notice:
            return acknowledged  # the notice may be all that the peer has not read
        return acknowledged and (self._further is None or self._further.may_be_there())

    def _has_sent_since_delivery(self) -> bool:
        """Return whether the peer has certainly sent data since DELIVERED, read or not."""
        return self._further is not None and self._further.are_there_since_delivery()

    def _is_to_be_read(self) -> bool:
        """Return whether Twisted is to read the bytes before a reset first (TLS)."""
        further = None if self._gone else self._further
        return further is not None and self._is_reset() and further.are_to_be_read()

    def _is_put_off(self) -> bool:
        """Return whether a reset is judged later, in a turn of the reactor after those before are read."""
        put_off = self._is_to_be_read()
        if put_off:
            self._stop_polling()
            self._poll_timer = self._connection.clock.callLater(0, self._poll)
        return put_off

    def _poll_later(self) -> None:
        if self._poll_timer is None or not self._poll_timer.active():
            self._poll_timer = self._connection.clock.callLater(self._pause, self._poll)
            self._pause = min(2 * self._pause, LAST_LOOK)

    def _poll(self) -> None:
        """Read the kernel's state, which is current even if Twisted has not read the socket."""
        self.ask()
        if not self._gone and self._is_revocable and self._is_reset() and not self._is_put_off():
            self._reset()
        self._watch()

    def _stop_polling(self) -> None:
        """Cancel the timer of the next read and start again with the shortest pause."""
        if self._poll_timer is not None and self._poll_timer.active():
            self._poll_timer.cancel()
        self._pause = FIRST_LOOK
