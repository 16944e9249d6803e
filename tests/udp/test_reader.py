"""The UDP socket: turns, floods, shutdown and what the kernel drops."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from support.udp_bench import Bench, Failing, Readers, log_lines
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from oneshotd.udp import reader as udp
from oneshotd.udp.datagrams import Datagrams
from oneshotd.udp.reader import DATAGRAM_COST, TURN_BYTES, UDPReader


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.fixture
def logged() -> Iterator[list[str]]:
    with log_lines() as lines:
        yield lines


@pytest.fixture
def failing() -> Iterator[Failing]:
    with Failing(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def test_an_error_of_the_socket_does_not_hide_what_is_behind_it(
    bench: Bench, failing: Failing, logged: list[str]
) -> None:
    reader = UDPReader(failing, bench.datagrams, telemetry=bench.telemetry, clock=bench.clock)
    failing.errors = 2
    bench.sender.connect(failing.getsockname())
    bench.send(b"type=a")
    reader.doRead()
    reader.stop()
    assert bench.offered.types() == ["a"]
    assert logged == ["UDP: 1 errors of the socket: Connection refused"] * 2


def test_an_error_that_does_not_go_away_does_not_hold_the_reactor(bench: Bench, failing: Failing) -> None:
    reader = UDPReader(failing, bench.datagrams, telemetry=bench.telemetry, clock=bench.clock)
    failing.errors = 10**9
    reader.doRead()
    assert failing.errors == 10**9 - TURN_BYTES // DATAGRAM_COST
    reader.stop()


def fill(bench: Bench, data: bytes, n: int) -> int:
    """Send `n`; skips where the system's limit of the receive buffer does not take them."""
    bench.send(*[data] * n)
    if bench.reader.kernel_drops():
        pytest.skip("net.core.rmem_max is too small here")
    return n


# Floods


def test_a_flood_of_empty_datagrams_does_not_hold_the_reactor() -> None:
    """Without a bound, HTTP and scrapes starve while somebody sends nothing, quickly."""
    with Bench(buffer=4 * 1024 * 1024) as bench:
        most = TURN_BYTES // DATAGRAM_COST
        sent = fill(bench, b"", most + 5)
        bench.reader.doRead()
        assert bench.figure("udp_datagrams") == most
        bench.reader.doRead()
        assert bench.figure("udp_datagrams") == sent


def test_a_turn_ends_after_so_many_bytes() -> None:
    """Long datagrams hold thousands of lines: two of them are enough to delay a scrape."""
    with Bench(buffer=4 * 1024 * 1024) as bench:
        fill(bench, b"type=a\n" * 9350, 2)
        bench.reader.doRead()
        assert bench.figure("udp_lines") == 9350
        bench.reader.doRead()
        assert bench.figure("udp_lines") == 18700


# Shutdown


@pytest.mark.parametrize("data", [b"", b"type=a", b"type=a&pad=" + b"x" * 1000])
def test_drain_reads_a_full_socket_empty(data: bytes) -> None:
    """What is in the socket at SIGTERM is stored, whatever the datagrams' size."""
    with Bench(buffer=128 * 1024) as bench:
        bench.send(*[data] * 3000)
        drops = bench.reader.kernel_drops()
        if drops is None:
            pytest.skip("the kernel does not say what it dropped")
        assert drops > 0, "the socket should have been full"
        assert bench.reader.drain() == 3000 - drops
        assert bench.reader.drain() == 0


def test_drain_ends_though_the_flood_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a sender decides when the daemon may stop."""
    looked_into = Datagrams.received

    def received(datagrams: Datagrams, data: bytes, host: str, port: int) -> None:
        looked_into(datagrams, data, host, port)
        bench.send(b"type=again", b"type=again")

    monkeypatch.setattr(Datagrams, "received", received)
    bench.send(b"type=first")
    size = bench.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert 1 < bench.reader.drain() <= (size + TURN_BYTES) // DATAGRAM_COST


def test_start_and_stop(bench: Bench) -> None:
    reactor = Readers()
    verifyObject(IReadDescriptor, bench.reader)
    bench.reader.start(reactor)
    assert reactor.readers == [bench.reader]
    assert bench.reader.is_open
    assert bench.reader.fileno() == bench.sock.fileno()
    assert bench.reader.logPrefix() == "UDP"
    bench.reader.stop()
    bench.reader.stop()
    assert reactor.readers == []
    assert not bench.reader.is_open
    assert bench.reader.fileno() == -1
    bench.reader.doRead()
    assert bench.reader.drain() == 0


def test_a_socket_that_the_reactor_gave_up_is_logged_and_not_open(bench: Bench, logged: list[str]) -> None:
    """`/readyz` has to know: nobody else would notice that datagrams go nowhere."""
    reactor = Readers()
    bench.reader.start(reactor)
    bench.reader.connectionLost(Failure(ConnectionLost("of all things")))
    assert not bench.reader.is_open
    assert "the socket was lost" in logged[0]


# What the kernel dropped


def test_what_the_kernel_dropped_is_counted_exactly(logged: list[str]) -> None:
    """Sent is read plus dropped, so that no event is missing without a figure."""
    with Bench(buffer=1) as bench:
        if bench.reader.kernel_drops() is None:
            pytest.skip("the kernel does not say what it dropped")
        bench.send(*[b"type=a"] * 500)
        bench.reader.doRead()
        bench.send(*[b"type=a"] * 500)
        bench.reader.drain()
        dropped = bench.figure("udp_kernel_drops") or 0
        assert dropped > 0
        assert len(bench.offered.events) + dropped == 1000
    said = [int(line.split()[4]) for line in logged if line.startswith("UDP: the kernel dropped ")]
    assert len(said) == 2
    assert sum(said) == dropped
    assert bench.figure("udp_kernel_drops") == dropped  # a counter must not fall with its socket


def test_the_kernels_counter_may_wrap(bench: Bench, failing: Failing) -> None:
    """It has 32 bits; after 4 billion drops ours goes on."""
    failing.drops = 2**32 - 3
    reader = UDPReader(failing, bench.datagrams, telemetry=bench.telemetry, clock=bench.clock)
    assert reader.kernel_drops() == 2**32 - 3
    failing.drops = 4
    assert reader.kernel_drops() == 2**32 + 4
    assert reader.kernel_drops() == 2**32 + 4
    reader.stop()


def test_where_the_kernel_does_not_say_there_is_no_figure(
    bench: Bench, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 would say that nothing was dropped."""
    reader = UDPReader(failing, bench.datagrams, telemetry=bench.telemetry, clock=bench.clock)
    assert reader.kernel_drops() is None
    assert bench.figure("udp_kernel_drops") is None
    reader.stop()
    failing.drops = 3
    monkeypatch.setattr("sys.platform", "darwin")
    assert udp._drop_counter(failing) is None
