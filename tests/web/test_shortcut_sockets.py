"""The short way of an event on real sockets: what it sends past the transport has to arrive."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from web.bare_scraper import PATIENCE
from web.house import House, open_house, until
from web.test_shortcut import ORDINARY, post

#: Twisted hands pyOpenSSL its own kind of certificates still.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

BATCH = ORDINARY * 100

TRANSPORTS = ("tcp", "unix", "tls")


@pytest.fixture(params=TRANSPORTS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An endpoint string of each transport."""
    if request.param == "tls":
        return str(request.getfixturevalue("tls"))
    return "tcp:0:interface=127.0.0.1" if request.param == "tcp" else f"unix:{tmp_path}/http"


async def _emit(house: House, where: str, *pieces: bytes) -> bytes:
    """All that one connection gets for these bytes, until it ends."""
    with house.scraper() as client:
        if where.startswith("ssl:"):
            await client.handshake()
        for piece in pieces:
            client.send(piece)
            if piece is not pieces[-1]:
                await client.answer("POST")
        return await client.rest()


@pytest_twisted.ensureDeferred
async def test_an_event_is_answered_over_every_transport(tmp_path: Path, where: str) -> None:
    """Over TLS its answer once went out in the clear."""
    async with open_house(tmp_path, where) as house:
        last = await _emit(house, where, post("a=1"), post("a=2"), post("a=3", "Connection: close"))
        assert last.startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
        assert last.endswith(b"\r\n\r\nok\n")
        assert (await house.store.census()).events == 3


@pytest_twisted.ensureDeferred
async def test_what_stands_behind_a_request_to_close_resets_nothing(tmp_path: Path, where: str) -> None:
    """A client that sent a line end too many would lose its answer."""
    async with open_house(tmp_path, where) as house:
        answer = await _emit(house, where, post("a=1", "Connection: close") + b"\r\n" + post("a=2"))
        assert answer.count(b"200 OK") == 1
        assert (await house.store.census()).events == 1


@pytest_twisted.ensureDeferred
async def test_answers_that_do_not_fit_the_socket_all_arrive(tmp_path: Path) -> None:
    """To a client that sends thousands of events and only then reads."""
    async with open_house(tmp_path) as house:
        with house.scraper(window=1) as client:
            client.sock.settimeout(0)
            sent = bytearray()

            def is_full() -> object:
                with suppress(BlockingIOError):
                    sent.extend(BATCH[: client.sock.send(BATCH[len(sent) % len(BATCH) :])])
                return house.site.unread

            await until(is_full, lambda: f"{len(sent)} bytes were taken")
            client.sock.settimeout(PATIENCE)
            client.finish_sending()
            answers = await client.rest()
        whole = len(sent) // len(ORDINARY)
        assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"\r\n\r\nok\n") == whole
        assert (await house.store.census()).events == whole
