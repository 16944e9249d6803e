"""Tracking of acknowledgements over Unix sockets and TLS."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import pytest_twisted
from support.memory_site import MANY, everything, open_server, until

from oneshotd.web.transport.channel import Channel

#: Twisted hands pyOpenSSL its own kind of certificates still.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

NOTHING: Counter[int] = Counter()
SIZES = pytest.mark.parametrize("count", [1, MANY], ids=["small", "large"])


# Unix sockets


@SIZES
@pytest_twisted.ensureDeferred
async def test_over_a_unix_socket_what_was_read_does_not_come_again(tmp_path: Path, count: int) -> None:
    """Behind a proxy on the same machine every event would be counted twice, or not at all."""
    async with open_server(tmp_path, f"unix:{tmp_path}/http") as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            assert await everything(scraper) == events
            await server.fate("delivered", "final")
            scraper.ask()
            assert (await scraper.answer()).events == NOTHING


@SIZES
@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("read", [0, 1])
@pytest_twisted.ensureDeferred
async def test_over_a_unix_socket_a_dropped_response_is_repeated(
    tmp_path: Path, count: int, half_closed: bool, read: int
) -> None:
    """The kernel empties the queue of a peer that closes: as if it had read everything."""
    async with open_server(tmp_path, f"unix:{tmp_path}/http") as server:
        events = await server.happen(count)
        scraper = server.scraper()
        scraper.ask()
        if half_closed:
            scraper.finish_sending()
        await scraper.read(read)
        await server.shipped()
        assert server.last == []
        scraper.close()
        await server.fate("returned")
        assert await server.scrape() == events
        assert await server.scrape() == NOTHING


@pytest_twisted.ensureDeferred
async def test_over_a_unix_socket_a_scraper_that_closes_first_gets_it_again(tmp_path: Path) -> None:
    """A scraper that gives up while the store works would lose its events."""
    async with open_server(tmp_path, f"unix:{tmp_path}/http") as server:
        events = await server.happen()
        scraper = server.scraper()
        scraper.ask()
        scraper.close()
        await until(lambda: server.last == ["returned"], lambda: str(server.last))
        assert await server.scrape() == events


# TLS


@SIZES
@pytest_twisted.ensureDeferred
async def test_over_tls_what_was_read_does_not_come_again(tmp_path: Path, tls: str, count: int) -> None:
    """Every event would be counted twice, or not at all."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            await scraper.handshake()
            for expected in (events, NOTHING):
                scraper.ask()
                assert (await scraper.answer()).events == expected
        assert server.fates == [["delivered", "final"]]


@SIZES
@pytest.mark.parametrize("header", ["Connection: close", "Connection: keep-alive"])
@pytest_twisted.ensureDeferred
async def test_over_tls_a_response_read_to_its_end_is_delivered_without_close_notify(
    tmp_path: Path, tls: str, count: int, header: str
) -> None:
    """A client that drops the connection without close_notify, as many do, would be served twice."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            await scraper.handshake()
            scraper.ask("one", header)
            assert (await scraper.answer()).events == events
        await server.fate("delivered", "final")
        await until(lambda: not server.site._channels, lambda: "the connection is still open")
        with server.scraper() as scraper:
            await scraper.handshake()
            scraper.ask()
            assert (await scraper.answer()).events == NOTHING


@pytest.mark.parametrize("goodbye", [False, True], ids=["reset", "close_notify"])
@pytest.mark.parametrize("read", [1, 2_000_000])
@pytest_twisted.ensureDeferred
async def test_over_tls_a_response_read_in_part_is_repeated(
    tmp_path: Path, tls: str, goodbye: bool, read: int
) -> None:
    """A scrape that is given up in the middle would lose everything in it."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(MANY)
        scraper = server.scraper()
        await scraper.handshake()
        scraper.ask()
        await scraper.read(read)
        assert server.last == []
        if goodbye:
            scraper.say_goodbye()
            scraper.close()
        else:
            scraper.reset()
        await server.fate("returned")
        with server.scraper() as scraper:
            await scraper.handshake()
            assert await everything(scraper) == events


@pytest_twisted.ensureDeferred
async def test_over_tls_a_scraper_that_sends_close_notify_early_gets_it_again(
    tmp_path: Path, tls: str
) -> None:
    """TLS drops writes after close_notify: without a sign, the events would be lost."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(MANY)
        with server.scraper() as scraper:
            await scraper.handshake()
            scraper.ask()
            await scraper.read(1)
            scraper.say_goodbye()
            with pytest.raises(ConnectionResetError):
                await scraper.rest_raw()
            assert server.last == ["returned"]
        with server.scraper() as scraper:
            await scraper.handshake()
            assert await everything(scraper) == events


@pytest_twisted.ensureDeferred
async def test_over_tls_a_client_that_does_not_answer_close_notify_is_reset(
    tmp_path: Path, tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS waits for the peer's close_notify: such a client would hold its connection for ever."""
    monkeypatch.setattr(Channel, "abortTimeout", 0.2)
    async with open_server(tmp_path, tls, idle_timeout=0.2) as server:
        with server.scraper() as scraper:
            await scraper.handshake()
            scraper.ask("one", "Connection: close")
            assert (await scraper.answer()).status == 200
            await until(lambda: not server.site._channels, lambda: "the connection is still open")


@pytest_twisted.ensureDeferred
async def test_http_2_is_not_offered(tmp_path: Path, tls: str) -> None:
    """A request would no longer be bound to a connection, whose acknowledgements would prove nothing."""
    async with open_server(tmp_path, tls) as server:
        with server.scraper() as scraper:
            assert await scraper.handshake("h2", "http/1.1") == "http/1.1"
