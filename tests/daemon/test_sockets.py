"""Sockets: both address families at one port, and every failure to bind is an error."""

import errno
import gc
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import pytest_twisted
from attrs import evolve
from support.ipv6 import needs_ipv6
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher

from oneshotd.daemon import sockets as listen
from oneshotd.daemon.option_values import UdpAddress
from oneshotd.daemon.sockets import (
    http_ports,
    listen_backup,
    listen_http,
    speaks_tls,
    udp_socket,
    udp_sockets,
)
from oneshotd.errors import ConfigError, OneshotError

#: Timeout of a test client.
SECONDS = 10
ANY = UdpAddress(host=None, port=0)


def number(port: IListeningPort) -> int:
    return cast(IPv4Address, port.getHost()).port


@contextmanager
def without_ipv6() -> Iterator[None]:
    """Simulate a kernel that was started with ipv6.disable=1."""
    make = socket.socket

    def refuse(family: int = -1, *rest: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make(family, *rest, **more)

    with patch.object(socket, "socket", refuse):
        yield


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]


def send(datagram: bytes, to: tuple[str, int], sock: socket.socket) -> str:
    """Send a datagram to the socket, and return the sender's address."""
    with socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(datagram, to)
    sock.settimeout(SECONDS)
    received, (host, *_) = sock.recvfrom(65536)
    assert received == datagram
    return str(host)


class Peers(Factory):
    """Reports the address of the first client."""

    noisy = False

    def __init__(self) -> None:
        self.connected: Deferred[str] = Deferred()

    def buildProtocol(self, address: Any) -> Protocol:
        self.connected.callback(address.host)
        return Protocol()


@pytest.fixture
def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


CLIENTS = [pytest.param("127.0.0.1", id="IPv4"), pytest.param("::1", id="IPv6", marks=needs_ipv6)]


@pytest.mark.parametrize("client", CLIENTS)
@pytest_twisted.ensureDeferred
async def test_a_bare_http_port_takes_both_families(reactor: Any, client: str) -> None:
    """`curl localhost:8090` would fail on one half of the machines."""
    peers = Peers()
    port = listen_http(reactor, "0", peers)
    with socket.create_connection((client, number(port))):
        host = await peers.connected.addTimeout(SECONDS, reactor)
    await maybeDeferred(port.stopListening)
    assert host.removeprefix("::ffff:") == client


@pytest.mark.parametrize("client", CLIENTS)
def test_a_bare_udp_port_takes_both_families(client: str) -> None:
    """Datagrams of one address family would be lost without a sign."""
    with udp_socket(ANY) as sock:
        assert send(b"type=test", (client, sock.getsockname()[1]), sock).removeprefix("::ffff:") == client


