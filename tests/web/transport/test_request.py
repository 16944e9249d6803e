"""Checks of a request before the routes: sizes, framing and Host."""

from __future__ import annotations

import socket
from typing import Any, cast
from urllib.parse import quote, quote_plus

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from support.web_fakes import Connection, FakeServer, failures_logged, request
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from oneshotd.core.parsing.formats import MAX_BODY_BYTES
from oneshotd.store.interface import Stored
from oneshotd.web.transport.request import parameters
from oneshotd.web.transport.site import Site

#: Lines that fill a body to exactly this many bytes.
LINE = b"a=" + b"x" * 997 + b"\n"


def body_of(size: int) -> bytes:
    whole, rest = divmod(size, len(LINE))
    return LINE * whole + b"\n" * rest


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def head(*lines: str) -> bytes:
    return request(*lines)


# The limit


@pytest.mark.parametrize("size", [0, 1, MAX_BODY_BYTES - 1, MAX_BODY_BYTES])
def test_a_body_up_to_the_limit_goes_in_however_it_is_framed(size: int) -> None:
    body = body_of(size)
    for framed in (
        head("POST /events", f"Content-Length: {size}") + body,
        head("POST /events", "Transfer-Encoding: chunked") + chunked(body, 65536),
    ):
        server = FakeServer()
        connection = server.connect()
        for at in range(0, len(framed), 100_000):
            connection.protocol.dataReceived(framed[at : at + 100_000])
        (answer,) = connection.answers("POST")
        assert answer.status == (200 if size > 1000 else 400)
        assert sum(len(group.events) for group, _ in server.ingest.groups) == size // len(LINE)


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 10**12])
@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]])
def test_a_body_declared_too_large_is_refused_before_it_is_sent(size: int, expect: list[str]) -> None:
    """And curl is not told to go on with it."""
    server = FakeServer()
    connection = server.connect()
    connection.protocol.dataReceived(head("POST /events", f"Content-Length: {size}", *expect))
    (answer,) = connection.answers("POST")
    assert (answer.status, answer.headers["Connection"]) == (413, "close")
    assert answer.text == f"body: expected at most {MAX_BODY_BYTES} bytes\n"
    assert connection.closed
    assert server.telemetry.refusals == {"limit": 1}


def test_a_client_that_asks_first_may_send_a_body_that_fits() -> None:
    connection = FakeServer().connect()
    connection.protocol.dataReceived(head("POST /events", "Content-Length: 3", "Expect: 100-continue"))
    assert connection.transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.transport.clear()
    connection.protocol.dataReceived(b"a=b")
    assert [answer.status for answer in connection.answers("POST")] == [200]


@pytest.mark.parametrize("size", [1000, 65536, 2 * MAX_BODY_BYTES])
def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(size: int) -> None:
    server = FakeServer()
    connection = server.connect()
    framed = head("POST /events", "Transfer-Encoding: chunked") + chunked(body_of(2 * MAX_BODY_BYTES), size)
    at = 0
    while not connection.closed and at < len(framed):
        connection.protocol.dataReceived(framed[at : at + 4096])
        at += 4096
    (answer,) = connection.answers("POST")
    assert answer.status == 413
    assert at < MAX_BODY_BYTES * 1.1 + 8192
    assert server.ingest.groups == []


@pytest.mark.parametrize("framing", ["Content-Length: 2000000", "Transfer-Encoding: chunked"])
def test_what_follows_a_refused_body_is_never_taken_for_a_request(framing: str) -> None:
    """A client could hide a request in a body that a proxy has passed on."""
    server = FakeServer()
    connection = server.connect()
    inner = head("POST /event?smuggled=1")
    body = inner.ljust(2_000_000, b"\n")
    framed = head("POST /events", framing) + (chunked(body, 1_500_000) if "chunked" in framing else body)
    for at in range(0, len(framed), 300_000):
        connection.protocol.dataReceived(framed[at : at + 300_000])  # it reads on as if nothing had been
    connection.protocol.dataReceived(inner * 2)
    assert [answer.status for answer in connection.answers("POST")] == [413]
    assert connection.closed
    assert server.ingest.groups == []


def test_a_refused_body_is_not_kept_in_memory() -> None:
    server = FakeServer()
    connection = server.connect()
    connection.protocol.dataReceived(head("POST /events", "Transfer-Encoding: chunked"))
    for _ in range(40):
        connection.protocol.dataReceived(b"%x\r\n%s\r\n" % (len(LINE) * 64, LINE * 64))
    (kept,) = server.requests
    assert kept.content.getbuffer().nbytes == 0


