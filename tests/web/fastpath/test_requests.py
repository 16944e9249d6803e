"""With and without the fast path, each request is answered the same and has the same effect."""

from __future__ import annotations

import random
import re
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fastpath_requests import ODD, ORDINARY, QUICK, TakingIngest, mutant, post
from support.web_fakes import FakeServer
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from oneshotd.core.events import NewEvent
from oneshotd.core.parsing.formats import Rules
from oneshotd.errors import Refused
from oneshotd.web.fastpath.blocks import MAX_BLOCKS, NO_SANS
from oneshotd.web.fastpath.channel import MAX_AHEAD, FastPathChannel
from oneshotd.web.fastpath.requests import MAX_TOGETHER, RequestMatcher

PEER = IPv4Address("TCP", "192.0.2.7", 40000)
CALLER = (PEER.host, NO_SANS)


class Line:
    """One connection, with the short way or without it."""

    def __init__(self, quick: bool, server: FakeServer | None = None) -> None:
        self.server = server or FakeServer()
        self.ingest = TakingIngest(clock=self.server.clock)
        self.server.ingest = self.ingest
        site = self.server.site()
        if quick:
            site.protocol = cast(Any, FastPathChannel)
            site.matcher = RequestMatcher(cast(Any, self.ingest), Rules(), self.server.access)
        self.matcher: RequestMatcher = site.matcher
        self.site = site
        self.short = 0
        self.transport = StringTransport(peerAddress=PEER)
        self.channel = cast(Any, site.buildProtocol(PEER))
        self.channel.makeConnection(self.transport)

    def send(self, *pieces: bytes, commit: bool = True) -> None:
        for piece in pieces:
            if self.is_closed:
                return  # a real transport reads no further
            self.channel.dataReceived(piece)
            self.server.clock.advance(0)
            if commit:
                self.short += self.ingest.commit()
                self.server.clock.advance(0)

    @property
    def output(self) -> bytes:
        """What came back; the time of day may differ."""
        return re.sub(rb"Date: [^\r]*", b"Date: -", _sorted_headers(self.transport.value()))

    @property
    def events(self) -> list[tuple[list[NewEvent], str | None]]:
        return [(list(group.events), group.key) for group, _ in self.ingest.groups]

    @property
    def is_closed(self) -> bool:
        return bool(self.transport.disconnecting)


def _sorted_headers(output: bytes) -> bytes:
    """The order of headers means nothing."""
    head = re.compile(rb"(HTTP/1\.1 [^\r]*\r\n)((?:[^\r\n]+\r\n)*)(?=\r\n)")
    return head.sub(lambda found: found[1] + b"".join(sorted(found[2].splitlines(True))), output)


def same(*pieces: bytes) -> Line:
    """Both ways answer these bytes alike; gives the one with the matcher."""
    plain, quick = Line(quick=False), Line(quick=True)
    plain.send(*pieces)
    quick.send(*pieces)
    assert quick.output == plain.output
    assert quick.events == plain.events
    assert quick.is_closed == plain.is_closed
    assert quick.server.telemetry.refusals == plain.server.telemetry.refusals
    return quick


@pytest.mark.parametrize("request_", QUICK)
def test_plain_requests_take_the_fast_path(request_: bytes) -> None:
    assert same(request_).short == 1


@pytest.mark.parametrize("request_", ODD)
def test_odd_requests_are_answered_the_same(request_: bytes) -> None:
    same(request_)
    same(request_ + ORDINARY)
    same(ORDINARY + request_ + ORDINARY)
    same(*(request_[i : i + 7] for i in range(0, len(request_), 7)))


