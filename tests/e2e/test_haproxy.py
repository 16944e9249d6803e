"""Scrapes through a real HAProxy: in TCP mode the daemon learns what becomes of a response."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.haproxy import HAProxy, balanced
from support.processes import until
from support.raw_scraper import BUFFER, SMALL_BUFFER, Connection, Figures, Scraper
from support.veth import PATIENCE, Wire, needed_hosts

pytestmark = pytest.mark.e2e

PORT, PROXY_PORT, BALANCED = 8090, 8091, 9090
WITH_PROXY = f"{PROXY_PORT} send-proxy-v2"
NUMBERS = count(1)

#: Events of a kilobyte each: a response of `FEW` is in the kernel's buffers at once, and of one of `MANY`
#: a scraper with a small buffer holds up a part in HAProxy.
FEW, MANY = 3, 300

#: When HAProxy gives up a client that acknowledges nothing, and a scrape's timeout (seconds) above that.
SILENT, TIMEOUT = "3s", 10


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with needed_hosts() as joined:
        yield joined


@pytest.fixture(scope="module")
def daemon(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    # A newcomer sees nothing of what other tests have sent.
    options = [
        f"--http=tcp:{PORT}",
        f"--http=haproxy:tcp:{PROXY_PORT}",
        f"--udp={PORT}",
        "--store=sqlite:oneshotd.sqlite",
        "--newcomers=1ms",
    ]
    folder = tmp_path_factory.mktemp("daemon")
    with Daemon(folder, options=options, port=PORT, prefix=wire.ours.prefix) as running:
        yield running


@contextmanager
def haproxy(folder: Path, wire: Wire, server: int | str = PORT, *, mode: str = "tcp") -> Iterator[HAProxy]:
    """HAProxy on the daemon's host, between it and the scrapers of the other one."""
    config = balanced({"ann": server}, mode=mode, port=BALANCED, bind=f":{BALANCED} tcp-ut {SILENT}")
    # Without this, a connection whose client has sent a FIN stays open to the daemon. HAProxy ends it by a
    # reset; on a busy machine, too, the daemon has closed it before if the response was read.
    config = config.replace("    timeout client ", "    timeout server-fin 2s\n    timeout client ")
    # HAProxy refuses connections to a daemon that is down, and the first check alone decides on a server that
    # has just been started. On a busy machine it may come late, or find a commit that takes long.
    checks = "    default-server check inter 200ms fall 2 rise 1\n"
    assert checks in config
    config = config.replace(checks, "")
    with HAProxy(folder / "haproxy", config, BALANCED, prefix=wire.ours.prefix) as running:
        yield running


