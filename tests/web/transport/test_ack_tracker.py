"""Each row of the table in `ack_states`, and every order of its inputs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_connections import DEADLINE, ENDS, Bench, Connection, after
from support.fake_queue import FakeQueue
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from oneshotd.web.transport.ack_states import State
from oneshotd.web.transport.ack_tracker import FIRST_LOOK, LAST_LOOK, PIECE, RESET_GRACE

# The table


@pytest.mark.parametrize(
    ("before", "what", "fate"),
    [
        ([], "reset", "returned"),
        ([], "abort", "returned"),
        ([], "deadline", "returned"),
        (["fin"], "deadline", "returned"),
        (["drain"], "reset", "returned"),
        (["say_goodbye"], "drain", "returned"),
        (["sent"], "reset", "returned"),
        (["sent"], "abort", "uncertain"),
        (["sent"], "deadline", "uncertain"),
        (["sent", "taken", "deadline"], "grace", "delivered final"),
        (["sent", "taken", "deadline"], "reset", "delivered revoked"),
        (["sent", "taken", "deadline", "unseen_reset"], "grace", "delivered revoked"),
        (["sent", "taken", "deadline"], "next_request", "delivered final"),
        (["sent", "taken", "deadline"], "fin", "delivered final"),
        (["sent", "taken", "deadline"], "abort", "delivered final"),
        (["sent", "taken", "unseen_bytes", "unseen_reset"], "look", "uncertain"),
        (["sent", "taken", "unseen_bytes", "unseen_reset"], "abort", "uncertain"),
        (["sent", "taken", "unseen_bytes", "unseen_reset"], "deadline", "uncertain"),
        (["sent", "unseen_bytes", "unseen_reset"], "look", "returned"),
        (["sent", "taken", "unseen_reset"], "look", "returned"),
        (["sent", "taken", "unseen_reset"], "abort", "returned"),
        (["sent", "taken", "unseen_bytes"], "reset", "uncertain"),
        (["sent", "taken", "swallowed_reset"], "look", "returned"),
        (["sent", "taken", "swallowed_reset"], "deadline", "returned"),
        (["sent", "taken", "unseen_bytes", "swallowed_reset"], "look", "uncertain"),
        (["delivered", "unseen_bytes"], "reset", "delivered final"),
        (["delivered", "unseen_bytes", "unseen_reset"], "deadline", "delivered final"),
        (["delivered", "deadline", "unseen_bytes", "unseen_reset"], "grace", "delivered final"),
        (
            ["sent", "bytes_ahead", "taken", "look", "unseen_bytes", "unseen_reset"],
            "deadline",
            "delivered revoked?",
        ),
        (["sent", "taken", "unseen_bytes", "look", "unseen_reset"], "deadline", "delivered revoked?"),
        (["delivered", "unseen_reset"], "abort", "delivered revoked"),
        (["delivered", "unseen_reset"], "deadline", "delivered revoked"),
        (["sent", "taken"], "abort", "delivered final"),
        (["sent", "taken"], "reset", "returned"),
        (["sent", "taken"], "fin", "delivered final"),
        (["sent", "bytes_ahead"], "reset", "returned"),
        (["sent", "fin", "reset"], "look", "returned"),
        (["sent", "fin"], "deadline", "uncertain"),
        (["sent", "say_goodbye", "taken", "look"], "fin", "delivered final"),
        (["delivered"], "next_request", "delivered final"),
        (["delivered"], "fin", "delivered final"),
        (["delivered", "deadline"], "grace", "delivered final"),
        (["delivered"], "abort", "delivered final"),
        (["delivered"], "reset", "delivered revoked"),
        (["delivered", "close", "late_fin"], "look", "delivered final"),
        (["delivered", "close", "reset"], "look", "delivered revoked"),
        (["delivered", "close", "speak"], "look", "delivered final"),
        (["delivered", "close", "deadline"], "grace", "delivered final"),
        (["delivered", "close", "deadline", "reset"], "grace", "delivered revoked"),
        (["fin", "sent", "taken", "look", "close"], "look", "delivered final"),
        (["fin", "sent", "taken", "look", "reset", "close"], "look", "delivered revoked"),
    ],
)
def test_every_response_ends_once_and_rightly(before: list[str], what: str, fate: str) -> None:
    """Events would be lost, delivered twice, or held back for ever."""
    bench = Bench(queue=FakeQueue())
    connection = Connection(bench).do(*before)
    if bench.fate != fate.split():  # otherwise an earlier step has ended it already
        assert bench.fate in ([], ["delivered"])
        connection.do(what)
    assert bench.fate == fate.split()
    assert bench.is_clean


@pytest.mark.parametrize(
    "steps", [[], ["drain"], ["sent"], ["sent", "bytes_ahead", "look"], ["sent", "fin", "look"]]
)
def test_nothing_is_delivered_before_the_last_acknowledgement(steps: list[str]) -> None:
    """Bytes in a buffer when the scraper dies would be lost."""
    bench = after(*steps)
    assert (bench.fate, bench.tracker.done.called) == ([], False)


@pytest.mark.parametrize(("steps", "yes"), [(["drain"], True), (["sent"], True), (["delivered"], False)])
def test_only_an_undelivered_response_is_reset_if_the_daemon_is_killed(steps: list[str], yes: bool) -> None:
    """After `kill -9` the kernel would deliver events that are repeated, or cut a delivered response."""
    bench = after(*steps)
    assert bench.kernel is not None and bench.kernel.resets_on_kill is yes


@pytest.mark.parametrize(
    ("steps", "reset"),
    [
        (["reset"], True),
        (["drain", "reset"], True),
        (["sent", "reset"], True),
        (["sent", "taken", "unseen_reset", "look"], True),
        (["sent", "fin", "reset", "look"], True),
        (["abort"], False),
        (["deadline"], False),
        (["fin", "deadline"], False),
        (["sent", "deadline"], False),
        (["sent", "abort"], False),
        (["sent", "taken", "unseen_bytes", "unseen_reset", "look"], False),
    ],
)
def test_only_a_reset_is_a_sign_that_the_scraper_refuses_the_response(steps: list[str], reset: bool) -> None:
    """Events would be set aside because a scraper was slow or away; or one would spoil all others."""
    assert after(*steps).shipment.was_reset is reset


@pytest.mark.parametrize("steps", [["delivered"], ["delivered", "close", "look"]])
def test_what_is_delivered_can_be_thrown_away_for_a_while(steps: list[str]) -> None:
    """The part that the scraper has not read when it crashes would be lost."""
    bench = after(*steps)
    assert bench.fate == ["delivered"]
    assert bench.tracker.done.called


@pytest.mark.parametrize(
    "steps", [["sent", "reset"], ["sent", "fin", "reset", "look"], ["sent", "deadline"], ["deadline"]]
)
def test_a_request_whose_response_is_returned_is_not_finished(steps: list[str]) -> None:
    """The next request would be taken from a connection that has half a response in it."""
    assert not after(*steps).tracker.done.called


@pytest.mark.parametrize(
    ("steps", "aborted"),
    [
        (["deadline"], 1),
        (["sent", "deadline"], 1),
        (["sent", "fin", "reset", "look"], 1),
        (["say_goodbye", "drain"], 1),
        (["sent", "reset"], 0),
        (["delivered", "deadline", "grace"], 0),
        (["delivered", "close", "deadline", "grace"], 0),
    ],
)
def test_a_connection_with_half_a_response_is_aborted(steps: list[str], aborted: int) -> None:
    """The scraper would wait for the rest; and one that is gone cannot be aborted (TLS fails)."""
    assert after(*steps).line.aborted == aborted


# Sending and looking


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_the_body_goes_out_piece_by_piece(size: int) -> None:
    """A large response would be copied into the buffer as a whole, for every slow reader."""
    bench = Bench(queue=FakeQueue(), size=size)
    written = []
    while bench.tracker.state is State.SENDING:
        assert bench.line.user_space <= PIECE
        written.append(bench.line.user_space)
        bench.line.drain()
    assert sum(written) == size
    assert bench.line.producer is None


def test_the_kernel_is_asked_at_once_and_then_ever_less_often() -> None:
    """A scrape would take longer than it needs, or a slow one would burn the processor."""
    bench = after("sent")
    pauses: list[float] = []
    while not pauses or pauses[-1] < LAST_LOOK:
        (look,) = [call for call in bench.clock.getDelayedCalls() if call.getTime() < DEADLINE]
        pauses.append(look.getTime() - bench.clock.seconds())
        bench.clock.advance(pauses[-1])
    assert pauses[0] == pytest.approx(FIRST_LOOK)
    assert all(later <= 2 * sooner + 1e-9 for sooner, later in pairwise(pauses))
    assert len(pauses) < 20


def test_after_closing_the_kernel_is_asked_quickly_again() -> None:
    """A scraper that comes with a new connection each time would find its last delivery unsettled."""
    bench = Bench(queue=FakeQueue())
    connection = Connection(bench).do("sent", *["look"] * 10, "taken", "look", "close", "late_fin")
    bench.clock.advance(FIRST_LOOK)
    assert bench.fate == ["delivered", "final"]
    assert connection.gone


def test_a_queue_at_zero_is_noticed_with_the_bytes_of_the_next_request() -> None:
    """They come before the next look: the scrape would find the last delivery unsettled."""
    bench = after("sent", "taken")
    bench.tracker.ask()  # what the channel does before it parses the bytes
    assert bench.fate == ["delivered"] and bench.tracker.done.called
    bench.tracker.next_request()
    assert bench.fate == ["delivered", "final"] and bench.is_clean


def test_the_request_may_be_finished_from_within() -> None:
    """Finishing it closes the connection at once: `connection_lost` is called within `done`."""
    bench = Bench(queue=FakeQueue())
    connection = Connection(bench)
    bench.tracker.done.addCallback(lambda _: connection.do("close"))
    connection.do("sent", "taken", "look")
    assert bench.fate == ["delivered"]
    connection.do("reset", "look")
    assert bench.fate == ["delivered", "revoked"] and bench.is_clean


def test_a_cancelled_handler_does_not_stop_the_tracker() -> None:
    """Klein cancels it when the client goes: its deliveries would stay open for ever (klein#840)."""
    bench = after("sent")
    bench.tracker.done.addErrback(lambda _: None)
    bench.tracker.done.cancel()
    Connection(bench).do("taken", "look", "fin")
    assert bench.fate == ["delivered", "final"] and bench.is_clean


def test_a_deadline_that_has_passed_already_returns_it() -> None:
    """A scrape for which the store took too long would never end."""
    bench = Bench(queue=FakeQueue())
    bench.clock.advance(DEADLINE)
    assert bench.fate == ["returned"] and bench.is_clean


def test_the_queue_is_read_at_the_deadline() -> None:
    """A response dropped shortly before it, after the daemon has closed, would be lost."""
    bench = after("delivered", "close")
    assert bench.kernel is not None
    bench.clock.callLater(DEADLINE - 1e-6 - bench.clock.seconds(), bench.kernel.peer_resets)
    while bench.clock.seconds() < DEADLINE:
        assert bench.fate == ["delivered"]
        soonest = min(call.getTime() for call in bench.clock.getDelayedCalls())
        bench.clock.advance(soonest - bench.clock.seconds())
    assert bench.fate == ["delivered", "revoked"] and bench.is_clean


def test_a_reset_before_a_late_deadline_still_counts() -> None:
    """Where the daemon is held up, timers run before sockets are read: the events would be lost."""
    bench = after("delivered")
    bench.clock.callLater(DEADLINE, Connection(bench).do, "reset")
    bench.clock.advance(DEADLINE)
    assert bench.fate == ["delivered", "revoked"] and bench.is_clean


@pytest.mark.parametrize("steps", [["delivered"], ["delivered", "close"], ["sent", "taken"]])
def test_a_reset_a_moment_after_the_deadline_still_counts(steps: list[str]) -> None:
    """A scraper whose own timeout has just ended closes a moment after ours: what it did not read
    would be lost."""
    bench = after(*steps, "deadline")
    assert bench.fate == ["delivered"]
    bench.clock.advance(0.9 * RESET_GRACE)
    assert bench.fate == ["delivered"]
    Connection(bench).do("unseen_reset")
    bench.clock.advance(0.1 * RESET_GRACE)
    assert bench.fate == ["delivered", "revoked"] and bench.is_clean


@pytest.mark.parametrize("steps", [["delivered"], ["sent", "taken"], ["delivered", "close"]])
def test_a_daemon_that_was_stopped_over_deadline_and_grace_asks_the_kernel(steps: list[str]) -> None:
    """The timers of a stopped process are all due at once, and run before it reads its sockets."""
    bench = after(*steps)
    Connection(bench).do("unseen_reset")
    bench.clock.advance(DEADLINE + 10 * RESET_GRACE)
    assert bench.fate in (["delivered", "revoked"], ["returned"]) and bench.is_clean


def test_an_unread_request_before_the_delivery_makes_a_reset_uncertain() -> None:
    """A daemon that ends closes the connection with the scraper's next request unread in it: the
    scraper resets, and what it had read would come twice, uncounted."""
    bench = after("sent", "taken", "unseen_bytes", "look", "close")
    assert bench.kernel is not None
    bench.kernel.written(1)  # our FIN
    Connection(bench).do("unseen_reset", "look")
    assert bench.fate == ["delivered", "revoked?"] and bench.is_clean


def test_without_a_kernel_to_ask_sockets_are_read_before_the_last_word() -> None:
    """Without Linux, a daemon that was held up would lose a dropped response."""
    bench = Bench(queue=None)
    connection = Connection(bench).do("sent", "deadline")
    bench.clock.callLater(RESET_GRACE, connection.do, "reset")
    bench.clock.advance(RESET_GRACE)
    assert bench.fate == ["delivered", "revoked"] and bench.is_clean


def test_a_kernel_that_falls_silent_proves_nothing() -> None:
    """Without a descriptor to ask with, events would count as delivered."""
    bench = after("sent")
    assert bench.kernel is not None
    bench.kernel.silent = True
    connection = Connection(bench).do("taken", "look")
    assert bench.fate == []
    connection.do("deadline")
    assert bench.fate == ["uncertain"] and bench.is_clean


# Other transports


def test_without_a_queue_to_see_sent_is_delivered() -> None:
    """Without Linux no response would ever be delivered."""
    bench = Bench(queue=None)
    connection = Connection(bench).do("sent")
    assert bench.fate == ["delivered"]
    connection.do("reset")
    assert bench.fate == ["delivered", "revoked"] and bench.is_clean


@pytest.mark.parametrize("end", ["reset", "fin", "close", "abort", "deadline"])
def test_over_unix_sockets_and_tls_whose_end_is_hidden_delivered_is_final(end: str) -> None:
    """Over TLS a client without close_notify would be served twice; over a Unix socket all was read."""
    for bench in (Bench(queue=FakeQueue(), kind="hidden"), Bench(queue=FakeQueue(is_tcp=False))):
        connection = Connection(bench).do("sent", "taken", "look")
        assert bench.fate == ["delivered", "final"] and bench.is_clean
        connection.do(end)
        assert bench.fate == ["delivered", "final"] and bench.line.aborted == 0


@pytest.mark.parametrize("steps", [["reset"], ["fin", "reset", "look"]])
def test_a_unix_socket_that_is_empty_because_the_peer_has_closed_was_not_read(steps: list[str]) -> None:
    """The kernel drops bytes that the peer did not read: the events would be lost."""
    assert after("sent", *steps, queue=FakeQueue(is_tcp=False)).fate == ["returned"]


@pytest.mark.parametrize("reason", [ConnectionDone, ConnectionLost])
def test_over_tls_a_client_that_read_all_and_hangs_up_has_the_response(reason: type[Exception]) -> None:
    """The client would be served twice."""
    bench = Bench(queue=FakeQueue(), kind="hidden")
    Connection(bench).do("sent", "taken")
    bench.tracker.connection_lost(Failure(reason()))
    assert bench.fate == ["delivered", "final"] and bench.is_clean


@pytest.mark.parametrize("kind", ["tls", "hidden"])
def test_over_tls_a_goodbye_before_the_last_acknowledgement_leaves_it_open(kind: str) -> None:
    """The kernel goes on sending its queue: events that arrive then would be delivered twice."""
    bench = Bench(queue=FakeQueue(), kind=kind)
    connection = Connection(bench).do("sent")
    connection.gone = True
    bench.tracker.connection_lost(Failure(ConnectionDone()))
    assert bench.fate == []
    bench.tracker.ask()
    connection.kernel.we_finish()
    connection.do("taken", "late_fin", "look")
    bench.clock.advance(FIRST_LOOK)
    assert bench.fate == ["delivered", "final"] and bench.is_clean


# Any order

STEPS = (
    "drain sent taken look next_request bytes_ahead fin late_fin reset speak close abort say_goodbye"
    " unseen_bytes unseen_reset swallowed_reset notice over key_update reads_request reads_notice"
)


@given(
    st.sampled_from(["tcp", "unix", "tls", "hidden", "unseen"]),
    st.lists(st.sampled_from(STEPS.split()), max_size=15),
)
def test_in_whatever_order_it_ends_once_and_leaves_nothing(kind: str, steps: list[str]) -> None:
    """An unknown race would lose events, repeat them, or leave descriptors open."""
    queue = None if kind == "unseen" else FakeQueue(is_tcp=kind != "unix")
    bench = Bench(queue=queue, size=2 * PIECE, kind=kind)
    connection = Connection(bench)
    for step in steps:
        delivered_before = "delivered" in bench.fate
        connection.do(step)
        if bench.kernel is not None and not delivered_before and "delivered" in bench.fate:
            assert bench.kernel.left == 0
    connection.do("deadline", "grace")
    assert bench.fate in ENDS
    assert bench.is_clean
    assert bench.tracker.done.called == ("delivered" in bench.fate)
    assert bench.line.aborted <= 1
    if bench.fate[-1].startswith("revoked"):
        # Over TLS bytes after the daemon's close may be close_notify, and are no proof.
        spoken = {"speak"} if kind == "tls" else set()
        assert ({"reset", "unseen_reset", "swallowed_reset"} | spoken) & {*steps}
    if bench.fate[-1] == "revoked?":
        assert {"unseen_bytes", "bytes_ahead", "speak", "over", "close"} & {*steps}
