"""TLS connections: who closes first, handshakes that do not end, and clients that do not speak TLS."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bare_scraper import Scraper
from support.memory_site import MANY, MemoryServer, open_server, reactor, until
from support.tls_socket import TLSSocket
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from oneshotd.web.transport import tls as tls_module
from oneshotd.web.transport.ack_tracker import PIECE
from oneshotd.web.transport.tls import CLOSE_GRACE, MAX_BEHIND_CLOSE

#: Twisted hands pyOpenSSL its own kind of certificates still.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

NOTHING: Counter[int] = Counter()
SIZES = pytest.mark.parametrize("count", [1, MANY], ids=["small", "large"])

#: Requests after whose answer the daemon closes.
CLOSING = "Connection: close"


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    """The version that the client asks for."""
    found: ssl.TLSVersion = request.param
    return found


async def connect(server: MemoryServer, version: ssl.TLSVersion) -> tuple[Scraper, TLSSocket]:
    """Open a connection and encrypt it."""
    scraper = server.scraper()
    return scraper, await scraper.encrypt(version)


async def scrape(server: MemoryServer, version: ssl.TLSVersion) -> Counter[int]:
    """Scrape once on a new connection; return the events."""
    scraper, _ = await connect(server, version)
    with scraper:
        scraper.ask()
        return (await scraper.answer()).events


async def closed(server: MemoryServer) -> None:
    """Wait until the daemon has closed all connections."""
    await until(lambda: not server.site._channels, lambda: "a connection is still open")


async def is_cut_off(sock: socket.socket | TLSSocket, data: bytes, times: int) -> bool:
    """Send the same bytes again and again; return whether the daemon has reset the connection."""
    send = sock.send_raw if isinstance(sock, TLSSocket) else sock.sendall
    try:
        for _ in range(times):
            await deferToThread(send, data)
            await deferLater(reactor, 0)
    except OSError:
        return True
    return False


# Closing by the daemon


@SIZES
@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_daemon_closes_brings_all_of_it(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int
) -> None:
    """A client without keep-alive would get half a response, everything twice, or wait for the end."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        scraper, layer = await connect(server, version)
        scraper.ask("one", CLOSING)
        assert (await scraper.answer()).events == events
        before = reactor.seconds()
        assert await scraper.rest() == b""
        assert reactor.seconds() - before < 2
        layer.close_notify()
        scraper.close()
        await server.fate("delivered", "final")
        assert await scrape(server, version) == NOTHING


