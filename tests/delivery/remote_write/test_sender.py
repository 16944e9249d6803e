"""The sender of a receiver: what goes over the line, and which end of a request means what."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.certificates import Authority
from support.emit_server import HANG_UP, Server, answer, endless
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from oneshotd import __version__
from oneshotd.access.tls_settings import PEM
from oneshotd.core.origin import THIS_HOST
from oneshotd.delivery.remote_write.bounded_endpoint import MAX_ANSWER_BYTES
from oneshotd.delivery.remote_write.destination import Destination
from oneshotd.delivery.remote_write.exchange import Answer, NotSent
from oneshotd.delivery.remote_write.sender import Sender

reactor: Any = global_reactor

ACCEPTED = answer(204, b"")
NOW = 1_700_000_000.0


def destination(server: Server, **more: Any) -> Destination:
    return Destination(url=f"{server.url}/api/v1/write?x=1", **more)


async def post(where: Destination, *bodies: bytes) -> list[Answer]:
    """Send requests one after the other with one sender."""
    sender = Sender(reactor, where, now=lambda: NOW)
    try:
        return [await sender(body) for body in bodies]
    finally:
        await sender.close()


@pytest_twisted.ensureDeferred
async def test_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver would refuse every request; or samples would go through a proxy that nobody has set here."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Server(ACCEPTED) as server:
        where = destination(server, headers={"X-Scope-OrgID": "a"}, authorization="Bearer abc")
        assert await post(where, b"\x00\xff", b"second") == [Answer(status=204)] * 2
    first, second = server.asked
    assert first.first == "POST /api/v1/write?x=1 HTTP/1.1"
    assert first.body == b"\x00\xff"
    headers = dict(first.headers)
    assert headers.pop("connection", "keep-alive") == "keep-alive"
    assert headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": f"oneshotd/{__version__}",
        "content-type": "application/x-protobuf",
        "content-encoding": "snappy",
        "content-length": "2",
        "x-prometheus-remote-write-version": "0.1.0",
        "x-scope-orgid": "a",
        "authorization": "Bearer abc",
    }
    assert first.connection == second.connection == 1


@pytest.mark.parametrize("is_tls", [False, True])
@pytest_twisted.ensureDeferred
async def test_the_host_of_the_connection_is_known(is_tls: bool, tmp_path: Path) -> None:
    """The status page could not warn of a store that is scraped, too."""
    authority = Authority(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pair = authority.issue("localhost")
    tls.load_cert_chain(pair.cert, pair.key)
    with Server(ACCEPTED, tls=tls if is_tls else None) as server:
        url = f"http{'s' if is_tls else ''}://localhost:{server.port}/w"
        sender = Sender(reactor, Destination(url=url, ca=pem(authority.cert) if is_tls else None))
        assert sender.host == ""
        await sender(b"x")
        assert sender.host == THIS_HOST
        await sender.close()


@pytest.mark.parametrize("status", [200, 202, 400, 401, 404, 413, 415, 422, 500, 503])
@pytest_twisted.ensureDeferred
async def test_every_status_is_an_answer(status: int) -> None:
    with Server(answer(status, b"out of order\x1b sample\nsecond line")) as server:
        (got,) = await post(destination(server), b"x")
    assert got == Answer(status=status, text="out of order  sample")


@pytest_twisted.ensureDeferred
async def test_a_redirect_is_not_followed() -> None:
    """Events, and a token, would go where nobody has sent them."""
    with Server(ACCEPTED) as other:
        with Server(answer(307, b"", Location=other.url)) as server:
            assert [got.status for got in await post(destination(server), b"x")] == [307]
        assert other.asked == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), (formatdate(NOW + 60), 60.0), (formatdate(NOW - 60), 0.0), ("soon", None), ("-1", None)],
)
@pytest_twisted.ensureDeferred
async def test_retry_after(text: str, seconds: float | None) -> None:
    with Server(answer(503, b"", Retry_After=text)) as server:
        (got,) = await post(destination(server), b"x")
    assert got.retry_after == seconds


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"1e99",
        b"9" * 99,
        b"",
        b"Feb -5 999999999900:00:00 99999 +9999-0000",
        b"Mon, 01 Jan 0001 00:00:00",
    ],
)
@pytest.mark.parametrize("status", [204, 503])
@pytest_twisted.ensureDeferred
async def test_no_retry_after_hides_the_status(status: int, text: bytes) -> None:
    """Samples that were accepted would be sent for ever."""
    beginning = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nRetry-After: ".encode()
    with Server(beginning + text + b"\r\n\r\n") as server:
        (got,) = await post(destination(server), b"x")
    assert got.status == status


@pytest.mark.parametrize(
    "more",
    [
        b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\xff\x00",
        b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nabXX",
        b"\r\nuntil the end",
        b"Connection: close\r\n\r\n",
        b"X-Y: \xff\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=range(7),
)
@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
@pytest_twisted.ensureDeferred
async def test_a_strange_body_changes_no_status(version: bytes, more: bytes) -> None:
    with Server(version + b" 200 OK\r\n" + more, closes=True) as server:
        (got,) = await post(destination(server), b"x")
    assert got.status == 200
    assert got.text.isprintable()


@pytest_twisted.ensureDeferred
async def test_nothing_listens() -> None:
    """What was not sent is no uncertain event."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotSent, match="no connection: "):
        await post(Destination(url=f"http://127.0.0.1:{port}/w"), b"x")
    with pytest.raises(NotSent, match="no connection: "):
        await post(Destination(url="http://does-not-exist.invalid/w"), b"x")


