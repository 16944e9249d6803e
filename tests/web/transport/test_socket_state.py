"""The kernel's state of a connection, and that `FakeQueue` behaves the same."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.descriptors import no_descriptors
from support.fake_queue import FakeQueue

from oneshotd.web.transport.socket_state import PeerState, SendQueue

SIZE = 1000


class Pair:
    """Two ends of a connection, and what happens on it, for the kernel and for the fake alike."""

    def __init__(self, family: socket.AddressFamily) -> None:
        if family == socket.AF_UNIX:
            self.ours, self.theirs = socket.socketpair()
        else:
            host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
            with socket.create_server((host, 0), family=family) as listener:
                self.theirs = socket.create_connection(listener.getsockname()[:2])
                self.ours, _ = listener.accept()
        self.queue = SendQueue(self.ours)
        self.fake = FakeQueue(is_tcp=family != socket.AF_UNIX)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.ours, self.theirs, self.queue):
            end.close()

    def written(self) -> None:
        self.ours.sendall(b"x" * SIZE)
        self.fake.written(SIZE)

    def taken(self) -> None:
        """TCP acknowledges before the application reads."""
        if not self.queue.is_tcp:
            self.read()
        self.fake.taken()

    def read(self) -> None:
        assert len(self.theirs.recv(SIZE)) == SIZE

    def peer_finishes(self) -> None:
        self.theirs.shutdown(socket.SHUT_WR)
        self.fake.peer_finishes()

    def peer_closes(self) -> None:
        self.theirs.close()
        self.fake.peer_finishes()

    def peer_resets(self) -> None:
        self.theirs.close()  # with bytes unread
        self.fake.peer_resets()

    def reset_is_read(self) -> None:
        assert soon(lambda: self.queue.state() is PeerState.RESET)
        with pytest.raises(ConnectionResetError):
            self.ours.recv(1)
        self.fake.reset_is_read()

    def peer_speaks(self) -> None:
        self.theirs.send(b"x")
        self.fake.peer_speaks()

    def we_finish(self) -> None:
        """As Twisted does it."""
        self.ours.shutdown(socket.SHUT_RDWR)
        self.ours.close()
        self.fake.we_finish()


def said(queue: SendQueue | FakeQueue) -> tuple[bool, PeerState, int | None]:
    return queue.unacknowledged() == 0, queue.state(), queue.segments_received()


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it holds before long: the two ends of a loopback connection are not one."""
    end = time.monotonic() + 2
    while not condition() and time.monotonic() < end:
        os.sched_yield()
    return condition()


TCP = [
    [],
    ["written", "taken"],
    ["written", "taken", "peer_resets", "reset_is_read"],
    ["written", "taken", "read", "peer_closes"],
    ["written", "taken", "read", "peer_finishes"],
    ["written", "taken", "peer_speaks"],
    ["written", "taken", "peer_speaks", "peer_resets"],
    ["written", "taken", "we_finish"],
    ["written", "taken", "we_finish", "peer_resets"],
    ["written", "taken", "we_finish", "read", "peer_closes"],
    ["written", "taken", "we_finish", "peer_speaks"],
    ["written", "taken", "peer_finishes", "we_finish"],
    ["peer_finishes", "written", "taken", "peer_resets"],
]
UNIX = [
    [],
    ["written"],
    ["written", "taken"],
    ["written", "peer_resets", "reset_is_read"],
    ["written", "taken", "peer_closes"],
    ["peer_finishes", "written"],
    ["peer_finishes", "written", "taken"],
    ["peer_finishes", "written", "peer_resets"],
    ["written", "taken", "we_finish"],
    ["written", "we_finish", "peer_resets"],
]
FAMILIES = [(socket.AF_INET, steps) for steps in TCP] + [(socket.AF_UNIX, steps) for steps in UNIX]
if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
    FAMILIES += [(socket.AF_INET6, steps) for steps in TCP]


@pytest.mark.parametrize(("family", "steps"), FAMILIES)
def test_the_fake_queue_behaves_like_the_kernel(family: socket.AddressFamily, steps: list[str]) -> None:
    """The tests of the tracker would test states that the kernel does not have."""
    with Pair(family) as pair:
        for step in steps:
            getattr(pair, step)()
            if step == "written" and pair.queue.is_tcp:
                continue  # it is acknowledged at once
            same = soon(lambda: said(pair.queue) == said(pair.fake))
            assert same, (step, said(pair.queue), said(pair.fake))