@pytest_twisted.ensureDeferred
async def test_without_ipv6_ipv4_is_served_and_the_log_says_so(reactor: Any) -> None:
    """The daemon would not start on such a machine, or not log why IPv6 is missing."""
    peers = Peers()
    with without_ipv6(), logged() as events:
        port = listen_http(reactor, "0", peers)
        sock = udp_socket(ANY)
    with sock:
        assert send(b"type=test", ("127.0.0.1", sock.getsockname()[1]), sock) == "127.0.0.1"
    with socket.create_connection(("127.0.0.1", number(port))):
        host = await peers.connected.addTimeout(SECONDS, reactor)
    await maybeDeferred(port.stopListening)
    assert host == "127.0.0.1"
    protocols = [event["protocol"] for event in events if "no IPv6" in (event.get("log_format") or "")]
    assert protocols == ["HTTP", "UDP"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest_twisted.ensureDeferred
async def test_localhost_is_both_loopback_addresses_and_no_other(reactor: Any, client: str) -> None:
    """A port for this machine would be open to the network, or closed to local programs that try the
    other address family first."""
    peers = Peers()
    ports = http_ports(reactor, "localhost:0", peers)
    with socket.create_connection((client, number(ports[0]))):
        host = await peers.connected.addTimeout(SECONDS, reactor)
    assert {cast(IPv4Address, port.getHost()).host for port in ports} <= {"127.0.0.1", "::1"}
    for port in ports:
        await maybeDeferred(port.stopListening)
    assert host == client
    sockets = udp_sockets(UdpAddress(host="localhost", port=0))
    (port_number,) = {sock.getsockname()[1] for sock in sockets}
    (sock,) = [sock for sock in sockets if sock.getsockname()[0] == client]
    assert send(b"type=test", (client, port_number), sock) == client
    assert {sock.getsockname()[0] for sock in sockets} <= {"127.0.0.1", "::1"}
    for sock in sockets:
        sock.close()


def test_localhost_without_ipv6_is_ipv4(reactor: Any) -> None:
    """The installed configuration would not start on such a machine."""
    with without_ipv6(), logged() as events:
        (sock,) = udp_sockets(UdpAddress(host="localhost", port=0))
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"
    assert [event["protocol"] for event in events if "no IPv6" in (event.get("log_format") or "")] == ["UDP"]


@pytest.mark.parametrize("taken", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_localhost_with_one_of_two_taken_is_refused(reactor: Any, taken: str) -> None:
    """Another program would receive half of the daemon's clients."""
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with socket.create_server((taken, 0), family=family) as other:
        port = other.getsockname()[1]
        with pytest.raises(OneshotError) as raised:
            http_ports(reactor, f"localhost:{port}", Peers())
    assert str(raised.value) == f"HTTP: tcp port {port} of {taken} is in use"


def test_one_udp_address_is_bound_alone() -> None:
    """A UDP port for this machine would be open to the network."""
    with udp_socket(UdpAddress(host="127.0.0.1", port=0)) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


@needs_ipv6
def test_both_wildcards_can_be_given_with_one_port() -> None:
    """`--udp 0.0.0.0:P --udp [::]:P` would be refused as a port in use."""
    with udp_socket(UdpAddress(host="0.0.0.0", port=0)) as first:
        port = first.getsockname()[1]
        with udp_socket(UdpAddress(host="::", port=port)) as second:
            assert second.getsockname()[:2] == ("::", port)


def test_a_udp_socket_never_blocks() -> None:
    """The daemon would hang until the next datagram arrives."""
    with udp_socket(ANY) as sock, pytest.raises(BlockingIOError):
        sock.recv(1)


def test_the_receive_buffer_is_as_large_as_the_kernel_allows() -> None:
    """A burst of datagrams would be dropped that the kernel could have kept."""
    most = int(Path("/proc/sys/net/core/rmem_max").read_text())
    with logged() as events, udp_socket(ANY) as sock:
        got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    assert got == min(most, listen.RECEIVE_BUFFER_BYTES)
    logged_sizes = [event["got"] for event in events if "asked" in event]
    assert logged_sizes == ([got] if got < listen.RECEIVE_BUFFER_BYTES else [])


@pytest_twisted.ensureDeferred
async def test_an_endpoint_string_is_listened_at(reactor: Any, tmp_path: Path) -> None:
    """`--http unix:…` and `--http tcp:…:interface=…` would not work."""
    peers = Peers()
    port = listen_http(reactor, "tcp:0:interface=127.0.0.1", peers)
    assert cast(IPv4Address, port.getHost()).host == "127.0.0.1"
    await maybeDeferred(port.stopListening)
    port = listen_http(reactor, f"unix:{tmp_path / 'http'}", peers)
    assert (tmp_path / "http").is_socket()
    await maybeDeferred(port.stopListening)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("{port}", "HTTP: tcp port {port} is in use"),
        ("tcp:{port}", "HTTP: tcp port {port} is in use"),
        ("tcp:{port}:interface=127.0.0.1", "HTTP: tcp port {port} of 127.0.0.1 is in use"),
    ],
)
def test_a_busy_http_port_is_an_error_at_once(reactor: Any, where: str, text: str) -> None:
    """The daemon would run without a socket."""
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OneshotError) as raised:
            listen_http(reactor, where.format(port=port), Peers())
    assert str(raised.value) == text.format(port=port)


