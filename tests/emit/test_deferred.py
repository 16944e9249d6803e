"""Emitting from a Twisted program: the same promise, and its reactor never waits."""

from __future__ import annotations

import socket

import pytest
import pytest_twisted
from support.emit_server import HANG_UP, STORED, Server, answer, endless
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from oneshotd.emit.answers import EmitRefused, EmitUnavailable
from oneshotd.emit.deferred import emit
from oneshotd.emit.http import MAX_ANSWER_BYTES
from oneshotd.emit.settings import SettingsError

reactor: IReactorTime = global_reactor

BUSY = answer(503, b"busy\n", Retry_After="0")


@pytest_twisted.ensureDeferred
async def test_it_fires_when_the_event_is_stored() -> None:
    """A Twisted program's events would not arrive, or hold its reactor."""
    with Server([STORED[:9], STORED[9:]]) as server:
        turns: list[float] = []
        sent = emit(
            reactor, {"type": "backup"}, value=37.5, task="nightly", url=server.url.replace("//", "//a:b@")
        )
        deferLater(reactor, 0.0, turns.append, 1.0)
        assert await sent is None  # type: ignore[func-returns-value]
    assert turns
    (asked,) = server.asked
    assert asked.body == b"type=backup&task=nightly&value=37.5"
    assert asked.first == "POST /event HTTP/1.1"
    assert asked.headers["authorization"] == "Basic YTpi"
    assert asked.headers["user-agent"].startswith("oneshot-emit/")
    assert "idempotency-key" not in asked.headers


@pytest_twisted.ensureDeferred
async def test_every_attempt_bears_one_key() -> None:
    """An event whose answer was lost would count twice."""
    with Server(HANG_UP, BUSY, STORED) as server:
        await emit(reactor, type="deploy", retry=30, url=server.url)
        await emit(reactor, type="deploy", retry=30, url=server.url, id="mine")
    keys = [asked.headers.get("idempotency-key") for asked in server.asked]
    assert len(keys) == 4
    assert len(keys[0] or "") == 36
    assert keys[0] == keys[1] == keys[2]
    assert keys[3] is None
    assert server.bodies()[3] == b"type=deploy&__id__=mine"


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("beginning", "again"),
    [
        (OK, b"X-Y: z\r\n"),
        (OK + b"Content-Length: 99999999\r\n\r\n", b"z"),
        (OK + b"Connection: close\r\n\r\n", b"z"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    ],
    ids=range(5),
)
@pytest_twisted.ensureDeferred
async def test_an_answer_without_end_is_bounded(beginning: bytes, again: bytes) -> None:
    """A program that reports an event would take all the memory there is."""
    too_long = pytest.raises(EmitUnavailable, match="the answer is longer than 1048576 bytes")
    with endless(beginning, again) as (url, sent), too_long:
        await emit(reactor, type="deploy", url=url, timeout=20)
    assert sent[0] < 2 * MAX_ANSWER_BYTES + 16 * 1024 * 1024  # with what the sockets hold


@pytest_twisted.ensureDeferred
async def test_errors_come_through_the_deferred() -> None:
    """A program's own errback would not hear of them, or not know whether later may help."""
    with Server(answer(400, b"because\n"), BUSY, HANG_UP) as server:
        with pytest.raises(EmitRefused, match="because"):
            await emit(reactor, a=1, retry=30, url=server.url)
        with pytest.raises(EmitUnavailable, match="busy"):
            await emit(reactor, a=1, url=server.url)
        with pytest.raises(EmitUnavailable, match="no answer"):
            await emit(reactor, a=1, url=server.url)
    with pytest.raises(EmitUnavailable, match="refused"):
        await emit(reactor, a=1, url=server.url)
    with pytest.raises(EmitUnavailable):
        await emit(reactor, a=1, url="http://nowhere.invalid:1")
    with pytest.raises(ValueError, match="value: 'x' is not a number"):
        await emit(reactor, a=1, value="x", url=server.url)
    with pytest.raises(SettingsError, match="expected http://HOST:PORT"):
        await emit(reactor, a=1, url="nonsense")


@pytest_twisted.ensureDeferred
async def test_the_timeout_covers_an_attempt() -> None:
    """A daemon that hangs would keep every event of the program for ever."""
    slow = Server([STORED[:9], *[b""] * 1000])
    with slow, pytest.raises(EmitUnavailable, match=r"no answer within 0\.2 s"):
        await emit(reactor, a=1, timeout=0.2, url=slow.url)
    deaf = socket.create_server(("127.0.0.1", 0))
    with deaf, pytest.raises(EmitUnavailable, match=r"no answer within 0\.2 s"):
        await emit(reactor, a=1, timeout=0.2, url=f"http://127.0.0.1:{deaf.getsockname()[1]}")


@pytest_twisted.ensureDeferred
async def test_it_can_be_cancelled_before_it_is_connected() -> None:
    """Twisted's agent says this with an error of another kind."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        sent = emit(reactor, a=1, retry=3600, url=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        sent.cancel()
        with pytest.raises(CancelledError):
            await sent


@pytest.mark.parametrize(
    "parts",
    [[BUSY], [b"", *[b""] * 1000], [STORED[:9], *[b""] * 1000], [STORED[:-1], *[b""] * 1000]],
    ids=["between attempts", "before the answer", "in its head", "in its body"],
)
@pytest_twisted.ensureDeferred
async def test_it_can_be_cancelled(parts: list[bytes]) -> None:
    """A program that shuts down would go on trying."""
    with Server(parts) as server:
        sent = emit(reactor, a=1, retry=3600, url=server.url)
        while not server.asked:
            assert not sent.called
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 0.15)  # so that it has what there is of the answer
        sent.cancel()
        with pytest.raises(CancelledError):
            await sent
        before = len(server.asked)
        await deferLater(reactor, 0.3)
        assert len(server.asked) == before


@pytest_twisted.ensureDeferred
async def test_datagrams() -> None:
    """`udp://` would work in every program but Twisted's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10.0)
        url = f"udp://localhost:{listener.getsockname()[1]}"
        sent: Deferred[None] = emit(reactor, a=1, url=url)
        await sent
        assert listener.recv(65536) == b"a=1"
    with pytest.raises(EmitUnavailable, match="nobody listens"):
        await emit(reactor, a=1, url=url)