def test_a_sender_without_end_is_cut_off() -> None:
    connection = FakeServer().connect()
    connection.protocol.dataReceived(head("POST /events", f"Content-Length: {10**9}"))
    for _ in range(18):
        connection.protocol.dataReceived(b"x" * MAX_BODY_BYTES)
    assert connection.transport.disconnected


def test_a_form_is_not_parsed_before_it_is_asked_for() -> None:
    """Else a multipart body would be answered by twisted.web itself, in its own way."""
    server = FakeServer()
    server.ingest.waiting = Deferred()
    connection = server.connect()
    connection.protocol.dataReceived(
        request("POST /event?a=b", "Content-Type: application/x-www-form-urlencoded", body=b"c=d")
    )
    (waiting,) = server.requests
    assert waiting.args == {}
    answer = server.ask("POST /event", "Content-Type: multipart/form-data; boundary=x", body=b"nonsense")
    assert answer.status == 415


# Framing


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Content-Length: 3", "Content-Length: 4"],
        ["Content-Length: +3"],
        ["Content-Length: -3"],
        ["Content-Length: 3, 3"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: x"],
        ["Bad Name: x"],
        ["no colon"],
    ],
)
def test_a_body_with_an_ambiguous_end_closes_the_connection(lines: list[str]) -> None:
    server = FakeServer()
    connection = server.connect()
    connection.protocol.dataReceived(
        head("POST /event?a=b", *lines) + b"a=b" + head("POST /event?smuggled=1")
    )
    (answer,) = connection.answers("POST")
    assert answer.status == (501 if "expected chunked" in answer.text else 400)
    assert answer.text.endswith("\n") and len(answer.text.splitlines()) == 1
    assert connection.closed
    assert server.ingest.groups == []
    assert server.telemetry.refusals == {"syntax": 1}


def test_a_request_may_come_byte_by_byte() -> None:
    server = FakeServer()
    connection = server.connect()
    data = request("POST /events", "Transfer-Encoding: chunked") + chunked(b"a=b\nc=d\n", 3)
    for at in range(len(data)):
        connection.protocol.dataReceived(data[at : at + 1])
    (answer,) = connection.answers("POST")
    assert answer.text == '{"stored": 2, "duplicates": 0}\n'


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a_client_that_closes_after_each_request_is_served(version: str) -> None:
    connection = FakeServer().connect()
    connection.protocol.dataReceived(
        f"GET /healthz {version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    )
    (answer,) = connection.answers("GET")
    assert answer.text == "ok\n"
    assert connection.closed


# Believing it


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", "Host: expected one, got 0"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "Host: expected one, got 2"),
        (b"GET /metrics HTTP/1.1\r\nHost: a b\r\n\r\n", "Host: expected a name"),
        (b"GET /metrics HTTP/1.1\r\nHost: \xff\r\n\r\n", "Host: expected a name"),
        (b"GET /metrics HTTP/1.1\r\nHost: <script>\r\n\r\n", "Host: expected a name"),
        (b"GET /metrics HTTP/1.1\r\nHost: a:b\r\n\r\n", "Host: expected a name"),
        (b"head /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "method: expected capital letters"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "path: expected UTF-8"),
        (b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", "path: expected UTF-8"),
        (b"GET xmetrics HTTP/1.1\r\nHost: a\r\n\r\n", "path: expected a /"),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "path: expected a /"),
        (b"GET / HTTP/1.1\r\nHost: [::1%]\r\n\r\n", "Host: expected a name"),
        (b"GET / HTTP/1.1\r\nHost: [::1%a b]\r\n\r\n", "Host: expected a name"),
        (b"GET / HTTP/1.1\r\nHost: a%eth0\r\n\r\n", "Host: expected a name"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "path: expected a /"),
    ],
)
def test_a_request_that_is_none_of_ours_is_refused_without_a_line_in_the_log(data: bytes, says: str) -> None:
    server = FakeServer()
    connection = server.connect()
    with failures_logged() as logged:
        connection.protocol.dataReceived(data)
    (answer,) = connection.answers(data.split(b" ")[0].decode())
    assert answer.status == 400
    assert says in answer.text
    assert server.telemetry.refusals == {"syntax": 1}
    assert logged == []
    assert server.delivery.asked == []


