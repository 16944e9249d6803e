"""The fast path without a transport, on real sockets: same answers as the routes, and bounded."""

from __future__ import annotations

import fcntl
import random
import socket
import struct
import termios
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from support.bare_scraper import PATIENCE, Scraper
from support.descriptors import no_descriptors
from support.fake_store import logged
from support.fastpath_clients import EVENT, ask, held, knock
from support.fastpath_requests import ODD, QUICK, mutant, post
from support.ipv6 import needs_ipv6
from support.memory_site import TWISTEDS_OWN, open_server, reactor, until
from support.store_log import held_events
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from oneshotd.access.policy import AccessPolicy
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import Rules
from oneshotd.web.fastpath import listener as quick_port
from oneshotd.web.fastpath.requests import RequestMatcher


@pytest_twisted.ensureDeferred
async def test_no_transport_is_made_for_one_event(tmp_path: Path) -> None:
    """It would cost twice as much."""
    async with open_server(tmp_path) as server:
        ingest = held(server)
        with knock(server) as client:
            await ingest.hold(1)
            assert not server.site._channels
            ingest.stored()
            assert (await client.rest()).startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")


def segments_received(client: Scraper) -> int:
    """`tcpi_segs_in` of tcp(7)'s `struct tcp_info`, where Linux has it since 4.2."""
    info = client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
    return int(struct.unpack_from("I", info, 140)[0])


@pytest_twisted.ensureDeferred
async def test_the_answer_is_the_acknowledgement(tmp_path: Path) -> None:
    """Each segment costs the client as much as the answer's text costs us."""
    async with open_server(tmp_path) as server:
        received = []
        for _ in range(20):
            with knock(server) as client:
                assert b" 200 OK" in await client.rest()
                received.append(segments_received(client))
        # On a slow machine the kernel's time for it is over before the answer is here.
        assert min(received) == 2  # of the handshake, and the answer with the end


@pytest_twisted.ensureDeferred
async def test_a_request_in_pieces_is_acknowledged_at_once(tmp_path: Path) -> None:
    """The kernel keeps the second piece back until the first is acknowledged (Nagle): for 40 ms."""
    async with open_server(tmp_path) as server:

        async def delay(data: bytes) -> float:
            """Return seconds from the first sight of a connection until all of this is acknowledged."""
            with knock(server, data) as client:
                await until(lambda: len(server.site._channels) == 1, lambda: "nobody is here")
                seen = reactor.seconds()
                await until(
                    lambda: fcntl.ioctl(client.sock, termios.TIOCOUTQ, bytes(4)) == bytes(4),
                    lambda: "no acknowledgement",
                )
                found = reactor.seconds() - seen
            await until(lambda: not server.site._channels, lambda: "it is still here")
            return float(found)

        for data in (EVENT[:20], post("a=1"), post("a=2") * 2):
            # A busy kernel delivers an acknowledgement later, but not all of them.
            assert min([await delay(data) for _ in range(5)]) < 0.02


