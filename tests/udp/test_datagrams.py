"""Datagrams to events, and what is counted as refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
from support.udp_bench import Bench, log_lines

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.policy import AccessPolicy
from oneshotd.core.events import NewEvent
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import Rules, parse_datagram
from oneshotd.udp.datagrams import PORTION_BYTES, Datagrams


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.fixture
def logged() -> Iterator[list[str]]:
    with log_lines() as lines:
        yield lines


def test_the_readme_line_becomes_an_event(bench: Bench) -> None:
    bench.send(b"type=backup&result=failed&value=37.5\n")
    bench.reader.doRead()
    assert bench.offered.events == [
        NewEvent(series='events_to_metrics{result="failed",type="backup"}', value="37.5")
    ]
    assert bench.figure("udp_datagrams") == 1
    assert bench.figure("udp_lines") == 1


def test_good_lines_are_taken_and_bad_ones_counted(bench: Bench, logged: list[str]) -> None:
    """One bad line of a batch must not cost the others, and must not go unseen."""
    bench.send(b"type=a\nno equals sign\n\ntype=b&value=many\ntype=c\r\nalso none\n")
    bench.reader.doRead()
    assert bench.offered.types() == ["a", "c"]
    assert bench.figure("refused", reason="syntax") == 2
    assert bench.figure("refused", reason="value") == 1
    assert bench.figure("udp_lines") == 5
    assert len(logged) == 2
    assert logged[0].startswith("UDP: 2 refused (syntax), one of them from 127.0.0.1: ")
    assert "no equals sign" in logged[0]


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\n"])
def test_a_datagram_without_an_event_is_counted(bench: Bench, data: bytes) -> None:
    bench.send(data)
    bench.reader.doRead()
    assert bench.offered.events == []
    assert bench.figure("udp_datagrams") == 1
    assert bench.figure("refused", reason="empty") == 1


def test_refusals_are_logged_once_a_second_with_their_count(bench: Bench, logged: list[str]) -> None:
    """Whoever can send datagrams must not be able to fill the disk."""
    bench.send(*[b"nonsense"] * 50)
    bench.reader.doRead()
    assert len(logged) == 1
    bench.clock.advance(1)
    assert len(logged) == 2
    assert logged[1].startswith("UDP: 49 refused (syntax)")


def test_counts_held_back_are_logged_at_the_end(bench: Bench, logged: list[str]) -> None:
    bench.send(b"nonsense", b"nonsense")
    bench.reader.doRead()
    bench.datagrams.flush()
    assert logged[1].startswith("UDP: 1 refused (syntax)")
    assert bench.clock.getDelayedCalls() == []


def test_the_longest_datagram_comes_whole(bench: Bench) -> None:
    """Twisted's default cuts at 8192 bytes, without a word."""
    line = b"type=long&pad=" + b"x" * 3000 + b"\n"
    data = (line * 21 + b"type=last&pad=").ljust(65507, b"y")
    bench.send(data)
    bench.reader.doRead()
    assert len(data) == 65507
    assert bench.offered.types() == ["long"] * 21 + ["last"]


# Access


@pytest.mark.parametrize(
    ("allowed", "host", "taken"),
    [
        ((), "127.0.0.1", True),
        (("127.0.0.0/8",), "127.0.0.1", True),
        (("192.0.2.0/24", "127.0.0.1/32"), "127.0.0.1", True),
        (("192.0.2.0/24",), "127.0.0.1", False),
        (("::1/128",), "127.0.0.1", False),
        (("127.0.0.0/8",), "::ffff:127.0.0.1", True),
        (("192.0.2.0/24",), "::ffff:127.0.0.1", False),
        (("fe80::/10",), "fe80::1%eth0", True),
        (("127.0.0.0/8",), "::1", False),
    ],
)
def test_only_allowed_addresses_may_send(
    bench: Bench, allowed: tuple[str, ...], host: str, taken: bool
) -> None:
    access = AccessPolicy(emit=Networks.parse(allowed))
    datagrams = Datagrams(
        ingest=cast(Any, bench.offered),
        telemetry=bench.telemetry,
        rules=Rules(),
        access=access,
        bounds=EventBounds(access=access, limits=Rules(), seconds=bench.clock.seconds),
        clock=bench.clock,
    )
    datagrams.received(b"type=a", host)
    datagrams.hand_over()
    assert bench.offered.types() == (["a"] if taken else [])
    assert bench.figure("refused", reason="forbidden") == (0 if taken else 1)
    assert bench.figure("udp_datagrams") == 1


def test_a_buffer_full_of_events_is_handed_over_in_portions(bench: Bench) -> None:
    """At the end of the daemon all at once would be more than may wait for the disk."""
    datagram = b"type=a\n" * 1000
    for _ in range(14):
        bench.send(datagram)
    bench.reader.drain()
    assert bench.offered.portions == [10_000, 4_000]
    assert 9 * len(datagram) < PORTION_BYTES <= 10 * len(datagram)


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_a_socket_for_both_families_shows_ipv4_senders_as_ipv4(logged: list[str]) -> None:
    """`--allow-emit 127.0.0.0/8` must mean the same on `[::]`."""
    try:
        both = Bench(host="::ffff:127.0.0.1", allowed=("127.0.0.0/8",))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with both as bench:
        bench.send(b"type=a", b"nonsense")
        bench.reader.doRead()
    assert bench.offered.types() == ["a"]
    assert "from 127.0.0.1: " in logged[0]


# Nothing escapes


def test_a_failing_ingest_is_counted_logged_and_survived(bench: Bench, logged: list[str]) -> None:
    """An exception out of `doRead` would make the reactor stop reading for ever."""
    bench.offered.fails = True
    bench.send(b"type=a\ntype=b", b"type=c")
    bench.reader.doRead()
    bench.offered.fails = False
    bench.send(b"type=d")
    bench.reader.doRead()
    assert bench.offered.types() == ["d"]
    assert bench.figure("refused", reason="store") == 3
    assert logged == ["UDP: 1 times the ingest failed on a datagram"]


def test_a_line_that_breaks_the_parser_costs_only_itself(
    bench: Bench, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes, *, rules: Rules) -> Any:
        if b"magic" in data:
            raise ZeroDivisionError("a bug in the parser")
        return parse_datagram(data, rules=rules)

    monkeypatch.setattr("oneshotd.udp.datagrams.parse_datagram", broken)
    bench.send(b"type=a\ntype=magic\nnonsense\ntype=b")
    bench.reader.doRead()
    assert bench.offered.types() == ["a", "b"]
    assert bench.figure("refused", reason="syntax") == 2
    assert bench.figure("udp_lines") == 4
    assert logged[0] == "UDP: 1 times the parser failed on a datagram"
