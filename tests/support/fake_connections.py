"""A fake connection with a fake kernel for the tests of `AckTracker`, moved by the test.

`test_socket_state.py` compares `FakeQueue` with a real queue, step by step.
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

#: Seconds from the start of a tracker to its deadline.
DEADLINE = 10.0

#: All outcomes of a delivery.
ENDS = (
    ["returned"],
    ["uncertain"],
    ["delivered", "final"],
    ["delivered", "revoked"],
    ["delivered", "revoked?"],
)


class FakeQueue:
    """A send queue with the kernel's answers after the steps so far.

    :ivar left: bytes that the peer has not acknowledged.
    :ivar resets_on_kill: the kernel resets the connection if this process is killed.
    :ivar silent: the kernel does not tell anything any more.
    """

    def __init__(self, is_tcp: bool = True) -> None:
        self.is_tcp = is_tcp
        self.closed = self.silent = self.resets_on_kill = False
        self.left = self._segments = 0
        self._state = PeerState.OPEN if is_tcp else PeerState.ENDED
        self._we_finished = self._peer_finished = False

    # Steps

    def written(self, size: int) -> None:
        self.left += size

    def taken(self) -> None:
        """The peer acknowledges everything (over a Unix socket: it reads everything)."""
        self.left = 0

    def peer_finishes(self) -> None:
        """The peer sends its FIN, and acknowledges the daemon's if there was one."""
        self._peer_finished = True
        self._end()

    def peer_resets(self) -> None:
        """The peer closes with bytes unread, or gets bytes after it has closed."""
        self._state = PeerState.RESET
        if not self.is_tcp:
            self.left = 0

    def reset_is_read(self) -> None:
        """Twisted reads the error, which the socket then has no more."""
        assert self._state is PeerState.RESET
        self._state = PeerState.ENDED

    def peer_speaks(self) -> None:
        """The peer sends bytes; after the daemon has closed, its kernel resets the connection."""
        self._segments += self.is_tcp
        if self._we_finished and self.is_tcp:
            self._state = PeerState.RESET

    def we_finish(self) -> None:
        """Twisted closes its descriptor."""
        self._we_finished = True
        self._end()

    def _end(self) -> None:
        if self._we_finished and self._peer_finished and self._state is PeerState.OPEN:
            self._state = PeerState.ENDED

    # The interface of SendQueue

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
    """A connection that the test moves."""

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
        """Ask the producer at once, as a transport does."""
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
        """Move the written bytes to the kernel; ask the producer for more."""
        if self._queue is not None:
            self._queue.written(self.user_space)
        self.user_space = 0
        if self.producer is not None:
            self.producer.resumeProducing()


class FakeShipment:
    """A delivery that records its outcome, and fails on an impossible one."""

    awaits_receipt = True

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.fate: list[str] = []
        self.was_reset = False

    def delivered(self) -> None:
        self._is("delivered")

    def returned(self, uncertain: bool, reset: bool = False) -> None:
        assert not (reset and uncertain), "a reset is never uncertain"
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
    """A started tracker on a fake connection.

    :param queue: None if the kernel shows no queue.
    """

    def __init__(self, *, size: int = 1000, queue: FakeQueue | None, is_tls: bool = False) -> None:
        self.clock = Clock()
        self.kernel = queue
        self.line = FakeLine(self.clock, queue, is_tls)
        self.shipment = FakeShipment(b"x" * size)
        line: TrackedConnection = self.line  # mypy checks both fakes against the interfaces
        shipment: TrackedDelivery = self.shipment
        self.tracker = AckTracker(line, shipment, self.line.write, DEADLINE)
        self.tracker.start()

    @property
    def fate(self) -> list[str]:
        return self.shipment.fate

    @property
    def is_clean(self) -> bool:
        """Whether no timer and no descriptor is left."""
        return not self.clock.getDelayedCalls() and (self.kernel is None or self.kernel.closed)