@SIZES
@pytest.mark.parametrize("notice", [False, True], ids=["close", "notice and close"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_closes_as_soon_as_it_has_read_is_not_served_twice(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int, notice: bool
) -> None:
    """close_notify of the daemon would be unread in the client's kernel, which would reset."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        scraper, layer = await connect(server, version)
        scraper.ask("one", CLOSING)
        assert (await scraper.answer()).events == events
        if notice:
            layer.close_notify()
        scraper.close()
        await server.fate("delivered", "final")
        assert await scrape(server, version) == NOTHING


@pytest.mark.parametrize("notice", [False, True], ids=["close", "notice and close"])
@pytest_twisted.ensureDeferred
async def test_a_response_dropped_before_the_daemon_closes_is_repeated(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, notice: bool
) -> None:
    """A scraper that crashes before it reads would lose its events."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(1)
        scraper, layer = await connect(server, version)
        scraper.ask("one", CLOSING)
        await server.fate("delivered")
        if notice:
            layer.close_notify()
        scraper.close()
        await server.fate("delivered", "revoked")
        assert await scrape(server, version) == events


@pytest_twisted.ensureDeferred
async def test_a_response_dropped_after_the_daemon_has_closed_is_repeated_as_uncertain(
    tmp_path: Path, tls: str, version: ssl.TLSVersion
) -> None:
    """All that is unread may be close_notify: nobody would be told that events may have come twice."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(1)
        scraper, _ = await connect(server, version)
        scraper.ask("one", CLOSING)
        await server.fate("delivered")
        (channel,) = server.site._channels
        await until(lambda: channel.has_sent_notice, lambda: "the daemon has not closed")
        scraper.close()
        await server.fate("delivered", "revoked?")
        assert await scrape(server, version) == events


@pytest.mark.parametrize("read", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_daemon_that_stops_waits_for_the_last_word_of_the_scraper(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, read: bool
) -> None:
    """The last scrape before a restart would come twice, or be lost."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(1)
        scraper, layer = await connect(server, version)
        scraper.ask()
        if read:
            assert (await scraper.answer()).events == events
        await server.fate("delivered")
        finished = server.site.finish()
        layer.close_notify()
        scraper.close()
        await server.fate("delivered", "final" if read else "revoked")
        await finished
        server.site.finishing = False
        assert await scrape(server, version) == (NOTHING if read else events)


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_answer_close_notify_does_not_hold_up_a_stop(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stop of the daemon would take ten seconds, because of a client that has gone to sleep."""
    monkeypatch.setattr(tls_module, "NOTICE_GRACE", 0.2)
    async with open_server(tmp_path, tls) as server:
        scraper, _ = await connect(server, version)
        with scraper:
            scraper.ask()
            await scraper.answer()
            before = reactor.seconds()
            await server.site.finish()
            assert reactor.seconds() - before < 5


# A client's own end


@pytest_twisted.ensureDeferred
async def test_close_notify_before_a_response_closes_the_connection(
    tmp_path: Path, tls: str, version: ssl.TLSVersion
) -> None:
    """A client without a request would hold its connection."""
    async with open_server(tmp_path, tls) as server:
        scraper, layer = await connect(server, version)
        before = reactor.seconds()
        layer.close_notify()
        assert await scraper.rest() == b""
        assert reactor.seconds() - before < CLOSE_GRACE
        scraper.close()
        await closed(server)


@pytest_twisted.ensureDeferred
async def test_bytes_behind_close_notify_are_neither_kept_nor_a_request(
    tmp_path: Path, tls: str, version: ssl.TLSVersion
) -> None:
    """A hostile client would fill the memory of the daemon, or take the events of another response."""
    async with open_server(tmp_path, tls) as server:
        await server.happen(1)
        scraper, layer = await connect(server, version)
        scraper.ask()
        await server.fate("delivered")
        layer.close_notify()
        (channel,) = server.site._channels
        daemons = channel.tls
        assert daemons is not None
        await until(lambda: daemons.peer_has_closed, lambda: "close_notify is not read")
        received = channel.received
        assert await is_cut_off(layer, bytes(MAX_BEHIND_CLOSE // 8), 64)
        assert channel.received == received
        scraper.close()
        await closed(server)


# Hostile handshakes


@pytest.mark.parametrize(
    "hello", [b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\0" * 300]
)
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_does_not_end_is_reset(tmp_path: Path, tls: str, hello: bytes) -> None:
    """Clients that connect and say nothing would take every connection."""
    async with open_server(tmp_path, tls, request_timeout=0.3) as server:
        with server.scraper() as scraper:
            scraper.send(hello)
            with suppress(ConnectionResetError):
                await scraper.rest()
            await closed(server)


@pytest_twisted.ensureDeferred
async def test_a_client_without_tls_learns_what_is_missing(tmp_path: Path, tls: str) -> None:
    """Who writes http:// for https:// would see a closed connection, and no reason."""
    async with open_server(tmp_path, tls) as server:
        with server.scraper() as scraper:
            scraper.ask()
            answer = await scraper.answer()
            assert (answer.status, answer.body[:22]) == (400, b"expected TLS, got HTTP")
            assert await scraper.rest() == b""
        await closed(server)


@pytest_twisted.ensureDeferred
async def test_a_handshake_byte_by_byte_has_no_longer_than_a_request(tmp_path: Path, tls: str) -> None:
    """A slow handshake would hold its connection for ever: each byte would extend the time."""
    async with open_server(tmp_path, tls, request_timeout=0.5) as server:
        with server.scraper() as scraper:
            layer = TLSSocket(scraper.sock, ssl.TLSVersion.TLSv1_3)
            hello = layer.hello()
            began = reactor.seconds()
            for byte in hello:
                try:
                    layer.send_raw(bytes([byte]))
                except OSError:
                    break
                await deferLater(reactor, 0.02)
            else:
                pytest.fail("the whole hello was taken")
            assert reactor.seconds() - began < 5
            await closed(server)


@pytest_twisted.ensureDeferred
async def test_an_oversized_hello_is_refused(tmp_path: Path, tls: str) -> None:
    """Clients could fill the memory of the daemon before they have said who they are."""
    async with open_server(tmp_path, tls) as server:
        with server.scraper() as scraper:
            # A ClientHello of 16 MiB (RFC 8446 section 4.1.2), in records of 16 KiB.
            scraper.send(b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(16380))
            assert await is_cut_off(scraper.sock, b"\x16\x03\x03\x40\x00" + bytes(16384), 1000)
            await closed(server)


@pytest_twisted.ensureDeferred
async def test_connections_in_their_handshake_count_for_the_limit(tmp_path: Path, tls: str) -> None:
    """Connections that never finish a handshake would use up the descriptors."""
    async with open_server(tmp_path, tls, max_connections=5) as server:
        idle = [server.scraper() for _ in range(20)]
        await until(lambda: len(server.site._channels) == 5, lambda: str(len(server.site._channels)))
        scraper, _ = await connect(server, ssl.TLSVersion.TLSv1_3)
        with scraper:
            scraper.ask()
            assert (await scraper.answer()).status == 200
        for client in idle:
            client.close()


# Other ways to the same port


@pytest_twisted.ensureDeferred
async def test_behind_a_proxy_header_a_dropped_response_is_repeated(tmp_path: Path, tls: str) -> None:
    """The wrapper of the header would hide the socket, and with it the reset."""
    async with open_server(tmp_path, "haproxy:" + tls) as server:
        events = await server.happen(1)
        for last in ("revoked", "final"):
            scraper, layer = await connect(server, ssl.TLSVersion.TLSv1_3)
            scraper.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 80\r\n")
            scraper.ask()
            if last == "final":
                assert (await scraper.answer()).events == events
            await server.fate("delivered")
            layer.close_notify()
            scraper.close()
            await server.fate("delivered", last)


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_has_a_piece_of_its_response_in_memory(
    tmp_path: Path, tls: str, version: ssl.TLSVersion
) -> None:
    """TLS takes the whole of a response at once: sixteen scrapers would need 128 MiB."""
    async with open_server(tmp_path, tls) as server:
        await server.happen(MANY)
        scraper, layer = await connect(server, version)
        scraper.ask()
        await server.shipped()
        (channel,) = server.site._channels
        assert channel.tls is not None
        lower = channel.tls.transport
        for _ in range(20):
            await scraper.read(100_000)
            assert len(lower.dataBuffer) - lower.offset + lower._tempDataLen < 2 * PIECE
        layer.close_notify()
        scraper.close()
        await server.fate("returned")


@pytest_twisted.ensureDeferred
async def test_an_update_of_the_keys_is_no_next_request(tmp_path: Path, tls: str) -> None:
    """A scraper that throws its response away after one would lose it."""
    async with open_server(tmp_path, tls) as server:
        await server.happen(1)
        host: Any = server.port.getHost()
        command = ["openssl", "s_client", "-tls1_3", "-crlf", "-connect", f"127.0.0.1:{host.port}"]
        quiet = subprocess.DEVNULL
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
        with client:
            assert client.stdin is not None
            try:
                client.stdin.write(b"GET /metrics?scraper=one HTTP/1.1\nHost: a\n\n")
                client.stdin.flush()
                await server.fate("delivered")
                (channel,) = server.site._channels
                queue = channel.queue()
                assert queue is not None
                before, received = queue.segments_received(), channel.received
                client.stdin.write(b"k\n")  # its command for it
                client.stdin.flush()
                await until(
                    lambda: queue.segments_received() != before and not queue.unread(), lambda: "no record"
                )
                queue.close()
                assert (server.last, channel.received) == (["delivered"], received)
            finally:
                client.kill()
        await server.fate("delivered", "final")
