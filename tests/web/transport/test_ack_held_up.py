"""Tracking of acknowledgements if the daemon or the reactor is held up."""

from __future__ import annotations

from support.fake_connections import DEADLINE, FakeLine, FakeShipment, after
from support.fake_queue import FakeQueue
from twisted.internet.task import Clock

from oneshotd.web.transport.ack_tracker import AckTracker


def test_a_reset_that_the_reactor_takes_for_a_fin_is_a_reset() -> None:
    """Of some thousand responses that a scraper throws away unread, one would be lost."""
    bench = after("delivered")
    assert bench.kernel is not None
    bench.kernel.peer_resets()
    bench.tracker.peer_finished()
    assert bench.fate == ["delivered", "revoked"]
    assert bench.is_clean


def test_no_event_is_sent_after_the_deadline() -> None:
    """A daemon that was held up over the deadline would send events and at once take them for not
    arrived: who reads them after all would get them twice."""
    clock = Clock()
    clock.advance(DEADLINE)
    line, shipment = FakeLine(clock, FakeQueue()), FakeShipment(b"x" * 1000)
    AckTracker(line, shipment, line.write, DEADLINE).start()
    assert line.user_space == 0
    assert (shipment.fate, line.aborted) == (["returned"], 1)
