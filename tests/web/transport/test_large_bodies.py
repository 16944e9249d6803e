"""Bodies beyond 1 MiB: at which paths they are accepted, and how much of all of them is in memory."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from support.web_fakes import Connection, FakeServer, request
from twisted.internet.defer import Deferred

from oneshotd.core.events import labels_of
from oneshotd.core.parsing.formats import MAX_BODY_BYTES, MAX_HOOK_BODY_BYTES
from oneshotd.store.interface import Stored
from oneshotd.web.transport import site as module
from oneshotd.web.transport.site import Site

MIB = 1 << 20
HOOK = "POST /hook/echo"


def post(
    server: FakeServer, line: str, size: int, *headers: str, chunk: int = 0, site: Site | None = None
) -> Connection:
    """Send a body of this size in pieces; return the connection."""
    connection = server.connect(site)
    framing = "Transfer-Encoding: chunked" if chunk else f"Content-Length: {size}"
    connection.protocol.dataReceived(request(line, framing, *headers))
    send(connection, size, chunk)
    if chunk:
        connection.protocol.dataReceived(b"0\r\n\r\n")
    return connection


def send(connection: Connection, size: int, chunk: int = 0) -> None:
    """Send this much of a body."""
    piece = chunk or 300_000
    for at in range(0, size, piece):
        part = b"x" * min(piece, size - at)
        connection.protocol.dataReceived(b"%x\r\n%b\r\n" % (len(part), part) if chunk else part)


def stored_sizes(server: FakeServer) -> list[int]:
    return [
        int(labels_of(event.series)["size"]) for group, _ in server.ingest.groups for event in group.events
    ]


@pytest.mark.parametrize("chunk", [0, 1 << 16, 3 * MIB])
@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1, MAX_HOOK_BODY_BYTES])
def test_a_hook_takes_a_large_body_however_it_is_framed(size: int, chunk: int) -> None:
    """What a tool sends about a large project would be refused."""
    server = FakeServer()
    site = server.site()
    connection = post(server, HOOK, size, chunk=chunk, site=site)
    assert [answer.status for answer in connection.answers("POST")] == [200]
    assert stored_sizes(server) == [size]
    assert (site._held, site._large) == (0, 0)


@pytest.mark.parametrize(
    "target", ["http://oneshot.example:8090/hook/echo", "/hook/echo?a=b", "//h/hook/echo"]
)
def test_the_path_decides_whatever_form_the_target_has(target: str) -> None:
    """A proxy that writes the absolute form would get another limit."""
    connection = post(FakeServer(), f"POST {target}", 2 * MIB)
    (answer,) = connection.answers("POST")
    assert answer.status == (413 if target.startswith("//") else 200)


@pytest.mark.parametrize("line", ["POST /event", "POST /events", "POST /hooks", "POST /events?x=/hook/a"])
@pytest.mark.parametrize("chunk", [0, 1 << 16])
def test_other_paths_have_the_limit_that_they_had(line: str, chunk: int) -> None:
    """A stranger could fill the memory at each of them."""
    connection = post(FakeServer(), line, MAX_BODY_BYTES + 1, chunk=chunk)
    (answer,) = connection.answers("POST")
    assert (answer.status, answer.text) == (413, f"body: expected at most {MAX_BODY_BYTES} bytes\n")


@pytest.mark.parametrize("chunk", [0, 1 << 16])
def test_a_body_beyond_the_limit_of_hooks_is_refused(chunk: int) -> None:
    server = FakeServer()
    connection = post(server, HOOK, MAX_HOOK_BODY_BYTES + 1, chunk=chunk)
    (answer,) = connection.answers("POST")
    assert (answer.status, answer.text) == (413, f"body: expected at most {MAX_HOOK_BODY_BYTES} bytes\n")
    assert connection.closed and server.ingest.groups == []
    assert server.telemetry.refusals == {"limit": 1}
    (kept,) = server.requests
    assert kept.content.getbuffer().nbytes == 0


def test_a_client_that_goes_on_sending_can_read_the_refusal_and_is_cut_off_then() -> None:
    """A reset would take the answer with it; and nobody has to take a body without end."""
    connection = FakeServer().connect()
    connection.protocol.dataReceived(request(HOOK, f"Content-Length: {10**9}"))
    send(connection, MAX_HOOK_BODY_BYTES + 15 * MIB)
    assert not connection.transport.disconnected
    send(connection, 2 * MIB)
    assert connection.transport.disconnected


def test_a_client_that_asks_first_may_send_a_large_body_to_a_hook() -> None:
    """curl asks for each body of more than 1 MiB."""
    connection = FakeServer().connect()
    connection.protocol.dataReceived(request(HOOK, f"Content-Length: {2 * MIB}", "Expect: 100-continue"))
    assert connection.transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.transport.clear()
    send(connection, 2 * MIB)
    assert [answer.status for answer in connection.answers("POST")] == [200]


def test_http_1_0_and_tls_take_a_large_body() -> None:
    server = FakeServer(is_tls=True)
    connection = server.connect()
    head = request(HOOK, f"Content-Length: {2 * MIB}").replace(b"HTTP/1.1", b"HTTP/1.0")
    connection.protocol.dataReceived(head)
    send(connection, 2 * MIB)
    assert [answer.status for answer in connection.answers("POST")] == [200]
    assert connection.closed and stored_sizes(server) == [2 * MIB]


def test_a_large_body_that_does_not_end_is_refused_in_time() -> None:
    """A few slow clients would hold all the memory for large bodies."""
    server = FakeServer()
    site = server.site()
    connection = server.connect(site)
    connection.protocol.dataReceived(request(HOOK, f"Content-Length: {20 * MIB}"))
    for _ in range(6):
        send(connection, 2 * MIB)
        server.clock.advance(5.1)
    (answer,) = connection.answers("POST")
    assert answer.status == 408 and (site._held, site._large) == (0, 0)
    (door,) = [use for use in server.telemetry.doors.report() if use.source == "hook/echo"]
    assert door.refusal is not None and "not complete within 30 s" in door.refusal.text


# Memory


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of large bodies that fit, beyond the first MiB of each."""
    monkeypatch.setattr(module, "MAX_LARGE", 4 * MIB)
    return 4 * MIB


