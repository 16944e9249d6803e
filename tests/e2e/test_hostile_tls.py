"""Handshakes that are slow, huge, repeated or given up: known scrapers are served meanwhile."""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.clients import memory
from support.crowd import Crowd
from support.processes import until
from support.siege import besieged
from support.tls_clients import (
    ALERT,
    HANDSHAKE,
    RECORD,
    Renegotiator,
    drop,
    encrypted_daemon,
    hello,
    large_hello,
    records,
)

pytestmark = pytest.mark.e2e

#: Seconds that a flood lasts; ``make soak`` may ask for more.
SECONDS = float(os.environ.get("ONESHOTD_FLOOD_SECONDS", "1.5"))

#: Handshakes that are given up: first, until the daemon's memory is as large as they make it, and then.
DROPPED_FIRST, DROPPED = 1500, 2000


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.timed
def test_a_thousand_slow_handshakes(tmp_path: Path) -> None:
    """A byte a second keeps a handshake going, and the thousandth would be the last client that is let in."""
    slow = hello()
    with encrypted_daemon(tmp_path, "--request-timeout=3s") as daemon:
        with (
            besieged(daemon, growth=120),
            Crowd(daemon.port, 1100, says=lambda _: slow, piece=1, pause=1.0).gathered() as crowd,
        ):
            crowd.act(60, until=lambda: len(crowd.lives) > 1500)
            assert descriptors(daemon.process.pid) < 1100
        assert max(crowd.lives) < 20
        daemon.stop()


@pytest.mark.timed
def test_a_handshake_of_a_byte_a_second_is_cut_in_time(tmp_path: Path) -> None:
    """It would have the time of a whole request again with each byte."""
    with encrypted_daemon(tmp_path, "--request-timeout=3s") as daemon:
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=1) as sock:
            began = time.monotonic()
            for byte in hello()[:20]:
                try:
                    sock.send(bytes([byte]))
                    if not sock.recv(100):
                        break
                except TimeoutError:
                    continue  # nothing was answered for a second
                except ConnectionError:
                    break
            assert 2.5 < time.monotonic() - began < 6
        daemon.stop()


@pytest.mark.timed
def test_hellos_that_are_too_large(tmp_path: Path) -> None:
    """A hello may take 16 MB by its own length, and its client sends it as long as it is let."""
    endless = records(b"\x01\xff\xff\xff" + bytes(RECORD - 4)) + records(bytes(10 * RECORD)) * 10
    wrong_record = b"\x16\x03\x01\xff\xff" + bytes(0xFFFF)
    says = [endless, wrong_record, records(b"\x01\xff\xff\xff" * 10_000), b"\x16\x03\x01" * 100_000]
    with encrypted_daemon(tmp_path) as daemon:
        with (
            besieged(daemon, growth=120),
            Crowd(daemon.port, 50, says=lambda number: says[number % len(says)]).gathered() as crowd,
        ):
            crowd.act(SECONDS)
            crowd.act(60, until=lambda: len(crowd.lives) > 50)
        # An alert of TLS, or a reset before it was read.
        assert {answer[:1] for answer in crowd.answers} <= {bytes([ALERT]), b""}
        daemon.stop()


@pytest.mark.timed
def test_large_hellos_that_do_not_end(tmp_path: Path) -> None:
    """Each may be as large as TLS allows, and is kept until it is complete."""
    large = large_hello(60_000)
    with encrypted_daemon(tmp_path, "--request-timeout=2s") as daemon:
        with (
            besieged(daemon, growth=200),
            Crowd(daemon.port, 400, says=lambda _: large[:-1], once=True).gathered() as crowd,
        ):
            crowd.act(60, until=lambda: len(crowd.lives) > 400)
        daemon.stop()


def test_a_large_hello_that_ends_is_answered(tmp_path: Path) -> None:
    """The test above would show nothing if no such hello were taken."""
    with encrypted_daemon(tmp_path) as daemon:
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as sock:
            sock.sendall(large_hello(12_000))
            assert sock.recv(1) == bytes([HANDSHAKE])
        daemon.stop()


@pytest.mark.timed
def test_handshakes_that_are_given_up(tmp_path: Path) -> None:
    """A scan of the network leaves thousands of them; each would leave its socket or its memory."""
    first = hello()
    ways = [
        (first[:50], False, False),
        (first, False, True),
        (first, True, False),
        (first, True, True),
        (b"", False, True),
    ]
    with encrypted_daemon(tmp_path) as daemon:
        pid = daemon.process.pid
        for data, answer, reset in ways * (DROPPED_FIRST // len(ways)):
            drop(daemon.port, data, answer=answer, reset=reset)
        open_before, before = descriptors(pid), memory(daemon, "VmRSS")
        with besieged(daemon, growth=60):
            for data, answer, reset in ways * (DROPPED // len(ways)):
                drop(daemon.port, data, answer=answer, reset=reset)
        until(
            lambda: descriptors(pid) <= open_before + 5,
            20,
            lambda: f"{descriptors(pid)} descriptors are open",
        )
        assert memory(daemon, "VmRSS") < before + 20
        daemon.stop()


@pytest.mark.timed
def test_renegotiation_is_refused(tmp_path: Path) -> None:
    """A handshake costs the server more than the client, and there is no limit of them on one connection."""
    with encrypted_daemon(tmp_path) as daemon:
        with besieged(daemon, growth=60):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                with closing(Renegotiator(daemon.port)) as client:
                    assert client.ask().startswith(b"HTTP/1.1 200 ")
                    assert client.renegotiate() == "no renegotiation"
        daemon.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /metrics?scraper=known HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /event?type=plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"\r\n" * 1000,
        b"\0" * 10_000,
    ],
)
def test_plain_http_at_the_port_is_answered_by_no_route(tmp_path: Path, data: bytes) -> None:
    """An event would be taken, or a scrape answered, past the locks and in the clear."""
    with encrypted_daemon(tmp_path) as daemon:
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as sock:
            sock.sendall(data)
            answer = b""
            try:
                while piece := sock.recv(1000):
                    answer += piece
            except ConnectionResetError:
                pass
        assert b" 200 " not in answer
        assert "plain" not in daemon.get("/api/v1/events")
        assert "known" not in daemon.get("/api/v1/scrapers")
        assert daemon.errors() == []
        daemon.stop()
