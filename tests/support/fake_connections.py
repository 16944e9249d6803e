"""A connection and its kernel as the receipt sees them, moved by hand.

`test_socket_state.py` holds `FakeQueue` against a real one, step by step.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPullProducer, IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oneshotd.web.transport.ack_tracker import LAST_LOOK, RESET_GRACE, AckTracker, State, TrackedDelivery
from oneshotd.web.transport.ack_tracker import Connection as TrackedConnection
from oneshotd.web.transport.socket_state import PeerState, SendQueue

#: Seconds from a bench's beginning to its receipt's deadline.
DEADLINE = 10.0

#: All that may be said of a delivery.
ENDS = (
    ["returned"],
    ["uncertain"],
    ["delivered", "final"],
    ["delivered", "revoked"],
    ["delivered", "revoked?"],
)


class FakeQueue:
    """What the kernel would say, after what has happened.

    :ivar left: bytes that the peer has not acknowledged.
    :ivar resets_on_kill: the kernel resets the connection if this process is killed.
    :ivar silent: it does not say anything any more.
    """

    def __init__(self, is_tcp: bool = True) -> None:
        self.is_tcp = is_tcp
        self.closed = self.silent = self.resets_on_kill = False
        self.left = self._segments = 0
        self._state = PeerState.OPEN if is_tcp else PeerState.ENDED
        self._we_finished = self._peer_finished = False

    # What happens

    def written(self, size: int) -> None:
        self.left += size

    def taken(self) -> None:
        """The peer acknowledges everything (over a Unix socket: it reads everything)."""
        self.left = 0

    def peer_finishes(self) -> None:
        """FIN. Ours, if there was one, is acknowledged as well."""
        self._peer_finished = True
        self._end()

    def peer_resets(self) -> None:
        """It closes with bytes unread, or gets some when it has closed."""
        self._state = PeerState.RESET
        if not self.is_tcp:
            self.left = 0

    def reset_is_read(self) -> None:
        """Twisted has read it off the socket, which takes the error away."""
        assert self._state is PeerState.RESET
        self._state = PeerState.ENDED

    def peer_speaks(self) -> None:
        """It sends bytes; where we have closed, our own kernel resets the connection."""
        self._segments += self.is_tcp
        if self._we_finished and self.is_tcp:
            self._state = PeerState.RESET

    def we_finish(self) -> None:
        """Twisted has closed its descriptor."""
        self._we_finished = True
        self._end()

    def _end(self) -> None:
        if self._we_finished and self._peer_finished and self._state is PeerState.OPEN:
            self._state = PeerState.ENDED

    # What it says

    def unacknowledged(self) -> int | None:
        assert not self.closed
        return None if self.silent else self.left

    def state(self) -> PeerState:
        assert not self.closed
        return PeerState.ENDED if self.silent else self._state

    def segments_received(self) -> int | None:
        assert not self.closed
        return None if self.silent else self._segments

    def set_reset_on_kill(self, yes: bool) -> None:
        assert not self.closed
        self.resets_on_kill = yes

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class FakeLine:
    """A connection that never moves by itself."""

    def __init__(self, clock: Clock, queue: FakeQueue | None, is_tls: bool = False) -> None:
        self._clock = clock
        self._queue = queue
        self.is_tls = is_tls
        self.is_closing = False
        self.is_waiting = True
        self.aborted = 0
        self.producer: IPullProducer | None = None
        self.user_space = 0

    @property
    def clock(self) -> IReactorTime:
        return self._clock

    def write(self, data: bytes) -> None:
        assert data
        self.user_space += len(data)

    def pull_from(self, producer: IPullProducer) -> None:
        """A transport asks a pull producer at once, and whenever its buffer is empty."""
        self.producer = producer
        producer.resumeProducing()

    def pull_no_more(self) -> None:
        assert self.producer is not None
        self.producer = None

    def queue(self) -> SendQueue | None:
        return cast("SendQueue | None", self._queue)

    def abort(self) -> None:
        self.aborted += 1

    def drain(self) -> None:
        """The kernel takes all that was written; the producer is asked for more."""
        if self._queue is not None:
            self._queue.written(self.user_space)
        self.user_space = 0
        if self.producer is not None:
            self.producer.resumeProducing()


class FakeShipment:
    """Keeps what is said of it, and refuses what makes no sense."""

    awaits_receipt = True

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.fate: list[str] = []
        self.was_reset = False

    def delivered(self) -> None:
        self._is("delivered")

    def returned(self, uncertain: bool, reset: bool = False) -> None:
        assert not (reset and uncertain), "a sign that the scraper refuses it, and none"
        self._is("uncertain" if uncertain else "returned")
        self.was_reset = reset

    def revoked(self, uncertain: bool = False) -> None:
        self._is("revoked?" if uncertain else "revoked")

    def final(self) -> None:
        self._is("final")

    def _is(self, word: str) -> None:
        self.fate.append(word)
        assert any(end[: len(self.fate)] == self.fate for end in ENDS), self.fate


class Bench:
    """One receipt, begun, on a fake connection.

    :param queue: None where the kernel cannot be asked.
    """

    def __init__(self, *, size: int = 1000, queue: FakeQueue | None, is_tls: bool = False) -> None:
        self.clock = Clock()
        self.kernel = queue
        self.line = FakeLine(self.clock, queue, is_tls)
        self.shipment = FakeShipment(b"x" * size)
        line: TrackedConnection = self.line  # mypy holds both fakes against what the receipt needs
        shipment: TrackedDelivery = self.shipment
        self.receipt = AckTracker(line, shipment, self.line.write, DEADLINE)
        self.receipt.start()

    @property
    def fate(self) -> list[str]:
        return self.shipment.fate

    @property
    def is_clean(self) -> bool:
        """Nothing is left: no timer, no descriptor."""
        return not self.clock.getDelayedCalls() and (self.kernel is None or self.kernel.closed)


class Connection:
    """What can happen to a connection; each method is one thing, told as the channel tells it.

    Nothing happens on a connection that is gone but what the kernel sees.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.kernel = bench.kernel or FakeQueue()
        self.gone = self.peer_gone = self.deaf = False

    def do(self, *steps: str) -> Connection:
        for step in steps:
            getattr(self, step)()
        return self

    def drain(self) -> None:
        if not self.gone:
            self.bench.line.drain()

    def sent(self) -> None:
        """All of the body is in the kernel."""
        while self.bench.receipt.state is State.SENDING:
            self.drain()

    def taken(self) -> None:
        if not self.peer_gone:
            self.kernel.taken()

    def look(self) -> None:
        self.bench.clock.advance(LAST_LOOK)

    def delivered(self) -> None:
        self.do("sent", "taken", "look")
        assert self.bench.receipt.state is not State.SENT

    def next_request(self) -> None:
        delivered = self.bench.receipt.state in (State.DELIVERED, State.OVERDUE)
        if self.gone or self.peer_gone or self.deaf or not delivered:
            return  # the channel does not tell of bytes that came before
        self.bench.receipt.ask()
        self.kernel.peer_speaks()
        self.bench.receipt.next_request()

    def bytes_ahead(self) -> None:
        """A further request comes while this one is answered."""
        if not (self.gone or self.peer_gone or self.deaf):
            self.bench.line.is_waiting = False
            self.kernel.peer_speaks()
            self.bench.receipt.ask()

    def fin(self) -> None:
        """The peer closes its side; Twisted reads no more."""
        if not (self.gone or self.peer_gone or self.deaf):
            self.deaf = True
            self.kernel.peer_finishes()
            self.bench.receipt.peer_finished()

    def late_fin(self) -> None:
        """The same after we have closed."""
        if self.gone and not self.peer_gone:
            self.peer_gone = True
            self.kernel.peer_finishes()

    def reset(self) -> None:
        """The peer resets; Twisted only gets to know while it reads."""
        if self.peer_gone:
            return
        self.peer_gone = True
        self.kernel.peer_resets()
        if not (self.gone or self.deaf):
            self.kernel.reset_is_read()
            self._lost(ConnectionLost())

    def speak(self) -> None:
        """The peer sends after we have closed."""
        if self.gone and not self.peer_gone and not self.deaf:
            self.peer_gone = self.kernel.is_tcp
            self.kernel.peer_speaks()

    def close(self) -> None:
        """We close: never before the response is delivered (but TLS may)."""
        if self.bench.receipt.state in (State.DELIVERED, State.OVERDUE, State.ENDED) and not self.gone:
            self.kernel.we_finish()
            self._lost(ConnectionDone())

    def abort(self) -> None:
        if not self.gone:
            self._lost(ConnectionAborted())

    def say_goodbye(self) -> None:
        """TLS ends: what is written is dropped."""
        self.bench.line.is_closing = True

    def unseen_bytes(self) -> None:
        """A further request comes, and Twisted has not read it yet."""
        if not (self.gone or self.peer_gone or self.deaf):
            self.kernel.peer_speaks()

    def unseen_reset(self) -> None:
        """The peer resets, and Twisted has not read it yet."""
        if not self.peer_gone:
            self.peer_gone = True
            self.kernel.peer_resets()

    def swallowed_reset(self) -> None:
        """The peer resets; the error was read, and the channel was told nothing."""
        if not self.peer_gone and self.kernel.is_tcp:
            self.unseen_reset()
            self.kernel.reset_is_read()

    def deadline(self) -> None:
        self.bench.clock.advance(DEADLINE)

    def grace(self) -> None:
        """The time after the deadline in which a reset still counts."""
        self.bench.clock.advance(RESET_GRACE)

    def _lost(self, reason: Exception) -> None:
        self.gone = True
        self.bench.receipt.connection_lost(Failure(reason))


def after(*steps: str, queue: FakeQueue | None = None, size: int = 1000) -> Bench:
    """What is the case after these steps, on a TCP connection if no queue is given."""
    bench = Bench(queue=queue or FakeQueue(), size=size)
    Connection(bench).do(*steps)
    return bench