def begin(server: FakeServer, site: Site, size: int) -> Connection:
    """Begin a body of 10 MiB, and send this much of it."""
    server.clock.advance(0.1)
    connection = server.connect(site)
    connection.protocol.dataReceived(request(HOOK, f"Content-Length: {10 * MIB}"))
    send(connection, size)
    return connection


def refused(connection: Connection) -> bool:
    """Return whether the connection was told to try again."""
    answers = connection.answers("POST") if connection.transport.value() else []
    for answer in answers:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "large bodies" in answer.text and connection.closed
    return bool(answers)


def test_the_body_that_arrives_for_longest_is_refused_where_all_do_not_fit(little: int) -> None:
    """Bodies of several clients would take all memory; or a slow client would keep all others out."""
    server = FakeServer()
    site = server.site()
    first, second, third = (begin(server, site, 2 * MIB) for _ in range(3))
    send(third, MIB)
    assert site._large == little
    assert not any(map(refused, (first, second, third)))
    send(second, MIB)
    assert [refused(each) for each in (first, second, third)] == [True, False, False]
    assert site._large == little
    send(second, MIB)  # the oldest now is itself
    assert refused(second) and not refused(third)
    assert site._large == 2 * MIB
    for connection in (first, second, third):
        connection.hang_up()
    assert (site._large, site._held) == (0, 0)


def test_the_memory_counts_until_the_request_is_answered(little: int) -> None:
    """A hundred bodies that wait for their turn would take all memory."""
    server = FakeServer()
    site = server.site()
    server.ingest.waiting = Deferred()
    waiting = post(server, HOOK, 3 * MIB, site=site)
    assert (waiting.answers(), site._large, site._held) == ([], 3 * MIB, 0)
    late = begin(server, site, 2 * MIB)
    assert not refused(late)
    send(late, MIB)
    assert refused(late)  # and not the one that is complete
    server.ingest.waiting.callback(Stored(stored=1))
    assert [answer.status for answer in waiting.answers("POST")] == [200]
    assert site._large == 0


def test_small_bodies_do_not_need_that_memory(little: int) -> None:
    """Large webhooks would keep all other events out."""
    server = FakeServer()
    site = server.site()
    server.ingest.waiting = Deferred()
    post(server, HOOK, 4 * MIB, site=site)
    assert site._large == little
    server.ingest.waiting = None
    for line, size, status in (
        ("POST /events", MIB, 200),
        ("POST /hook/lines", 64 * 1024, 200),
        ("POST /hook/lines", 64 * 1024 + 1, 503),
    ):
        connection = server.connect(site)
        body = b"a=1" + b"\n" * (size - 3)
        for at in range(0, size, 100_000):
            head = request(line, f"Content-Length: {size}") if not at else b""
            connection.protocol.dataReceived(head + body[at : at + 100_000])
        (answer,) = connection.answers("POST")
        assert answer.status == status