@pytest_twisted.ensureDeferred
async def test_a_request_without_an_answer_is_unknown() -> None:
    """It may have been stored, and counts as uncertain if it is refused later."""
    with Server(HANG_UP) as server, pytest.raises(ConnectionError, match="no answer: "):
        await post(destination(server), b"x")
    assert len(server.asked) == 1
    with Server(b"HTTP/1.1 204 No Con", closes=True) as server, pytest.raises(ConnectionError):
        await post(destination(server), b"x")


@pytest_twisted.ensureDeferred
async def test_a_connection_that_was_closed_is_replaced() -> None:
    """A receiver that was restarted would get nothing; or nobody would know that it was."""
    with Server(ACCEPTED, ACCEPTED, HANG_UP, ACCEPTED) as server:
        sender = Sender(reactor, destination(server))
        assert [(await sender(b"x")).reconnected, (await sender(b"x")).reconnected] == [False, False]
        with pytest.raises(ConnectionError):
            await sender(b"x")
        assert [(await sender(b"x")).reconnected, (await sender(b"x")).reconnected] == [True, False]
        await sender.close()
    assert [asked.connection for asked in server.asked] == [1, 1, 1, 2, 2]


@pytest_twisted.ensureDeferred
async def test_a_status_is_an_answer_although_the_body_is_cut() -> None:
    with Server(b"HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\nno room", closes=True) as server:
        (got,) = await post(destination(server), b"x")
    assert got == Answer(status=400, text="no room")


@pytest.mark.parametrize(
    ("beginning", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n"),
        (b"HTTP/1.1 400 No\r\nContent-Length: 99999999\r\n\r\n", b"z"),
        (b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    ],
    ids=range(4),
)
@pytest_twisted.ensureDeferred
async def test_an_answer_without_end_is_bounded(beginning: bytes, again: bytes) -> None:
    """A receiver could take all the memory of the daemon."""
    with endless(beginning, again) as (url, sent):
        if b"400" in beginning:
            (got,) = await post(Destination(url=f"{url}/w"), b"x")
            assert got.status == 400
        else:
            with pytest.raises(ConnectionError, match="the answer is too long"):
                await post(Destination(url=f"{url}/w"), b"x")
    assert sent[0] < 2 * MAX_ANSWER_BYTES + 16 * 1024 * 1024  # with what the sockets hold


@contextmanager
def silent() -> Iterator[tuple[str, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/w", listener


async def accepted(listener: socket.socket) -> socket.socket:
    for _ in range(1000):
        try:
            return listener.accept()[0]
        except BlockingIOError:
            await deferLater(reactor, 0.01)
    raise AssertionError("no connection within 10 s")


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 400 No\r\nContent-Length: 9\r\n\r\nab"])
@pytest_twisted.ensureDeferred
async def test_a_cancelled_request_closes_its_connection(beginning: bytes) -> None:
    """The receiver could store a request that another daemon has sent meanwhile."""
    with silent() as (url, listener):
        sender = Sender(reactor, Destination(url=url))
        sending = sender(b"x" * 4_000_000)
        peer = await accepted(listener)
        with peer:
            if beginning:
                peer.sendall(beginning)
                await deferLater(reactor, 0.05)
            sending.cancel()
            with pytest.raises(CancelledError):
                await sending
            assert await _closed(peer)
        again: Deferred[Answer] = sender(b"again")  # a new connection
        (await accepted(listener)).close()
        with pytest.raises(ConnectionError):
            await again
        await sender.close()
        with pytest.raises(BlockingIOError):
            listener.accept()


async def _closed(peer: socket.socket) -> bool:
    """Whether the other side has closed; what it has sent before is read."""
    peer.setblocking(False)
    for _ in range(1000):
        try:
            if not peer.recv(1 << 20):
                return True
        except BlockingIOError:
            await deferLater(reactor, 0.01)
        except ConnectionResetError:
            return True
    return False


def pem(path: Path) -> PEM:
    return PEM(where="x", inline=path.read_text())


@pytest_twisted.ensureDeferred
async def test_tls_both_sides_are_verified(tmp_path: Path) -> None:
    """A password would be read on the way, or by another host."""
    authority = Authority(tmp_path / "own")
    pair, other = authority.issue("localhost"), authority.issue("example.net", sans=["example.net"])
    client = authority.issue("oneshotd")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.cert))
    tls.load_cert_chain(pair.cert, pair.key)
    tls.verify_mode = ssl.CERT_REQUIRED
    own: dict[str, Any] = {"cert": pem(client.cert), "key": pem(client.key)}
    with Server(ACCEPTED, tls=tls) as server:
        url = f"https://localhost:{server.port}/w"
        trusting = Destination(url=url, ca=pem(authority.cert), **own)
        assert [got.status for got in await post(trusting, b"x", b"y")] == [204, 204]
        with pytest.raises(NotSent, match="has ended, or its authority is not trusted"):
            await post(Destination(url=url, **own), b"x")
        with pytest.raises(ConnectionError, match="the receiver asks for a certificate, or does not take"):
            await post(Destination(url=url, ca=pem(authority.cert)), b"x")
    assert [asked.body for asked in server.asked] == [b"x", b"y"]
    tls.load_cert_chain(other.cert, other.key)
    with Server(ACCEPTED, tls=tls) as server:
        url = f"https://localhost:{server.port}/w"
        with pytest.raises(NotSent, match="is for another host"):
            await post(Destination(url=url, ca=pem(authority.cert), **own), b"x")
    not_tls = pytest.raises(NotSent, match="does not speak TLS there")
    with endless(b"", b"HTTP/1.0 400 Bad Request\r\n\r\n") as (url, _), not_tls:
        await post(Destination(url=f"{url}/w".replace("http:", "https:")), b"x")