@pytest_twisted.ensureDeferred
async def test_every_request_is_answered_as_by_twisteds_own_port(tmp_path: Path) -> None:
    """Ordinary ones, odd ones, and hundreds with something wrong in them; and all has the same effect."""
    rng = random.Random(20261123)
    closing = [each.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost", 1) for each in (*QUICK, *ODD)]
    requests = [*QUICK, *ODD, *closing, *(mutant(rng, EVENT, *QUICK) for _ in range(500))]
    (tmp_path / "plain").mkdir()
    async with open_server(tmp_path) as quick, open_server(tmp_path / "plain", TWISTEDS_OWN) as plain:
        plain.site.matcher = None
        for data in requests:
            assert await ask(quick, data) == await ask(plain, data), data
        stored = [await held_events(server.store) for server in (quick, plain)]
        first, second = ([event.series for event in events] for events in stored)
        assert first == second and len(first) > 100


@pytest_twisted.ensureDeferred
async def test_a_request_whose_event_is_refused_goes_to_the_routes(tmp_path: Path) -> None:
    """Nothing of the request may have been used up."""
    async with open_server(tmp_path) as server:
        ingest = held(server)
        with knock(server) as client:
            await ingest.hold(1)
            ingest.room = 0
            ingest.callbacks.pop().on_failed()
            assert b" 200 OK" in await client.rest()
        assert (await server.store.stats()).events == 1


@pytest_twisted.ensureDeferred
async def test_there_are_only_so_many_without_a_transport(tmp_path: Path) -> None:
    """While the disk hangs, clients that have long given up would take all descriptors."""
    async with open_server(tmp_path) as server:
        ingest = held(server)
        crowd = [knock(server) for _ in range(quick_port.MAX_BARE + 3)]
        await ingest.hold(len(crowd))
        assert len(server.site._channels) == 3
        ingest.stored()
        for client in crowd:
            assert b" 200 OK" in await client.rest()
            client.close()
        with knock(server):
            await ingest.hold(1)
            assert not server.site._channels
            ingest.stored()


@pytest_twisted.ensureDeferred
async def test_a_client_that_has_gone_hurts_nobody(tmp_path: Path) -> None:
    """With FIN or with RST, before the answer or before it is accepted at all."""
    async with open_server(tmp_path) as server:
        ingest = held(server)
        for reset in (False, True):
            for wait in (False, True):
                client = knock(server)
                if wait:
                    await ingest.hold(1)
                client.reset() if reset else client.close()
                await deferLater(reactor, 0.05)
                ingest.stored()
        with knock(server) as client:
            await ingest.hold(1)
            ingest.stored()
            assert b" 200 OK" in await client.rest()


@pytest_twisted.ensureDeferred
async def test_a_client_that_may_not_emit_gets_403(tmp_path: Path) -> None:
    async with open_server(tmp_path) as server:
        server.doors.access = AccessPolicy(emit=Networks.parse(["192.0.2.0/24"]))
        server.site.matcher = RequestMatcher(server.site.matcher.ingest, Rules(), server.doors.access)
        assert b" 403 " in await ask(server, EVENT)


@pytest_twisted.ensureDeferred
async def test_shutdown_waits_for_connections_without_a_transport(tmp_path: Path) -> None:
    """Their events are on disk, and they would not hear of it."""
    async with open_server(tmp_path) as server:
        ingest = held(server)
        with knock(server) as client:
            await ingest.hold(1)
            finished = server.site.finish()
            assert not finished.called
            ingest.stored()
            assert finished.called
            assert b" 200 OK" in await client.rest()


@pytest_twisted.ensureDeferred
async def test_clients_in_the_backlog_at_shutdown_are_answered(tmp_path: Path) -> None:
    """A restart would refuse events that have been sent already."""
    async with open_server(tmp_path) as server:
        requests = [EVENT, post("a=2")] * quick_port.TURN_ACCEPTS
        crowd = [knock(server, data) for data in requests]
        server.port.stopListening()
        finished = server.site.finish()
        for client in crowd:
            assert b" 200 OK" in await client.rest()
            client.close()
        await finished
        assert (await server.store.stats()).events == len(crowd)


@pytest_twisted.ensureDeferred
async def test_after_a_bug_connections_are_still_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twisted drops a reader whose doRead raises, and the port would stop accepting."""
    async with open_server(tmp_path) as server:
        recognize = server.site.matcher.recognize
        bug = [RuntimeError("a bug")]

        def stumble(*args: Any, **options: Any) -> Any:
            if bug:
                raise bug.pop()
            return recognize(*args, **options)

        monkeypatch.setattr(server.site.matcher, "recognize", stumble)
        with logged() as events, knock(server) as first, knock(server) as second:
            for client in (first, second):
                assert b" 200 OK" in await client.rest()
        assert not bug
        assert [event["log_failure"].value.args for event in events if "log_failure" in event] == [("a bug",)]


@needs_ipv6
@pytest_twisted.ensureDeferred
async def test_an_ipv4_client_of_a_dual_stack_socket_has_its_ipv4_address(tmp_path: Path) -> None:
    """At a socket for both families it is ::ffff:127.0.0.1, and no address that is allowed."""
    async with open_server(tmp_path, "0") as server:
        server.doors.access = AccessPolicy(emit=Networks.parse(["127.0.0.0/8"]))
        server.site.matcher = RequestMatcher(server.site.matcher.ingest, Rules(), server.doors.access)
        port = cast(Any, server.port.getHost()).port
        for host, status in (("127.0.0.1", b" 200 OK"), ("::1", b" 403 ")):
            for data in (EVENT, post("a=2")):
                with socket.create_connection((host, port), timeout=PATIENCE) as sock:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    assert status in await deferToThread(sock.recv, 4096)


@pytest_twisted.ensureDeferred
async def test_without_descriptors_accept_is_tried_again_later_and_logged(tmp_path: Path) -> None:
    """The reactor would spin, or the port would never accept again."""
    async with open_server(tmp_path) as server:
        with knock(server) as client, knock(server, post("a=2")) as other, logged() as events:
            with no_descriptors():
                await deferLater(reactor, 3.5 * quick_port.RESPITE)
            other.finish_sending()
            for each in (client, other):
                assert b" 200 OK" in await each.rest()
            server.port.stopListening()  # what was counted is said
        said = [event["count"] for event in events if event.get("text") == "Too many open files"]
        assert sum(said) in (3, 4)  # times that it tried


@pytest_twisted.ensureDeferred
async def test_the_last_descriptor_is_enough(tmp_path: Path) -> None:
    """A scraper would be reset again and again: for a moment its connection has two of them."""
    async with open_server(tmp_path) as server:
        for _ in range(3):
            with knock(server, post("a=2")) as client, no_descriptors(spare=1):
                assert (await client.answer("POST")).status == 200
