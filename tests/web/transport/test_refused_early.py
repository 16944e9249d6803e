"""Requests that twisted.web refuses: each gets a status, a line of text, a count and a log line."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
import pytest_twisted
from support.bare_scraper import Scraper
from support.memory_site import TWISTEDS_OWN, MemoryServer, open_server, until
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from oneshotd.web.transport.channel import Channel
from oneshotd.web.transport.request_head import MAX_HEAD

#: Twisted hands pyOpenSSL its own kind of certificates still.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

#: Of the daemon's own port, which looks for an ordinary request first, and of Twisted's.
PORTS = {"quick": "localhost:0", "tcp": TWISTEDS_OWN}

HEAD = b"POST /event?a=b HTTP/1.1\r\nHost: a\r\n"

#: Sent bytes -> status, what the text says, reason.
REFUSED: dict[str, tuple[bytes, int, str, str]] = {
    "blank in the target": (b"POST /event?a=b c HTTP/1.1\r\nHost: a\r\n\r\n", 400, "%20", "syntax"),
    "tab in the target": (b"POST /event?a=b\tc HTTP/1.1\r\nHost: a\r\n\r\n", 400, "control", "syntax"),
    "no version": (b"GET /healthz\r\n\r\n", 400, "expected METHOD TARGET", "syntax"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1 or HTTP/1.0", "syntax"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "got TLS", "syntax"),
    "PROXY": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n", 400, "haproxy:tcp:PORT", "syntax"),
    "PROXY 2": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12), 400, "haproxy:tcp:PORT", "syntax"),
    "long target": (
        b"POST /event?a=" + b"x" * MAX_HEAD + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        414,
        "body",
        "limit",
    ),
    "target without end": (b"POST /event?a=" + b"x" * 2 * MAX_HEAD, 414, "body", "limit"),
    "long header": (HEAD + b"a: " + b"x" * MAX_HEAD + b"\r\n\r\n", 431, "headers: expected", "limit"),
    "long headers": (HEAD + b"a: b\r\n" * 4096 + b"\r\n", 431, "headers: expected", "limit"),
    "many headers": (HEAD + b"a: b\r\n" * 501 + b"\r\n", 431, "at most 500", "limit"),
    "no colon": (HEAD + b"nonsense\r\n\r\n", 400, "'nonsense'", "syntax"),
    "blank in a name": (HEAD + b"A B: c\r\n\r\n", 400, "a name of letters", "syntax"),
    "NUL in a value": (HEAD + b"A: b\0\r\n\r\n", 400, "A: expected no NUL", "syntax"),
    "CR in a value": (HEAD + b"A: b\rC: d\r\n\r\n", 400, "A: expected no NUL", "syntax"),
    "bad length": (HEAD + b"Content-Length: 1x\r\n\r\n", 400, "'1x'", "syntax"),
    "long length": (
        HEAD + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n",
        400,
        "a number of bytes",
        "syntax",
    ),
    "two lengths": (HEAD + b"Content-Length: 1\r\n" * 2 + b"\r\na", 400, "one of them", "syntax"),
    "coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, "'gzip'", "syntax"),
    "chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, "body: expected chunks", "syntax"),
    "chunk end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n", 400, "chunks", "syntax"),
}


@contextmanager
def logged() -> Iterator[list[LogEvent]]:
    """The log lines about refused requests meanwhile."""
    seen: list[LogEvent] = []

    @implementer(ILogObserver)
    def keep(event: LogEvent) -> None:
        if "refused" in (event.get("log_format") or ""):
            seen.append(event)

    globalLogPublisher.addObserver(keep)
    try:
        yield seen
    finally:
        globalLogPublisher.removeObserver(keep)


def counted(server: MemoryServer) -> dict[str, int]:
    """The refusals that the daemon's metrics show."""
    return {reason: count for reason, count in server.telemetry._refused.items() if count}


async def _refusal(client: Scraper, status: int, says: str) -> None:
    """The one answer of a connection, which ends with it."""
    text = await client.rest()
    head, _, body = text.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), text
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in head and b"\r\nConnection: close" in head
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head
    assert body.endswith(b"\n") and body.count(b"\n") == 1
    assert says in body.decode()


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("case", REFUSED)
@pytest_twisted.ensureDeferred
async def test_a_request_that_cannot_be_parsed_gets_a_reason(tmp_path: Path, case: str, port: str) -> None:
    """Neither the author of a client nor the operator could find the reason of an empty 400."""
    data, status, says, reason = REFUSED[case]
    with logged() as lines:
        async with open_server(tmp_path, PORTS[port]) as server:
            with server.scraper() as client:
                client.send(data)
                await _refusal(client, status, says)
            assert counted(server) == {reason: 1}
            assert (await server.store.stats()).events == 0
    (line,) = lines
    assert says in line["text"] and line["peer"] == "127.0.0.1" and line["reason"] == reason