@pytest.mark.parametrize(
    ("host", "text"),
    [(None, "UDP: udp port {} is in use"), ("127.0.0.1", "UDP: udp port {} of 127.0.0.1 is in use")],
)
def test_a_busy_udp_port_is_an_error_at_once(host: str | None, text: str) -> None:
    """Two daemons would share the datagrams, or one would receive none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 0))
        port = other.getsockname()[1]
        with pytest.raises(OneshotError) as raised:
            udp_socket(evolve(ANY, host=host, port=port))
        assert str(raised.value) == text.format(port)
        with without_ipv6(), pytest.raises(OneshotError, match=f"udp port {port} .*is in use"):
            udp_socket(evolve(ANY, host=host, port=port))


def test_an_address_of_another_machine_is_an_error_at_once() -> None:
    """The daemon would seem to listen at an address of another machine."""
    with pytest.raises(OneshotError, match=r"UDP: udp port 0 of 192\.0\.2\.7 cannot be opened: "):
        udp_socket(evolve(ANY, host="192.0.2.7"))


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("127.0.0.1:8090", r"HTTP: 127\.0\.0\.1:8090: Unknown endpoint type: '127\.0\.0\.1'"),
        ("tcp:x", "HTTP: tcp:x: "),
        ("tcp:", "HTTP: tcp:: "),
        ("unix:/nowhere/at/all", "HTTP: unix:/nowhere/at/all: "),
        ("systemd:domain=INET:index=7", "HTTP: systemd:domain=INET:index=7: systemd has passed no such"),
        ("systemd:domain=INET:name=x", "HTTP: systemd:domain=INET:name=x: systemd has passed no such"),
        ("ssl:0:privateKey=/nowhere.pem", "HTTP: ssl:0:privateKey=/nowhere.pem: .*nowhere.pem"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_an_error_of_one_line(reactor: Any, where: str, text: str) -> None:
    """A typing error in `--http` would end in a traceback."""
    with pytest.raises(OneshotError, match=f"^{text}") as raised:
        listen_http(reactor, where, Peers())
    assert "\n" not in str(raised.value)


def test_a_refused_port_leaves_no_descriptor_behind(reactor: Any) -> None:
    """A service that tries again and again would run out of descriptors."""
    with socket.create_server(("0.0.0.0", 0)) as other:
        where = str(other.getsockname()[1])
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            with pytest.raises(OneshotError):
                listen_http(reactor, where, Peers())
        assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest_twisted.ensureDeferred
async def test_the_backup_socket_is_private_and_replaces_a_stale_one(tmp_path: Path) -> None:
    """Any local user could make backups; or the daemon would not start after a kill."""
    from twisted.internet import reactor

    path = tmp_path / "backup"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    os.symlink("999999999", f"{path}.lock")  # a process that does not exist
    port = listen_backup(reactor, str(path), Factory())
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OneshotError, match="backup"):
            listen_backup(reactor, str(path), Factory())
    finally:
        await maybeDeferred(port.stopListening)
    assert list(tmp_path.iterdir()) == []


# Twisted leaves a socket open that it could not bind; the daemon ends then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_backup_socket_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """The daemon would not start, and the error would not name the path."""
    from twisted.internet import reactor

    for path in (tmp_path / "none" / "backup", tmp_path / ("x" * 200)):
        with pytest.raises(OneshotError, match=path.name):
            listen_backup(reactor, str(path), Factory())
        gc.collect()


# ---- with TLS --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("8090", True),
        ("localhost:8090", True),
        ("tcp:8090:interface=127.0.0.1", True),
        ("tcp6:8090", True),
        ("systemd:domain=INET:name=oneshotd.socket", True),
        ("systemd:INET6:0", True),
        ("systemd:domain=UNIX:name=oneshotd.socket", False),
        ("systemd:name=oneshotd.socket:domain=UNIX", False),
        ("systemd:UNIX:0", False),
        ("unix:/run/oneshotd/http", False),
    ],
)
def test_ports_speak_tls_and_unix_sockets_do_not(where: str, expected: bool) -> None:
    """A port would be without the lock that its owner has configured."""
    assert speaks_tls(where) is expected


@pytest.mark.parametrize("where", ["haproxy:tcp:8090", "ssl:8443:privateKey=key.pem", "autobahn:tcp:8090"])
def test_an_address_that_cannot_speak_this_tls_is_refused_by_name(where: str) -> None:
    """It would serve without TLS, or with the certificate of another option."""
    with pytest.raises(ConfigError, match=f"http: with tls_server_config .*, got {where}"):
        speaks_tls(where)