def test_a_client_that_hangs_up_gives_its_memory_back(little: int) -> None:
    """Hooks would be closed until a restart."""
    server = FakeServer()
    site = server.site()
    server.ingest.waiting = Deferred()
    waiting = post(server, HOOK, 4 * MIB, site=site)
    waiting.hang_up()
    assert site._large == 0
    server.ingest.waiting = None
    assert [a.status for a in post(server, HOOK, 4 * MIB, site=site).answers("POST")] == [200]


# Content-Encoding


def compressed(line: str, plain: bytes, *headers: str, coding: str = "gzip") -> bytes:
    return request(line, f"Content-Encoding: {coding}", *headers, body=gzip.compress(plain))


def answers_in_time(server: FakeServer, connection: Connection) -> list[Any]:
    """Let the reactor turn until the request is answered."""
    for _ in range(1000):
        if connection.transport.value():
            return connection.answers("POST")
        server.clock.advance(0)
    return []


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "identity"])
def test_a_hook_inflates_a_body(coding: str) -> None:
    """Some senders compress without asking."""
    server = FakeServer()
    sent = gzip.compress(b"text")
    answer = server.ask(HOOK, f"Content-Encoding: {coding}", body=sent)
    assert answer.status == 200
    ((group, _),) = server.ingest.groups
    labels = labels_of(group.events[0].series)
    assert labels["sent"] == str(len(sent))  # a signature is over these
    assert labels["size"] == str(len(sent) if coding == "identity" else 4)


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "gzip,br", "é"])
def test_other_codings_are_refused(coding: str) -> None:
    answer = FakeServer().ask(HOOK, f"Content-Encoding: {coding}", body=b"text")
    assert answer.status == 415 and answer.text.startswith("Content-Encoding: expected gzip or none, got '")


@pytest.mark.parametrize("line", ["POST /event", "POST /events"])
def test_other_doors_inflate_nothing(line: str) -> None:
    """Their bodies would cost more than 1 MiB."""
    server = FakeServer()
    connection = server.connect()
    connection.protocol.dataReceived(compressed(line, b"a=b"))
    (answer,) = connection.answers("POST")
    assert (answer.status, answer.text) == (415, "Content-Encoding: expected none, got gzip\n")


def test_a_large_body_is_inflated_in_turns_and_counts_until_it_is_answered() -> None:
    """A scrape would have to wait for it."""
    server = FakeServer()
    site = server.site()
    connection = server.connect(site)
    connection.protocol.dataReceived(compressed(HOOK, b"x" * MAX_HOOK_BODY_BYTES))
    assert connection.answers() == [] and 0 < site._large < MIB
    server.ingest.waiting = Deferred()
    for _ in range(200):
        server.clock.advance(0)
    assert site._large == MAX_HOOK_BODY_BYTES and len(server.ingest.groups) == 1
    server.ingest.waiting.callback(Stored(stored=1))
    assert [answer.status for answer in connection.answers("POST")] == [200]
    assert stored_sizes(server) == [MAX_HOOK_BODY_BYTES] and site._large == 0


def test_a_bomb_is_refused() -> None:
    server = FakeServer()
    site = server.site()
    connection = server.connect(site)
    connection.protocol.dataReceived(compressed(HOOK, bytes(8 * MAX_HOOK_BODY_BYTES)))
    (answer,) = answers_in_time(server, connection)
    assert (answer.status, answer.text) == (413, f"body: expected at most {MAX_HOOK_BODY_BYTES} bytes\n")
    assert site._large == 0 and server.ingest.groups == []


def test_many_bombs_together_are_refused(little: int) -> None:
    """Each would be within its limit."""
    server = FakeServer()
    site = server.site()
    server.ingest.waiting = Deferred()
    connections = [server.connect(site) for _ in range(5)]
    for connection in connections:
        connection.protocol.dataReceived(compressed(HOOK, bytes(3 * MIB)))
    for _ in range(100):
        server.clock.advance(0)
        assert site._large <= little + MIB
    statuses = [[a.status for a in c.answers("POST")] if c.transport.value() else [] for c in connections]
    assert [503] in statuses and site._large <= little
    for connection in connections:
        connection.hang_up()
    assert site._large == 0


def test_a_client_that_hangs_up_stops_the_inflation() -> None:
    """The daemon would work for nobody."""
    server = FakeServer()
    site = server.site()
    connection = server.connect(site)
    connection.protocol.dataReceived(compressed(HOOK, bytes(20 * MIB)))
    connection.hang_up()
    for _ in range(100):
        server.clock.advance(0)
    assert site._large == 0 and server.ingest.groups == []