@pytest.mark.parametrize("case", ["blank in the target", "target without end", "long headers", "chunk"])
@pytest.mark.parametrize("transport", ["unix", "haproxy", "tls"])
@pytest_twisted.ensureDeferred
async def test_the_reason_arrives_over_every_transport(
    tmp_path: Path, request: pytest.FixtureRequest, transport: str, case: str
) -> None:
    """A reset would take the answer with it."""
    where = {"unix": f"unix:{tmp_path}/http", "haproxy": f"haproxy:{TWISTEDS_OWN}"}.get(transport)
    data, status, says, reason = REFUSED[case]
    async with open_server(tmp_path, where or request.getfixturevalue("tls")) as server:
        with server.scraper() as client:
            if transport == "tls":
                await client.handshake()
            client.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 80\r\n" * (transport == "haproxy") + data)
            await _refusal(client, status, says)
        assert counted(server) == {reason: 1}


@pytest.mark.parametrize("port", PORTS)
@pytest_twisted.ensureDeferred
async def test_nothing_is_obeyed_behind_a_request_that_cannot_be_parsed(tmp_path: Path, port: str) -> None:
    """Else a request could be hidden in another one's body."""
    async with open_server(tmp_path, PORTS[port]) as server:
        for data, status, *_ in REFUSED.values():
            with server.scraper() as client:
                client.send(data + (b"\r\n\r\n" + HEAD + b"\r\n") * 3)
                client.finish_sending()
                answer = await client.rest()
                assert answer.startswith(b"HTTP/1.1 %d" % status) and answer.count(b"\r\nServer: ") == 1
        assert (await server.store.stats()).events == 0


@pytest.mark.parametrize("part", [b"GET /healthz HT", HEAD, HEAD + b"Content-Length: 3\r\n\r\na"])
@pytest_twisted.ensureDeferred
async def test_a_request_that_is_not_complete_in_time_is_told_so(tmp_path: Path, part: bytes) -> None:
    async with open_server(tmp_path, request_timeout=0.2) as server:
        with server.scraper() as client:
            client.send(part)
            await _refusal(client, 408, "not complete within 0.2 s")
        assert counted(server) == {"timeout": 1}


@pytest.mark.parametrize("part", [b"GET /healthz HT", HEAD, HEAD + b"Content-Length: 3\r\n\r\na"])
@pytest_twisted.ensureDeferred
async def test_a_request_that_ends_too_early_is_told_so(tmp_path: Path, part: bytes) -> None:
    """A script that computes a wrong Content-Length, and shuts down its side of the connection."""
    async with open_server(tmp_path) as server:
        with server.scraper() as client:
            client.send(part)
            client.finish_sending()
            await _refusal(client, 400, "incomplete, the client closed")
        assert counted(server) == {"syntax": 1}


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_connection_at_rest_is_closed_without_a_word(tmp_path: Path, before: bytes) -> None:
    """A client that keeps its connection would take a 408 for the answer to its next request."""
    async with open_server(tmp_path, request_timeout=0.2, idle_timeout=0.2) as server:
        with server.scraper() as client:
            client.send(before)
            assert (await client.rest()).count(b"HTTP/1.1") == bool(before)
        assert counted(server) == {}


@pytest_twisted.ensureDeferred
async def test_a_body_that_was_refused_already_is_not_refused_again(tmp_path: Path) -> None:
    """A second answer would be taken for that of the next request."""
    async with open_server(tmp_path) as server:
        with server.scraper() as client:
            client.send(
                HEAD + b"Transfer-Encoding: chunked\r\n\r\n200000\r\n" + bytes(0x200000) + b"\r\nnonsense\r\n"
            )
            answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 413 ") and answer.count(b"HTTP/1.1 ") == 1
        assert counted(server) == {"limit": 1}


@pytest_twisted.ensureDeferred
async def test_a_refused_request_is_in_the_access_log(tmp_path: Path) -> None:
    """An operator who looks for a sender's failures finds them there."""
    async with open_server(tmp_path, access_log=True) as server:
        server.site.logFile = log = StringIO()
        for data, *_ in REFUSED.values():
            with server.scraper() as client:
                client.send(data)
                await client.rest()
        text = log.getvalue()
    statuses = [int(status) for status in re.findall(r'" (\d{3}) \d+ "-" "-"$', text, re.MULTILINE)]
    assert statuses == [status for _, status, *_ in REFUSED.values()]


