"""What is different over TLS in the table in `ack_states`: records that are no request, and close_notify."""

from __future__ import annotations

import pytest
from support.fake_connections import Bench, Connection
from support.fake_queue import FakeQueue

from oneshotd.web.transport.ack_states import State
from oneshotd.web.transport.ack_tracker import PIECE
from oneshotd.web.transport.tls import CLOSE_GRACE


@pytest.mark.parametrize(
    ("before", "what", "fate"),
    [
        (["notice"], "reset", "returned"),
        (["notice"], "over", "returned"),
        (["notice"], "deadline", "returned"),
        (["notice"], "fin", "returned"),
        (["sent", "notice"], "reset", "returned"),
        (["sent", "taken", "notice"], "reset", "delivered revoked"),
        (["sent", "notice", "over"], "deadline", "uncertain"),
        (["sent", "notice", "taken", "over"], "fin", "delivered final"),
        (["sent", "taken", "unseen_bytes", "unseen_reset"], "look", "uncertain"),
        (["sent", "taken", "unseen_bytes", "unseen_reset", "reads_notice"], "look", "returned"),
        (["sent", "taken", "unseen_bytes", "unseen_reset", "reads_request"], "look", "uncertain"),
        (["sent", "taken", "key_update", "unseen_reset"], "look", "returned"),
        (["delivered"], "reset", "delivered revoked"),
        (["delivered"], "fin", "delivered final"),
        (["delivered"], "next_request", "delivered final"),
        (["delivered", "notice"], "reset", "delivered revoked"),
        (["delivered", "notice"], "fin", "delivered final"),
        (["delivered", "key_update"], "reset", "delivered revoked"),
        (["delivered", "notice", "over"], "reset", "delivered revoked?"),
        (["delivered", "notice", "over"], "fin", "delivered final"),
        (["delivered", "notice", "over", "close", "reset"], "look", "delivered revoked?"),
        (["delivered", "notice", "over", "close", "late_fin"], "look", "delivered final"),
        (["delivered", "notice", "over", "close", "deadline"], "grace", "delivered final"),
        (["delivered", "deadline", "notice"], "grace", "delivered final"),
        (["delivered", "deadline", "notice", "unseen_reset"], "grace", "delivered revoked"),
        (["delivered", "unseen_bytes", "unseen_reset"], "abort", "delivered revoked?"),
    ],
)
def test_every_response_over_tls_ends_once_and_rightly(before: list[str], what: str, fate: str) -> None:
    """Events would be lost, delivered twice, or held back for ever."""
    bench = Bench(queue=FakeQueue(), kind="tls", size=2 * PIECE)
    connection = Connection(bench).do(*before)
    if bench.fate != fate.split():  # otherwise an earlier step has ended it already
        assert bench.fate in ([], ["delivered"])
        connection.do(what, "look", "look")
    assert bench.fate == fate.split()
    assert bench.is_clean


@pytest.mark.parametrize(
    ("steps", "reset"),
    [
        (["notice", "reset"], True),
        (["sent", "notice", "reset"], True),
        (["sent", "taken", "unseen_bytes", "unseen_reset", "reads_notice", "look"], True),
        (["notice", "fin"], False),
        (["notice", "over"], False),
    ],
)
def test_close_notify_before_a_reset_does_not_hide_a_refusal(steps: list[str], reset: bool) -> None:
    """A scraper written in Go that refuses a sample would get it again and again, for ever."""
    bench = Bench(queue=FakeQueue(), kind="tls", size=2 * PIECE)
    Connection(bench).do(*steps)
    assert bench.fate == ["returned"]
    assert bench.shipment.was_reset is reset


@pytest.mark.parametrize(
    ("is_request", "fate"), [(False, ["delivered", "revoked"]), (True, ["delivered", "final"])]
)
@pytest.mark.parametrize("late", ["deadline", "grace"])
def test_a_timer_that_is_due_lets_tls_read_first(is_request: bool, fate: list[str], late: str) -> None:
    """A daemon that was held up would take close_notify for the next request, and lose the events."""
    bench = Bench(queue=FakeQueue(), kind="tls")
    connection = Connection(bench).do("delivered")
    if late == "grace":
        connection.do("deadline")
    connection.do("unseen_bytes", "unseen_reset")
    (timer,) = bench.clock.getDelayedCalls()
    wait = timer.getTime() - bench.clock.seconds()
    bench.clock.callLater(wait, connection.read_unseen, is_request)  # after the timer, in the same turn
    bench.clock.advance(wait)
    assert bench.fate == fate
    assert bench.is_clean


def test_bytes_that_nobody_reads_do_not_put_a_timer_off() -> None:
    """A connection that Twisted does not read would keep its delivery open, and the processor busy."""
    bench = Bench(queue=FakeQueue(), kind="tls")
    Connection(bench).do("delivered", "unseen_bytes", "unseen_reset", "deadline")
    for _ in range(3):
        bench.clock.advance(0)
    assert bench.fate == ["delivered", "revoked?"] and bench.is_clean


def test_nothing_is_written_while_tls_holds_bytes_back() -> None:
    """The whole body would be copied into memory, and its end be taken for sent."""
    bench = Bench(queue=FakeQueue(), kind="tls", size=3 * PIECE)
    bench.line.holds_back = True
    bench.line.drain()
    assert bench.line.user_space == 0
    bench.line.holds_back = False
    while bench.tracker.state is State.SENDING:
        bench.line.drain()
    Connection(bench).do("taken", "look", "fin", "look")
    assert bench.fate == ["delivered", "final"] and bench.is_clean


@pytest.mark.parametrize("size", [0, 1, 2, PIECE, PIECE + 1])
def test_the_last_byte_is_a_record_of_its_own(size: int) -> None:
    """A client that reads all but the end would have it decrypted with the rest, as if it had read it."""
    written: list[int] = []
    bench = Bench(queue=FakeQueue(), kind="tls", size=size, watch=written.append)
    while bench.tracker.state is State.SENDING:
        bench.line.drain()
    assert sum(written) == size
    assert not written or written[-1] == 1
    Connection(bench).do("taken", "look", "fin", "look")


def test_the_wait_for_the_peer_is_shorter_than_a_scrape() -> None:
    """A client that waits for close_notify, and scrapes each second, would get events every other time."""
    assert CLOSE_GRACE < 1
