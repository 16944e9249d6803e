"""The daemon with locks: what ends its start, and which of its addresses speak TLS."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.certificates import Authority
from support.fake_store import logged
from support.in_process import in_thread
from support.locked_daemon import WEB_CONFIG, hashed
from support.processes import free_port
from support.service_in_memory import DaemonInMemory, lines
from twisted.internet import reactor as _reactor

from oneshotd.daemon.addresses import http_addresses
from oneshotd.daemon.config_sources import configure
from oneshotd.daemon.service import OneshotService
from oneshotd.errors import ConfigError

reactor: Any = _reactor


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A web configuration with TLS and a user."""
    authority = Authority(tmp_path)
    authority.issue("server")
    made = tmp_path / "web.yml"
    made.write_text(f"{WEB_CONFIG}  ann: {hashed('secret')}\n")
    return made


def test_a_bad_file_ends_the_start_before_a_port_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon would be open for a moment, or touch the store of another one."""
    (tmp_path / "web.yml").write_text("tls_server_confg: {}\n")
    daemon = DaemonInMemory(tmp_path, monkeypatch, web_config=str(tmp_path / "web.yml"))
    with pytest.raises(ConfigError, match=r"web\.yml:1: .*tls_server_confg"):
        daemon.service.privilegedStartService()
    assert daemon.service._ports.all == [] and daemon.service._ports.udp == []
    assert [path.name for path in tmp_path.iterdir()] == ["web.yml"]


@pytest.mark.parametrize("where", ["haproxy:tcp:0", "ssl:0:privateKey=server.key:certKey=server.pem"])
def test_an_address_that_cannot_have_this_tls_ends_the_start(web: Path, where: str) -> None:
    """The port would be without the certificate and the users of the web configuration."""
    config = configure({"http": [where], "udp": [], "web-config": str(web)}, {})
    with pytest.raises(ConfigError, match=f"http: with tls_server_config .*, got {where}"):
        OneshotService(reactor, config).privilegedStartService()


def answer(line: http.client.HTTPConnection) -> tuple[int, str]:
    """Return status and text of ``GET /readyz``."""
    try:
        line.request("GET", "/readyz")
        with line.getresponse() as found:
            return found.status, found.read().decode()
    finally:
        line.close()


@pytest_twisted.ensureDeferred
async def test_tcp_speaks_tls_and_a_unix_socket_does_not(tmp_path: Path, web: Path) -> None:
    """A port would be without TLS; or a proxy at the socket could not connect."""
    ports, path = [free_port() for _ in range(3)], str(tmp_path / "socket")
    where = [f"localhost:{ports[0]}", f"tcp:{ports[1]}:interface=127.0.0.1", str(ports[2]), f"unix:{path}"]
    store = f"sqlite:{tmp_path / 'oneshotd.sqlite'}"
    service = OneshotService(
        reactor, configure({"http": where, "udp": [], "store": store, "web-config": str(web)}, {})
    )
    service.privilegedStartService()
    service.startService()
    try:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        for port in ports:
            line = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
            assert await in_thread(answer, line) in ((200, "ok\n"), (503, "starting\n"))
        local = http.client.HTTPConnection("localhost", timeout=10)
        local.sock = socket.socket(socket.AF_UNIX)
        local.sock.settimeout(10)
        local.sock.connect(path)
        assert await in_thread(answer, local) == (200, "ok\n")
        addresses = http_addresses(service._ports.all, service._ports.tls)
        assert addresses.startswith(f"HTTPS on 127.0.0.1:{ports[0]}") and ", HTTP on " in addresses
    finally:
        await service.stopService()


@asynccontextmanager
async def serving(folder: Path, web: Path) -> AsyncIterator[int]:
    """A daemon with these files, on a port of the loopback addresses, which is returned."""
    port = free_port()
    store = f"sqlite:{folder / 'oneshotd.sqlite'}"
    options = {"http": f"localhost:{port}", "udp": [], "store": store, "web-config": str(web)}
    service = OneshotService(reactor, configure(options, {}))
    service.privilegedStartService()
    service.startService()
    try:
        yield port
    finally:
        await service.stopService()


@pytest_twisted.ensureDeferred
async def test_plain_http_at_a_tls_port_is_told_so(tmp_path: Path, web: Path) -> None:
    """A user with http:// in the address would see a closed connection, and no reason."""
    with logged() as events:
        async with serving(tmp_path, web) as port:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            status, text = await in_thread(answer, line)
    assert status == 400 and "https:" in text
    (told,) = lines(events, "warn")
    assert "expected TLS, got plain HTTP" in told and "GET /readyz" in told


def shake_hands(port: int) -> None:
    """Try a handshake as a client that does not trust the daemon's authority."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_fails_is_logged_with_its_reason(tmp_path: Path, web: Path) -> None:
    """An operator would not know why a scraper does not connect."""
    with logged() as events:
        async with serving(tmp_path, web) as port:
            await in_thread(shake_hands, port)
    (told,) = lines(events, "warn")
    assert "TLS handshake: the client refuses: " in told and "unknown ca" in told
    assert told.endswith("from 127.0.0.1: no request yet")