@pytest_twisted.ensureDeferred
async def test_a_flood_of_them_is_logged_once_a_second(tmp_path: Path) -> None:
    """Any client could fill the disk with log lines."""
    with logged() as lines:
        async with open_server(tmp_path) as server:
            for _ in range(20):
                with server.scraper() as client:
                    client.send(b"nonsense\r\n")
                    await client.rest()
            assert counted(server) == {"syntax": 20}
    assert len(lines) < 10 and sum(line["count"] for line in lines) == 20


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_on_sending_is_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oneshotd.web.transport.head_channel.MAX_BEHIND_REFUSAL", 1 << 20)
    async with open_server(tmp_path, TWISTEDS_OWN) as server:
        with server.scraper() as client:
            client.send(b"nonsense\r\n")
            await client.rest()
            client.sock.settimeout(0)

            def is_cut() -> bool:
                try:
                    client.sock.send(bytes(1 << 16))
                except BlockingIOError:
                    return False
                except OSError:
                    return True
                return False

            await until(is_cut, lambda: "it may send for ever")


# What is answered


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    ("data", "stored"),
    [
        ("POST /event?type=größe&n=✓ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1),
        ("POST /event?type=gr%C3%B6ße HTTP/1.1\nHost: a\nConnection: close\n\n", 1),
        ("POST /event?type=a HTTP/1.1\nHost: a\nConnection: close\n\n", 1),
        ("POST /event?type=a HTTP/1.1\r\nHost: a\nConnection: close\r\n\n", 1),
        ("POST /event?type=a HTTP/1.0\n\n", 1),
        ("\n\r\n\nPOST /event?type=a HTTP/1.0\n\n", 1),
        ("POST /events HTTP/1.1\nHost: a\nContent-Length: 12\nConnection: close\n\ntype=ä\na=b\n", 2),
        ("POST /event?a=1 HTTP/1.1\nHost: a\n\nPOST /event?a=2 HTTP/1.1\nHost: a\nConnection: close\n\n", 2),
    ],
)
@pytest_twisted.ensureDeferred
async def test_lines_ended_by_lf_alone_and_raw_utf_8_are_events(
    tmp_path: Path, port: str, data: str, stored: int
) -> None:
    """Scripts with ``printf`` and ``nc``, and tools that were written for Go's server."""
    async with open_server(tmp_path, PORTS[port]) as server:
        with server.scraper() as client:
            client.send(data.encode())
            answer = await client.rest()
        assert answer.count(b" 200 OK\r\n") == data.count("POST")
        assert (await server.store.stats()).events == stored


@pytest_twisted.ensureDeferred
async def test_a_raw_utf_8_target_is_the_same_event_as_an_escaped_one(tmp_path: Path) -> None:
    async with open_server(tmp_path) as server:
        for query in ("type=größe&n=✓", "type=gr%C3%B6%C3%9Fe&n=%E2%9C%93"):
            with server.scraper() as client:
                client.send(f"POST /event?{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                assert b" 200 OK" in await client.rest()
        with server.scraper() as client:
            client.ask()
            answer = await client.answer()
        assert [line for line in answer.body.decode().splitlines() if line.startswith("seen{")] == [
            'seen{n="✓",type="größe"} 2'
        ]


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_in_a_target_is_taken_or_gets_a_reason(byte: int) -> None:
    """Whatever stands there, there is one answer in text."""
    from support.web_fakes import FakeServer as Fakes

    server = Fakes()
    connection = server.connect()
    connection.protocol.dataReceived(b"POST /event?a=x%by HTTP/1.1\r\nHost: a\r\n\r\n" % bytes([byte]))
    text = connection.transport.value()
    assert text.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
    assert text.split(b"\r\n\r\n", 1)[1].endswith(b"\n")
    assert bool(server.ingest.groups) == (b" 200 " in text)
    assert sum(server.telemetry.refusals.values()) == (b" 400 " in text)


@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_behind_the_proxy_protocol_is_answered(tmp_path: Path) -> None:
    """``nc -N`` behind HAProxy's ``send-proxy``: its event was stored, and no answer came."""
    for data in (
        HEAD + b"\r\n",
        HEAD + b"X: y\r\nContent-Length: 3\r\n\r\nc=d",
        HEAD + b"\r\n" + HEAD + b"\n",
    ):
        async with open_server(tmp_path, f"haproxy:{TWISTEDS_OWN}") as server:
            before = (await server.store.stats()).events
            with server.scraper() as client:
                client.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 80\r\n" + data)
                client.sock.shutdown(socket.SHUT_WR)
                answer = await client.rest()
            wanted = data.count(b"POST")
            assert answer.count(b"HTTP/1.1 200 OK") == wanted
            assert (await server.store.stats()).events == before + wanted


def test_twisted_still_asks_where_we_answer() -> None:
    """A Twisted that has renamed the overridden methods would answer empty 400s again."""
    from twisted.web.http import HTTPChannel

    for name in ("_respondToBadRequestAndDisconnect", "lineLengthExceeded", "headerReceived", "lineReceived"):
        assert getattr(HTTPChannel, name) is not getattr(Channel, name)