@pytest.fixture(params=[PORT, WITH_PROXY], ids=["tcp", "proxy"])
def proxy(tmp_path: Path, wire: Wire, daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[HAProxy]:
    """HAProxy in TCP mode, without and with the PROXY protocol."""
    with haproxy(tmp_path, wire, request.param) as running:
        yield running


@pytest.fixture
def scraper(proxy: HAProxy, wire: Wire, daemon: Daemon) -> Iterator[Scraper]:
    """A scraper behind HAProxy."""
    made = Scraper(f"scraper-{next(NUMBERS)}", wire, daemon, BALANCED)
    assert made.scrape() == 0
    try:
        yield made
    finally:
        wire.keep_from(wire.ours)
        made.close()


def sessions(proxy: HAProxy) -> tuple[int, int]:
    """Return how many connections HAProxy has made to the daemon, and how many of them are open."""
    head, *rows = (line.split(",") for line in proxy.control("show stat").splitlines() if line)
    (row,) = (row for row in rows if row[head.index("svname")] == "ann")
    return int(row[head.index("stot")]), int(row[head.index("scur")])


def asked(scraper: Scraper, events: int, *lines: str, buffer: int = BUFFER) -> Connection:
    """Store events and scrape them; return the connection as soon as bytes of the response have arrived."""
    scraper.post(events)
    connection = scraper.connect(buffer)
    connection.ask(*lines, timeout=TIMEOUT)
    assert isinstance(connection.sock, socket.socket)
    connection.sock.recv(1, socket.MSG_PEEK)
    return connection


@pytest.mark.parametrize("attempt", range(3))
def test_a_response_reset_unread_comes_again(scraper: Scraper, attempt: int) -> None:
    """Events would be lost whenever a scraper restarts in the middle of a scrape."""
    connection = asked(scraper, FEW)
    scraper.await_figures(delivered=FEW)
    connection.reset()
    scraper.await_figures(delivered=FEW, revoked=FEW)
    assert scraper.scrape() == FEW
    scraper.check(delivered=2 * FEW, revoked=FEW)


def test_a_response_whose_reader_is_killed_comes_again(scraper: Scraper) -> None:
    """A FIN, as HAProxy could send it for a reset, would say that the response was read."""
    connection = asked(scraper, FEW)
    scraper.await_figures(delivered=FEW)
    with connection.process() as process:
        process.kill()
    scraper.await_figures(delivered=FEW, revoked=FEW)
    assert scraper.scrape() == FEW
    scraper.check(delivered=2 * FEW, revoked=FEW)


def test_a_response_that_is_half_read_comes_again(scraper: Scraper) -> None:
    connection = asked(scraper, MANY, buffer=SMALL_BUFFER)
    connection.reset()
    until(lambda: scraper.figures().returned + scraper.figures().revoked == MANY, PATIENCE, "given back")
    assert scraper.scrape() == MANY
    assert set(scraper.got.values()) == {1}


def test_the_response_to_a_host_that_is_dead_comes_again(scraper: Scraper, wire: Wire) -> None:
    """HAProxy's kernel has acknowledged it; ``tcp-ut`` makes HAProxy give up while it can be revoked."""
    connection = scraper.connect()
    connection.ask(timeout=TIMEOUT)
    assert connection.read() == 0
    scraper.post(FEW)
    wire.lose_from(wire.ours)
    connection.ask(timeout=TIMEOUT)
    scraper.await_figures(delivered=FEW, revoked=FEW)
    wire.keep_from(wire.ours)
    assert scraper.scrape() == FEW
    scraper.check(delivered=2 * FEW, revoked=FEW)


def test_the_response_to_a_scraper_that_has_given_up_comes_again(
    scraper: Scraper, proxy: HAProxy, daemon: Daemon
) -> None:
    """HAProxy would pass on its FIN, wait for the response, and acknowledge it; ``server-fin`` ends that."""
    scraper.post(FEW)
    made, _ = sessions(proxy)
    os.kill(pid := daemon.process.pid, signal.SIGSTOP)
    try:
        connection = scraper.connect()
        connection.ask(timeout=TIMEOUT)
        connection.close()
        until(lambda: sessions(proxy) == (made + 1, 0), PATIENCE, lambda: str(sessions(proxy)))
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: scraper.scrape() == FEW, PATIENCE, lambda: str(scraper.figures()))
    assert set(scraper.got.values()) == {1}


def test_a_response_that_is_read_is_delivered_once(scraper: Scraper) -> None:
    connection = asked(scraper, MANY)
    assert connection.read() == MANY
    scraper.post(FEW)
    connection.ask(timeout=TIMEOUT)
    assert connection.read() == FEW
    connection.close()
    scraper.check(delivered=MANY + FEW)


def test_a_reset_after_connection_close_is_not_passed_on(scraper: Scraper) -> None:
    """A limit that docs/high-availability.md names: the daemon has closed, and HAProxy tells it no more."""
    connection = asked(scraper, FEW, "Connection: close")
    scraper.await_figures(delivered=FEW)
    connection.reset()
    assert scraper.scrape() == 0
    scraper.await_figures(delivered=FEW)


def test_in_http_mode_responses_reset_unread_are_lost(tmp_path: Path, wire: Wire, daemon: Daemon) -> None:
    """A limit that docs/high-availability.md names: HAProxy does not pass the reset on."""
    with haproxy(tmp_path, wire, mode="http"):
        made = Scraper(f"scraper-{next(NUMBERS)}", wire, daemon, BALANCED)
        try:
            assert made.scrape() == 0
            for _ in range(5):
                asked(made, FEW).reset()
                until(lambda: made.figures() != Figures(), PATIENCE, "the end of a delivery")
            made.scrape()
            assert len(made.got) < made.sent
        finally:
            made.close()


@pytest.mark.parametrize(
    ("server", "address"), [(PORT, "127.0.0.1"), (WITH_PROXY, "10.90.0.2")], ids=["tcp", "proxy"]
)
def test_whose_address_a_scraper_without_a_name_has(
    tmp_path: Path, wire: Wire, daemon: Daemon, server: int | str, address: str
) -> None:
    """All that have HAProxy's are one scraper: each event goes to one of them."""
    identity = f"{address} agent-{address}"
    with haproxy(tmp_path, wire, server), wire.theirs.connect(wire.ours.address, BALANCED) as sock:
        head = f"GET /metrics HTTP/1.1\r\nHost: x\r\nUser-Agent: agent-{address}/1\r\nConnection: close"
        sock.sendall(f"{head}\r\n\r\n".encode())
        assert b" 200 OK" in b"".join(iter(lambda: sock.recv(1 << 16), b""))
    look = ("curl", "--silent", "--noproxy", "*", f"http://127.0.0.1:{PORT}/api/v1/scrapers")
    until(lambda: f'"{identity}"' in wire.ours.run(*look), PATIENCE, identity)