class Connection:
    """The inputs of a tracker; each method is one event of a connection, reported as the channel does.

    Only the kernel sees events of a connection that is gone.
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
        """Move the whole body to the kernel."""
        while self.bench.tracker.state is State.SENDING:
            self.drain()

    def taken(self) -> None:
        if not self.peer_gone:
            self.kernel.taken()

    def look(self) -> None:
        self.bench.clock.advance(LAST_LOOK)

    def delivered(self) -> None:
        self.do("sent", "taken", "look")
        assert self.bench.tracker.state is not State.SENT

    def next_request(self) -> None:
        delivered = self.bench.tracker.state in (State.DELIVERED, State.OVERDUE)
        if self.gone or self.peer_gone or self.deaf or not delivered:
            return  # the channel does not report bytes that arrived before
        self.bench.tracker.ask()
        self.kernel.peer_speaks()
        self.bench.tracker.next_request()

    def bytes_ahead(self) -> None:
        """A further request arrives while this one is answered."""
        if not (self.gone or self.peer_gone or self.deaf):
            self.bench.line.is_waiting = False
            self.kernel.peer_speaks()
            self.bench.tracker.ask()

    def fin(self) -> None:
        """The peer closes its side; Twisted reads no more."""
        if not (self.gone or self.peer_gone or self.deaf):
            self.deaf = True
            self.kernel.peer_finishes()
            self.bench.tracker.peer_finished()

    def late_fin(self) -> None:
        """The same after the daemon has closed."""
        if self.gone and not self.peer_gone:
            self.peer_gone = True
            self.kernel.peer_finishes()

    def reset(self) -> None:
        """The peer resets; Twisted sees it only while it reads."""
        if self.peer_gone:
            return
        self.peer_gone = True
        self.kernel.peer_resets()
        if not (self.gone or self.deaf):
            self.kernel.reset_is_read()
            self._lost(ConnectionLost())

    def speak(self) -> None:
        """The peer sends after the daemon has closed."""
        if self.gone and not self.peer_gone and not self.deaf:
            self.peer_gone = self.kernel.is_tcp
            self.kernel.peer_speaks()

    def close(self) -> None:
        """The daemon closes: never before the response is delivered (but TLS may)."""
        if self.bench.tracker.state in (State.DELIVERED, State.OVERDUE, State.ENDED) and not self.gone:
            self.kernel.we_finish()
            self._lost(ConnectionDone())

    def abort(self) -> None:
        if not self.gone:
            self._lost(ConnectionAborted())

    def say_goodbye(self) -> None:
        """TLS ends and drops further writes."""
        self.bench.line.is_closing = True

    def unseen_bytes(self) -> None:
        """A further request arrives, and Twisted has not read it yet."""
        if not (self.gone or self.peer_gone or self.deaf):
            self.kernel.peer_speaks()

    def unseen_reset(self) -> None:
        """The peer resets, and Twisted has not read it yet."""
        if not self.peer_gone:
            self.peer_gone = True
            self.kernel.peer_resets()

    def swallowed_reset(self) -> None:
        """The peer resets; the error was read, and not reported to the channel."""
        if not self.peer_gone and self.kernel.is_tcp:
            self.unseen_reset()
            self.kernel.reset_is_read()

    def deadline(self) -> None:
        self.bench.clock.advance(DEADLINE)

    def grace(self) -> None:
        """Let the time pass in which a reset after the deadline still counts."""
        self.bench.clock.advance(RESET_GRACE)

    def _lost(self, reason: Exception) -> None:
        self.gone = True
        self.bench.tracker.connection_lost(Failure(reason))


def after(*steps: str, queue: FakeQueue | None = None, size: int = 1000) -> Bench:
    """Return the bench after these steps, on a TCP connection if no queue is given."""
    bench = Bench(queue=queue or FakeQueue(), size=size)
    Connection(bench).do(*steps)
    return bench
