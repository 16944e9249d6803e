"""Connections with one event each, accepted in one turn: compared together, answered one by one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from support.bare_scraper import Scraper
from support.fastpath_clients import EVENT, ask, heard, held, knock
from support.fastpath_requests import TakingIngest, mutant, post
from support.memory_site import TWISTEDS_OWN, MemoryServer, open_server, reactor
from support.store_log import held_events

from oneshotd.access.policy import AccessPolicy
from oneshotd.core.parsing.formats import Rules
from oneshotd.web.fastpath.blocks import NO_SANS
from oneshotd.web.fastpath.requests import RequestMatcher

CLOSE = "Connection: close"
CALLER = ("192.0.2.7", NO_SANS)


def matcher() -> RequestMatcher:
    return RequestMatcher(cast(Any, TakingIngest(clock=reactor)), Rules(), AccessPolicy())


def alone(data: bytes) -> str | None:
    """What a request is to a matcher that has seen no other."""
    series, end, closes, _ = matcher().recognize(data, CALLER)
    return series[0] if closes and len(series) == 1 and end == len(data) else None


def usual(rng: random.Random) -> bytes:
    """A request like most; sometimes with something wrong in its query."""
    request = post(f"type=deploy&n={rng.randrange(10**6)}", CLOSE)
    if rng.random() < 0.05:
        at = rng.randrange(12, request.index(b" HTTP/1.1"))
        wrong = [b"\n", b" ", b"\r\n", b"%31", b"\xff", b"&", b"\ntype=deploy&n=1", b" HTTP/1.1\r\n"]
        request = request[:at] + rng.choice(wrong) + request[at:]
    return request


def other(rng: random.Random) -> bytes:
    """A request that is not like the one before."""
    queries = ["a=1", "type=deploy", "n=1&type=deploy", "type=deploy&n=" + 4097 * "x", "type=&n=1"]
    request = post(rng.choice(queries), *rng.choice([(CLOSE,), (CLOSE, "Accept: */*"), ()]))
    return rng.choice([request, mutant(rng, request), request + request, request[:-2], b""])


def test_together_they_are_what_each_is_alone() -> None:
    """One that is not ordinary must not go along with those that are."""
    rng = random.Random(20261124)
    known = matcher()
    together = 0
    for _ in range(3000):
        requests = [usual(rng) if rng.random() < 0.97 else other(rng) for _ in range(rng.randrange(1, 9))]
        wanted = [alone(data) for data in requests]
        found = known.recognize_each([(data, CALLER) for data in requests])
        assert [each and each[0] for each in found] == wanted, requests
        together += None not in wanted and len(wanted) > 1
    assert together > 1000


def crowd(server: MemoryServer, *requests: bytes) -> list[Scraper]:
    """Clients that are all there before the reactor sees the first."""
    clients = [knock(server, data) for data in requests]
    for client in clients:
        client.finish_sending()
    return clients


async def answers(clients: list[Scraper]) -> list[bytes]:
    try:
        return [await heard(client) for client in clients]
    finally:
        for client in clients:
            client.close()


@pytest_twisted.ensureDeferred
async def test_connections_of_one_turn_are_answered_as_by_twisteds_own_port(tmp_path: Path) -> None:
    """Each gets its own answer, and every event is stored that would be."""
    rng = random.Random(20261125)
    (tmp_path / "plain").mkdir()
    async with open_server(tmp_path) as quick, open_server(tmp_path / "plain", TWISTEDS_OWN) as plain:
        plain.site.matcher = None
        for _ in range(20):
            requests = [usual(rng) if rng.random() < 0.9 else post("a=1 b", CLOSE) for _ in range(30)]
            wanted = [await ask(plain, data) for data in requests]
            assert await answers(crowd(quick, *requests)) == wanted
        stored = [await held_events(server.store) for server in (quick, plain)]
        first, second = (sorted(event.series for event in events) for events in stored)
        assert first == second and len(first) > 400


@pytest_twisted.ensureDeferred
async def test_an_odd_request_among_them_goes_to_the_routes(tmp_path: Path) -> None:
    """The others are not handed to a channel because of it."""
    async with open_server(tmp_path) as server:
        ingest = held(server)
        odd = post("a=1&value=3", CLOSE)
        clients = crowd(server, EVENT, EVENT, odd, EVENT)
        await ingest.hold(3)
        ingest.stored()
        assert all(b" 200 OK" in answer for answer in await answers(clients))
        assert [event.value for event in await held_events(server.store)] == ["3"]


@pytest_twisted.ensureDeferred
async def test_if_there_is_no_room_for_all_events_some_are_taken(tmp_path: Path) -> None:
    """The rest is refused, or stored, by the routes."""
    async with open_server(tmp_path) as server:
        ingest = held(server)
        ingest.room = 3
        clients = crowd(server, *[EVENT] * 8)
        await ingest.hold(3)  # half of half of them, and one that a channel took
        ingest.stored()
        assert all(b" 200 OK" in answer for answer in await answers(clients))
        assert (await server.store.stats()).events == 5


# Twisted leaves its duplicate of a socket that has gone to the interpreter.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest_twisted.ensureDeferred
async def test_a_client_that_has_gone_affects_no_other(tmp_path: Path) -> None:
    """Nor do all when the store refuses them."""
    async with open_server(tmp_path) as server:
        ingest = held(server)
        for refused in (False, True):
            clients = crowd(server, *[EVENT] * 5)
            await ingest.hold(5)
            assert len(ingest.callbacks) <= 2  # the first shows what the others are like
            clients.pop(2).reset()
            if refused:
                ingest.room = 0
                for callback in ingest.callbacks:
                    callback.on_failed()
            else:
                ingest.stored()
            assert all(b" 200 OK" in answer for answer in await answers(clients))
