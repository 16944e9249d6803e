"""Datagrams at a UNIX socket: their senders, sizes, and what a full queue does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from support.udp_bench import Bench, log_lines

from oneshotd.access.rules import Role, Rule
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import MAX_DATAGRAM_BYTES
from oneshotd.udp.reader import UDPReader


class UnixBench(Bench):
    """A reader at a UNIX socket, and a sender without a path of its own."""

    def __init__(self, folder: Path, *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(allowed=allowed)
        self.path = str(folder / "o.sock")
        self.unix = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.unix.bind(self.path)
        self.reader.stop()
        self.reader = UDPReader(self.unix, self.datagrams, telemetry=self.telemetry, clock=self.clock)
        self.sender.close()
        self.sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sender.connect(self.path)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UnixBench]:
    monkeypatch.chdir(tmp_path)
    with UnixBench(Path()) as made:
        yield cast(UnixBench, made)


def test_lines_and_messages_are_stored(bench: UnixBench) -> None:
    bench.send(b"type=a\ntype=b", b"_e{1,1}:t|x", b"", b"nonsense")
    bench.reader.doRead()
    assert bench.offered.types() == ["a", "b", "event"]
    assert bench.figure("udp_datagrams") == 4
    assert bench.figure("refused", reason="empty") == 1
    assert bench.figure("refused", reason="syntax") == 1


def test_the_clients_are_called_unix(bench: UnixBench) -> None:
    """The log would name no sender."""
    with log_lines() as lines:
        bench.send(b"nonsense")
        bench.reader.doRead()
    assert lines[0].startswith("UDP: 1 refused (syntax), one of them from unix: ")


@pytest.mark.parametrize(
    ("allowed", "taken"),
    [((), True), (("unix",), True), (("127.0.0.0/8",), False), (("10.0.0.0/8", "unix"), True)],
)
def test_the_option_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: tuple[str, ...], taken: bool
) -> None:
    """A socket would be open though the option names networks only."""
    monkeypatch.chdir(tmp_path)
    with UnixBench(Path(), allowed=allowed) as bench:
        bench.send(b"type=a")
        bench.reader.doRead()
        assert bench.offered.types() == (["a"] if taken else [])
        assert bench.figure("refused", reason="forbidden") == (0 if taken else 1)


def test_access_rules_hold(bench: UnixBench) -> None:
    """Local programs would have no rule, or that of a network."""
    rules = [
        Rule(number=1, role=Role.EMIT, network=Networks.parse(["127.0.0.0/8"]), labels={"from": "net"}),
        Rule(number=2, role=Role.EMIT, network=Networks.parse(["unix"]), labels={"from": "here"}),
    ]
    bench.access.update(rules=rules, has_users=False)
    bench.send(b"type=a", b"_sc|b|0")
    bench.reader.doRead()
    assert [event.series.count('from="here"') for event in bench.offered.events] == [1, 1]
    bench.access.update(rules=rules[:1], has_users=False)
    bench.send(b"type=a")
    bench.reader.doRead()
    assert bench.figure("refused", reason="forbidden") == 1


def test_a_sender_with_a_path_of_its_own_is_one_of_them(bench: UnixBench, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.bind("client.sock")
        sender.sendto(b"type=a", bench.path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.bind(f"\0abstract-{id(sender)}")
        sender.sendto(b"type=b", bench.path)
    bench.reader.doRead()
    assert bench.offered.types() == ["a", "b"]


@pytest.mark.parametrize("size", [MAX_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES + 1, 100_000])
def test_a_datagram_beyond_the_limit_is_refused_not_cut(bench: UnixBench, size: int) -> None:
    """UDP cannot send one: here its last line would be cut, and be another event."""
    data = (b"type=a\n" + b"\n" * size)[:size]
    bench.send(data)
    bench.reader.doRead()
    assert bench.offered.types() == (["a"] if size == MAX_DATAGRAM_BYTES else [])
    assert bench.figure("refused", reason="limit") == (0 if size == MAX_DATAGRAM_BYTES else 1)


def fill(bench: UnixBench, data: bytes) -> int:
    """Send until the kernel takes no more; return how many datagrams it has."""
    bench.sender.setblocking(False)
    for sent in range(1_000_000):
        try:
            bench.send(data)
        except BlockingIOError:
            return sent
    raise AssertionError("the queue has no end")


def test_a_full_queue_holds_the_sender_and_loses_nothing(bench: UnixBench) -> None:
    """The documentation says that the kernel drops none of these."""
    sent = fill(bench, b"type=a")
    while len(bench.offered.events) < sent:
        before = len(bench.offered.events)
        bench.reader.doRead()
        assert len(bench.offered.events) > before
    assert bench.figure("udp_kernel_drops") == 0
    bench.send(b"type=b")
    assert bench.reader.drain() == 1


@pytest.mark.parametrize("data", [b"", b"type=a", b"type=a&pad=" + b"x" * 60_000])
def test_drain_reads_a_full_queue_empty(bench: UnixBench, data: bytes) -> None:
    """What has been sent before the stop is stored, whatever the datagrams' size."""
    sent = fill(bench, data)
    assert bench.reader.drain() == sent
    assert bench.reader.drain() == 0
