"""A fake connection with a fake kernel for the tests of `AckTracker`, moved by the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from support.fake_queue import FakeQueue
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPullProducer, IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oneshotd.web.transport.ack_states import State
from oneshotd.web.transport.ack_tracker import LAST_LOOK, RESET_GRACE, AckTracker
from oneshotd.web.transport.socket_state import SendQueue
from oneshotd.web.transport.tracked import Connection as TrackedConnection
from oneshotd.web.transport.tracked import TrackedDelivery

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


class FakeLine:
    """A connection that the test moves.

    :param kind: "tcp", "unix", "tls", or "hidden": TLS whose end cannot be seen.
    """

    def __init__(self, clock: Clock, queue: FakeQueue | None, kind: str = "tcp") -> None:
        self._clock = clock
        self._queue = queue
        self.is_tls = kind in ("tls", "hidden")
        self.hides_end = kind == "hidden"
        self.is_closing = self.holds_back = self.has_sent_notice = False
        self.received = 0
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
    :param kind: of the connection, see `FakeLine`.
    :param watch: called with the size of each write.
    """

    def __init__(
        self,
        *,
        size: int = 1000,
        queue: FakeQueue | None,
        kind: str = "tcp",
        watch: Callable[[int], object] = lambda size: None,
    ) -> None:
        self.clock = Clock()
        self.kernel = queue
        self.line = FakeLine(self.clock, queue, kind)
        self.shipment = FakeShipment(b"x" * size)
        line: TrackedConnection = self.line  # mypy checks both fakes against the interfaces
        shipment: TrackedDelivery = self.shipment

        def write(data: bytes) -> None:
            watch(len(data))
            self.line.write(data)

        self.tracker = AckTracker(line, shipment, write, DEADLINE)
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
        """Move the whole body to the kernel, if TLS takes it."""
        while self.bench.tracker.state is State.SENDING and not self.bench.line.holds_back:
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
        self.bench.line.received += 1
        self.bench.tracker.next_request()

    def bytes_ahead(self) -> None:
        """A further request arrives while this one is answered."""
        if not (self.gone or self.peer_gone or self.deaf):
            self.bench.line.is_waiting = False
            self.kernel.peer_speaks()
            self.bench.line.received += 1
            self.bench.tracker.ask()

    def fin(self) -> None:
        """The peer closes its side; Twisted reads no more, and closes itself if it is TLS."""
        if self.gone or self.peer_gone or self.deaf:
            return
        self.deaf = True
        self.kernel.peer_finishes()
        if self.bench.line.is_tls:
            self.peer_gone = True
            self.kernel.we_finish()
            self._lost(ConnectionDone())
        else:
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
            self.bench.line.has_sent_notice = self.bench.line.is_tls
            self._lost(ConnectionDone())

    def abort(self) -> None:
        if not self.gone:
            self._lost(ConnectionAborted())

    def say_goodbye(self) -> None:
        """TLS ends and drops further writes."""
        self.bench.line.is_closing = True

    def notice(self) -> None:
        """TLS reads close_notify, and waits for the end of TCP."""
        if not (self.gone or self.peer_gone or self.deaf) and self.bench.line.is_tls:
            self.kernel.peer_speaks()
            self.bench.line.holds_back = True
            self.bench.tracker.ask()

    def over(self) -> None:
        """TLS answers close_notify, since the end of TCP has not come."""
        line = self.bench.line
        if line.holds_back and not self.gone:
            line.holds_back, line.is_closing, line.has_sent_notice = False, True, True
            self.bench.tracker.tls_over()

    def key_update(self) -> None:
        """TLS reads a record that is no part of a request."""
        if not (self.gone or self.peer_gone or self.deaf) and self.bench.line.is_tls:
            self.kernel.peer_speaks()

    def unseen_bytes(self) -> None:
        """A further request, or over TLS any record, arrives, and Twisted has not read it yet."""
        if not (self.gone or self.peer_gone or self.deaf):
            self.kernel.peer_speaks()
            self.kernel.unread_bytes += 24

    def reads_request(self) -> None:
        """Twisted reads the unseen bytes, in the next turn of the reactor, and they are a request."""
        if self.kernel.unread_bytes and not self.gone:
            self.bench.clock.callLater(0, self.read_unseen, True)

    def reads_notice(self) -> None:
        """The same, and they are close_notify."""
        if self.kernel.unread_bytes and not self.gone:
            self.bench.clock.callLater(0, self.read_unseen, False)

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

    def read_unseen(self, is_request: bool) -> None:
        """Twisted reads the unseen bytes now."""
        if self.gone or not self.kernel.unread_bytes:
            return
        self.kernel.unread_bytes = 0
        if is_request:
            self.bench.line.received += 1
            self.bench.tracker.ask()
            self.bench.tracker.next_request()
        else:
            self.bench.tracker.ask()

    def _lost(self, reason: Exception) -> None:
        self.gone = True
        self.bench.tracker.connection_lost(Failure(reason))


def after(*steps: str, queue: FakeQueue | None = None, size: int = 1000) -> Bench:
    """Return the bench after these steps, on a TCP connection if no queue is given."""
    bench = Bench(queue=queue or FakeQueue(), size=size)
    Connection(bench).do(*steps)
    return bench