_PARTS = st.sampled_from(
    [
        *(b"POST", b"GET", b"post", b" ", b"  ", b"/event?", b"/event", b"/metrics", b"/events"),
        *(b"a=1", b"&", b"type=deploy", b"value=3", b"%20", b"+", b"\xff", b"#", b"=", b"__id__=k"),
        *(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n", b"\n", b"\r", b"Host: a\r\n", b"Host: b c\r\n"),
        *(b"Content-Length: 0\r\n", b"Content-Length: 2\r\n", b"Connection: close\r\n", b"\r\n\r\n"),
        post("c=3", "Connection: close"),
        *(b"Transfer-Encoding: chunked\r\n", b"User-Agent: x\r\n", b"X: y\r\n", ORDINARY, post("b=2")),
    ]
)


@given(st.lists(_PARTS, max_size=14).map(b"".join), st.integers(1, 60))
def test_any_bytes_are_answered_the_same(data: bytes, size: int) -> None:
    same(data)
    same(*(data[at : at + size] for at in range(0, len(data), size)))


def test_thousands_of_requests_are_answered_the_same() -> None:
    rng = random.Random(20241122)
    requests = [
        ORDINARY,
        post("c=3", "Connection: close"),
        post("b=2&c=x.y"),
        post("a=1", "Content-Length: 0"),
    ]
    for _ in range(3000):
        same(mutant(rng, *requests) + rng.choice([b"", ORDINARY]))


def test_pipelined_requests_keep_their_order() -> None:
    health = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    line = same(ORDINARY + post("b=1") + health + post("c=1") + health)
    assert line.output.count(b"200 OK") == 5
    assert line.short == 2  # what stands behind another request goes with it


def test_data_that_arrives_during_a_commit_waits_for_its_answer() -> None:
    line = Line(quick=True)
    line.send(ORDINARY, b"GET /healthz HTTP/1.1\r\n", b"Host: a\r\n\r\n", commit=False)
    assert line.output == b""
    line.send(b"")
    assert line.output.count(b"200 OK") == 2
    assert line.output.index(b"Content-Length: 3") < len(line.output) // 2


def test_a_client_that_sends_without_end_is_read_no_further() -> None:
    """Its memory is bounded while the disk is slow, and it goes on afterwards."""
    line = Line(quick=True)
    line.send(ORDINARY, commit=False)
    while line.transport.producerState == "producing":
        line.send(ORDINARY * 100, commit=False)
    assert len(line.channel._ahead) <= MAX_AHEAD + 100 * len(ORDINARY)
    while line.ingest.taken:
        line.send(b"")
    assert line.transport.producerState == "producing"
    assert line.output.count(b"200 OK") == len(line.events) == line.short


def test_pipelined_requests_that_go_together_are_bounded() -> None:
    line = Line(quick=True)
    line.send(ORDINARY * (MAX_TOGETHER + 1), commit=False)
    assert len(line.ingest.taken[0][0]) == MAX_TOGETHER
    line.send(b"")
    assert line.output.count(b"200 OK") == MAX_TOGETHER + 1


@pytest.mark.parametrize("room", [True, False])
def test_a_refusal_of_the_store_is_answered_by_the_routes(room: bool) -> None:
    plain, quick = Line(quick=False), Line(quick=True)
    for line in (plain, quick):
        line.ingest.outcome = Refused("not stored: full", reason="store", status=503)
        line.ingest.room = room
    plain.send(ORDINARY + ORDINARY)
    quick.send(ORDINARY + ORDINARY, commit=False)
    quick.ingest.commit(stored=False)
    quick.server.clock.advance(0)
    assert quick.output == plain.output
    assert quick.output.count(b"503 Service Unavailable") == 2
    assert b"Retry-After" in quick.output


def test_a_client_that_may_not_emit_gets_403() -> None:
    for allowed, status in (("192.0.2.0/24", b"200"), ("198.51.100.0/24", b"403")):
        plain, quick = (Line(quick, FakeServer(allow_emit=[allowed])) for quick in (False, True))
        plain.send(ORDINARY)
        quick.send(ORDINARY)
        assert quick.output == plain.output
        assert quick.output.startswith(b"HTTP/1.1 " + status)


def test_a_client_that_has_gone_stops_nobody() -> None:
    line = Line(quick=True)
    line.send(ORDINARY, commit=False)
    line.channel.connectionLost()
    assert line.ingest.commit() == 1
    assert line.output == b""


def test_a_client_that_has_sent_all_gets_its_answer() -> None:
    """``nc -N`` closes its side after the request."""
    line = Line(quick=True)
    line.send(ORDINARY, commit=False)
    line.channel.readConnectionLost()
    assert not line.is_closed
    line.send(b"")
    assert line.output.count(b"200 OK") == 1
    assert line.is_closed


def test_a_slow_disk_is_not_the_clients_fault() -> None:
    """No request is cut off while the store has it; afterwards the idle limit counts."""
    line = Line(quick=True)
    line.send(ORDINARY, commit=False)
    line.server.clock.pump([line.site.idle_timeout] * 3)
    assert not line.is_closed
    line.send(b"")
    line.server.clock.advance(line.site.idle_timeout - 1)
    assert not line.is_closed
    line.send(ORDINARY)
    line.server.clock.advance(line.site.idle_timeout - 1)
    assert not line.is_closed
    line.server.clock.advance(2)
    assert line.is_closed


def test_an_unfinished_request_is_cut_as_ever() -> None:
    line = Line(quick=True)
    line.send(ORDINARY, ORDINARY[:-2])
    line.server.clock.advance(line.site.request_timeout + 1)
    assert line.is_closed


def test_at_the_end_it_closes_after_its_answer() -> None:
    line = Line(quick=True)
    line.send(ORDINARY, commit=False)
    line.site.finish()
    assert not line.is_closed
    line.send(b"")
    assert line.output.count(b"200 OK") == 1
    assert line.is_closed


def test_invented_headers_take_no_memory() -> None:
    line = Line(quick=True)
    for number in range(2 * MAX_BLOCKS):
        line.matcher.recognize(post("a=1", f"User-Agent: {number}"), CALLER)
    assert len(line.matcher._blocks._blocks) <= MAX_BLOCKS


def test_the_first_request_has_no_model() -> None:
    assert Line(quick=True).matcher.recognize(b"POST /event?a=1\0", CALLER) == ([], 0, False, None)