@pytest.mark.parametrize(
    "host",
    [
        *("a..b", "x" * 64, "xn--a", "[::1]:8090", "[::1]", "[fe80::1%eth0]", "[fe80::1%25eth0]:8090"),
        "192.0.2.7:8090",
        "my_service:8090",
        "localhost.",
        "",
    ],
)
def test_a_strange_host_is_no_error_of_ours(host: str) -> None:
    assert FakeServer().ask("GET /metrics", f"Host: {host}").status == 200


def test_a_client_of_http_1_0_needs_no_host_even_over_a_unix_socket() -> None:
    connection = FakeServer().connect()
    connection.protocol.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
    (answer,) = connection.answers("GET")
    assert "http://10.0.0.1:12345/" in answer.text  # the listener's own


@pytest.mark.parametrize(
    "target",
    ["http://a/metrics?scraper=x", "HTTPS://other.example:1/metrics?scraper=x", "/metrics?scraper=x"],
)
def test_a_request_in_absolute_form_finds_its_route(target: str) -> None:
    server = FakeServer()
    server.ask(f"GET {target}")
    assert [visit.name for _, visit, *_ in server.delivery.asked] == ["x"]


def test_a_bug_before_the_routes_is_a_500_in_text_logged_once() -> None:
    server = FakeServer()
    site = server.site()
    site.getResourceFor = lambda request: 1 / 0  # type: ignore[method-assign]
    with failures_logged() as logged:
        answer = Connection(site, server.peer).ask("GET /metrics")
    assert (answer.status, answer.text) == (500, "internal error\n")
    assert len(logged) == 1


def test_the_deadline_of_a_scrape_starts_when_it_arrives() -> None:
    server = FakeServer()
    server.clock.advance(7.5)
    server.ingest.waiting = Deferred[Stored]()
    connection = server.connect()
    server.clock.advance(1)
    connection.protocol.dataReceived(request("POST /event?a=b"))
    (waiting,) = server.requests
    assert waiting.arrived == 8.5


# Parameters


@given(st.dictionaries(st.sampled_from(["scraper", "limit", "x", "ä"]), st.text(max_size=8)))
def test_a_parameter_arrives_as_it_was_sent(sent: dict[str, str]) -> None:
    query = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in sent.items()).encode()
    known = {name: value for name, value in sent.items() if name in ("scraper", "limit")}
    assert parameters(query, ("scraper", "limit")) == known


@given(
    st.lists(
        st.sampled_from(
            [b"limit=1", b"x", b"%6c", b"scraper=a", b"&", b"=", b"%", b"%f", b"%ff", b"+", b"\xff"]
        )
    )
)
def test_any_query_is_taken_or_refused_as_the_clients_mistake(pieces: list[bytes]) -> None:
    server = FakeServer()
    with failures_logged() as logged:
        answer = server.ask("GET /metrics?" + quote(b"".join(pieces), safe="%=&+"))
    assert answer.status in (200, 400)
    assert logged == []


# On a real socket


def _post_without_reading(port: int, size: int) -> bytes:
    """As many HTTP libraries do: send everything, then look for an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head("POST /events", f"Content-Length: {size}"))
        client.sendall(b"x" * size)
        received = b""
        while data := client.recv(65536):
            received += data
        return received


@pytest_twisted.ensureDeferred
async def test_a_client_that_sends_first_and_reads_later_gets_its_413() -> None:
    """With a plain close, what it still sends makes the kernel reset the connection."""
    reactor = cast(Any, global_reactor)
    site: Site = FakeServer().site(reactor)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        received = await deferToThread(_post_without_reading, port.getHost().port, 6 * MAX_BODY_BYTES)
    finally:
        await port.stopListening()
        site.abort()
    assert received.startswith(b"HTTP/1.1 413 ")
    assert received.endswith(b" bytes\n")


def _linger(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head("POST /events", "Content-Length: 2000000"))
        received = b""
        while data := client.recv(65536):
            received += data
        return received


@pytest_twisted.ensureDeferred
async def test_a_client_that_waits_for_its_413_sees_the_end_at_once() -> None:
    reactor = cast(Any, global_reactor)
    site: Site = FakeServer().site(reactor)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    started = reactor.seconds()
    try:
        received = await deferToThread(_linger, port.getHost().port)
    finally:
        await port.stopListening()
        site.abort()
    assert received.startswith(b"HTTP/1.1 413 ")
    assert reactor.seconds() - started < 4