def test_what_is_not_acknowledged_is_counted() -> None:
    """Events in a full window would count as delivered."""
    with Pair(socket.AF_INET) as pair:
        pair.ours.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while True:
                sent += pair.ours.send(b"x" * 65536)
        assert 0 < (pair.queue.unacknowledged() or 0) <= sent
        pair.theirs.settimeout(10)
        while sent > 0:
            sent -= len(pair.theirs.recv(65536))
        assert soon(lambda: pair.queue.unacknowledged() == 0)


def test_what_was_never_acknowledged_stays_so_after_a_reset() -> None:
    """The response that meets a closed scraper would count as delivered."""
    with Pair(socket.AF_INET) as pair:
        pair.theirs.close()
        pair.ours.send(b"x" * SIZE)
        assert soon(lambda: pair.queue.state() is PeerState.RESET)
        assert pair.queue.unacknowledged() == SIZE


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_asking_takes_no_error_away_from_twisted(family: socket.AddressFamily) -> None:
    """Twisted would take a reset for an orderly end, and the events would be lost."""
    with Pair(family) as pair:
        pair.written()
        assert family == socket.AF_UNIX or soon(lambda: pair.queue.unacknowledged() == 0)
        pair.peer_resets()
        assert soon(lambda: pair.queue.state() is PeerState.RESET)
        with pytest.raises(ConnectionResetError):
            pair.ours.recv(1)


def test_our_own_abort_reaches_the_peer_once_the_queue_is_closed() -> None:
    """The duplicate keeps the connection alive: the scraper would wait for the rest of a response."""
    with Pair(socket.AF_INET) as pair:
        pair.ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.ours.close()
        pair.queue.close()
        pair.theirs.settimeout(10)
        with pytest.raises(ConnectionResetError):
            pair.theirs.recv(1)


@pytest.mark.parametrize("yes", [True, False])
def test_a_killed_process_resets_the_connection_if_it_is_set_so(yes: bool) -> None:
    """After `kill -9` the kernel would deliver events that are repeated, or cut a delivered response."""
    with Pair(socket.AF_INET) as pair:
        pair.queue.set_reset_on_kill(True)
        pair.queue.set_reset_on_kill(yes)
        pair.ours.close()  # as the kernel closes both for a process that dies
        pair.queue.close()
        pair.theirs.settimeout(10)
        if yes:
            with pytest.raises(ConnectionResetError):
                pair.theirs.recv(1)
        else:
            assert pair.theirs.recv(1) == b""


def test_a_queue_gives_its_descriptor_back() -> None:
    """The daemon would run out of descriptors, one scrape at a time."""
    with Pair(socket.AF_INET) as pair:
        before = os.listdir("/proc/self/fd")
        queue = SendQueue.of(pair.ours)
        assert queue is not None
        assert len(os.listdir("/proc/self/fd")) == len(before) + 1
        queue.close()
        assert os.listdir("/proc/self/fd") == before


def test_without_descriptors_it_asks_with_twisteds_own() -> None:
    """A daemon with many connections would take every response for delivered."""
    with Pair(socket.AF_UNIX) as pair:
        with no_descriptors():
            queue = SendQueue.of(pair.ours)
        assert queue is not None
        assert queue.unacknowledged() == 0
        pair.written()
        assert queue.unacknowledged() != 0
        queue.close()
        assert pair.ours.fileno() >= 0
        pair.ours.close()
        assert queue.unacknowledged() is None
        assert (
            queue.state() is PeerState.ENDED and queue.segments_received() == 0
        )  # of a Unix socket nothing is counted


@pytest.mark.parametrize("handle", [None, "no socket", 3])
def test_where_there_is_no_socket_there_is_no_queue(handle: object) -> None:
    """An in-memory transport, or another reactor's handle, would break every scrape."""
    assert SendQueue.of(handle) is None


def test_where_this_is_no_linux_there_is_no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the request means something else there."""
    monkeypatch.setattr("sys.platform", "freebsd14")
    with Pair(socket.AF_INET) as pair:
        assert SendQueue.of(pair.ours) is None


def test_a_closed_socket_has_no_queue() -> None:
    with Pair(socket.AF_INET) as pair:
        pair.ours.close()
        assert SendQueue.of(pair.ours) is None
