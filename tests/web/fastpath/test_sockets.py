"""The short way of an event on real sockets: what it sends past the transport has to arrive."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from support.bare_scraper import PATIENCE
from support.fastpath_requests import ORDINARY, post
from support.memory_site import TWISTEDS_OWN, MemoryServer, open_server, until

from oneshotd.access.policy import AccessPolicy
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import Rules
from oneshotd.web.fastpath.requests import RequestMatcher

#: Twisted hands pyOpenSSL its own kind of certificates still.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

BATCH = ORDINARY * 100

TRANSPORTS = {
    "localhost": "localhost:0",
    "tcp": TWISTEDS_OWN,
    "unix": "unix:{}/http",
    "haproxy": f"haproxy:{TWISTEDS_OWN}",
}


@pytest.fixture(params=[*TRANSPORTS, "tls"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An endpoint string of each transport."""
    if request.param == "tls":
        return str(request.getfixturevalue("tls"))
    return TRANSPORTS[request.param].format(tmp_path)


async def _emit(server: MemoryServer, where: str, *pieces: bytes) -> bytes:
    """All that one connection gets for these bytes, until it ends."""
    with server.scraper() as client:
        if where.startswith("ssl:"):
            await client.handshake()
        if where.startswith("haproxy:"):
            client.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 80\r\n")
        for piece in pieces:
            client.send(piece)
            if piece is not pieces[-1]:
                await client.answer("POST")
        return await client.rest()


@pytest_twisted.ensureDeferred
async def test_an_event_is_answered_over_every_transport(tmp_path: Path, where: str) -> None:
    """Over TLS its answer once went out in the clear."""
    async with open_server(tmp_path, where) as server:
        last = await _emit(server, where, post("a=1"), post("a=2"), post("a=3", "Connection: close"))
        assert last.startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
        assert last.endswith(b"\r\n\r\nok\n")
        assert (await server.store.stats()).events == 3


@pytest_twisted.ensureDeferred
async def test_what_stands_behind_a_request_to_close_resets_nothing(tmp_path: Path, where: str) -> None:
    """A client that sent a line end too many would lose its answer."""
    async with open_server(tmp_path, where) as server:
        answer = await _emit(server, where, post("a=1", "Connection: close") + b"\r\n" + post("a=2"))
        assert answer.count(b"200 OK") == 1
        assert (await server.store.stats()).events == 1


@pytest_twisted.ensureDeferred
async def test_who_may_emit_is_told_by_the_proxy_in_front(tmp_path: Path) -> None:
    """By the PROXY protocol, which speaks after the connection was made."""
    async with open_server(tmp_path, TRANSPORTS["haproxy"]) as server:
        server.doors.access = AccessPolicy(emit=Networks.parse(["127.0.0.0/8"]))
        server.site.matcher = RequestMatcher(server.site.matcher.ingest, Rules(), server.doors.access)
        assert b" 403 " in await _emit(server, TRANSPORTS["haproxy"], post("a=1", "Connection: close"))


@pytest_twisted.ensureDeferred
async def test_what_a_client_sent_before_its_end_is_answered(tmp_path: Path) -> None:
    """``nc -N`` with several requests; what is refused is answered at once, what is stored later."""
    async with open_server(tmp_path) as server:
        with server.scraper() as client:
            client.send(ORDINARY + post("") * 3 + ORDINARY)
            client.finish_sending()
            assert re.findall(rb"HTTP/1.1 (\d+)", await client.rest()) == [b"200", *[b"400"] * 3, b"200"]


@pytest_twisted.ensureDeferred
async def test_answers_that_do_not_fit_the_socket_all_arrive(tmp_path: Path) -> None:
    """To a client that sends thousands of events and only then reads."""
    async with open_server(tmp_path) as server:
        with server.scraper(window=1) as client:
            client.sock.settimeout(0)
            sent = bytearray()

            def is_full() -> object:
                with suppress(BlockingIOError):
                    sent.extend(BATCH[: client.sock.send(BATCH[len(sent) % len(BATCH) :])])
                return server.site.unread

            await until(is_full, lambda: f"{len(sent)} bytes were taken")
            client.sock.settimeout(PATIENCE)
            client.finish_sending()
            answers = await client.rest()
        whole = len(sent) // len(ORDINARY)
        assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"\r\n\r\nok\n") == whole
        assert (await server.store.stats()).events == whole


@pytest.mark.parametrize(("members", "status"), [(["unix"], 200), (["192.0.2.0/24"], 403), ([], 200)])
@pytest.mark.parametrize("more", ["X-Odd: 1", "Accept: */*"], ids=["channel", "matcher"])
@pytest_twisted.ensureDeferred
async def test_a_unix_socket_is_admitted_by_name(
    tmp_path: Path, members: list[str], status: int, more: str
) -> None:
    """By the short way and by the long one alike."""
    where = TRANSPORTS["unix"].format(tmp_path)
    async with open_server(tmp_path, where) as server:
        server.doors.access = AccessPolicy(emit=Networks.parse(members))
        server.site.matcher = RequestMatcher(server.site.matcher.ingest, Rules(), server.doors.access)
        answer = await _emit(server, where, post("a=1", more, "Connection: close"))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert (await server.store.stats()).events == (status == 200)


@pytest_twisted.ensureDeferred
async def test_unnamed_scrapers_behind_a_unix_socket_are_told_apart(tmp_path: Path) -> None:
    """They were one, and each event went to one of them."""
    where = TRANSPORTS["unix"].format(tmp_path)
    async with open_server(tmp_path, where) as server:
        server.doors.trusted_proxies = Networks.parse(["unix"])
        events = await server.happen(3)
        for address in ("192.0.2.7", "192.0.2.8"):
            with server.scraper() as scraper:
                scraper.ask("", f"X-Forwarded-For: {address}", path="/metrics")
                assert (await scraper.answer()).events == events
