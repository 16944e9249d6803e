"""Connections over TCP: how long they may take, how many there may be, and how they end."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from support import web_fakes
from support.bare_scraper import Scraper
from support.memory_site import MANY, TWISTEDS_OWN, open_server, reactor, until
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from oneshotd.web.transport.channel import SHUTDOWN_GRACE, Channel
from oneshotd.web.transport.request import LINGER

#: Seconds of the time limits here, and how much later a loaded machine may be.
BRIEF, LATE = 0.3, 5.0


async def ended(scraper: Scraper, since: float, after: float) -> None:
    """The daemon closes this connection so long after that time."""
    await scraper.rest()
    assert after - 0.05 < reactor.seconds() - since < after + LATE


# Time limits


@pytest_twisted.ensureDeferred
async def test_a_request_that_trickles_in_is_cut(tmp_path: Path) -> None:
    """A few clients that send a byte now and then would hold all connections for ever."""
    async with open_server(tmp_path, request_timeout=BRIEF, idle_timeout=60) as server:
        with server.scraper() as scraper:
            since = reactor.seconds()
            scraper.send(b"GET /metrics HTTP/1.1\r\n")
            await until(lambda: server.site._channels, lambda: "no connection")
            with suppress(OSError):  # the last line comes too late
                while server.site._channels:
                    assert reactor.seconds() < since + LINGER + LATE
                    await deferLater(reactor, BRIEF / 10)
                    scraper.send(b"a: b\r\n")
            assert reactor.seconds() - since > BRIEF - 0.05


@pytest.mark.parametrize("first", ["GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", ""], ids=["second", "first"])
@pytest.mark.parametrize(
    "part",
    ["GET / HTTP/1.1\r\nHo", "POST /event?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na"],
    ids=["headers", "body"],
)
@pytest_twisted.ensureDeferred
async def test_a_request_that_does_not_end_is_cut(tmp_path: Path, first: str, part: str) -> None:
    """Also if it arrives together with the request before it."""
    async with open_server(tmp_path, request_timeout=BRIEF, idle_timeout=60) as server:
        with server.scraper() as scraper:
            since = reactor.seconds()
            scraper.send((first + part).encode())
            await ended(scraper, since, BRIEF)


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
@pytest_twisted.ensureDeferred
async def test_an_idle_connection_is_closed(tmp_path: Path, path: str) -> None:
    """Unused connections would add up."""
    async with open_server(tmp_path, request_timeout=60, idle_timeout=BRIEF) as server:
        with server.scraper() as scraper:
            since = reactor.seconds()
            scraper.ask(path=path)
            assert (await scraper.answer()).status == 200
            await ended(scraper, since, BRIEF)


@pytest_twisted.ensureDeferred
async def test_a_connection_without_any_request_is_closed(tmp_path: Path) -> None:
    """Port scanners and broken clients would hold connections for ever."""
    async with open_server(tmp_path, request_timeout=BRIEF, idle_timeout=60) as server:
        since = reactor.seconds()
        with server.scraper() as scraper:
            await ended(scraper, since, BRIEF)


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_has_until_its_deadline(tmp_path: Path) -> None:
    """A scraper behind a slow line would get half a response each time."""
    async with open_server(tmp_path, request_timeout=0.1, idle_timeout=0.1) as server:
        events = await server.happen(MANY)
        with server.scraper() as scraper:
            scraper.ask()
            await server.shipped()
            await deferLater(reactor, 0.5)
            assert server.last == []
            assert (await scraper.answer()).events == events


@pytest_twisted.ensureDeferred
async def test_time_does_not_run_out_while_the_store_works(tmp_path: Path) -> None:
    """A scrape would be cut because the disk is slow."""
    async with open_server(tmp_path, request_timeout=0.1, idle_timeout=0.1) as server:
        events = await server.happen()
        gate: Deferred[None] = Deferred()
        server.store.gate = gate
        with server.scraper() as scraper:
            scraper.ask()
            await deferLater(reactor, 0.5)
            gate.callback(None)
            assert (await scraper.answer()).events == events


@pytest.mark.parametrize("header", ["Connection: close", "Connection: keep-alive"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_never_reads_its_answer_is_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    """It would hold its connection, and megabytes of memory, for ever."""
    async with open_server(tmp_path, idle_timeout=BRIEF) as server:
        await server.happen(MANY)
        monkeypatch.setattr(Channel, "abortTimeout", BRIEF)
        with server.scraper(window=1) as scraper:
            scraper.ask("one", "Accept: application/xhtml+xml", header)
            await until(lambda: server.site._channels, lambda: "no connection")
            await until(lambda: not server.site._channels, lambda: "the connection is still open")
            with pytest.raises(ConnectionResetError):
                await scraper.rest()


def test_a_deadline_counts_from_the_first_byte_of_the_request() -> None:
    """The scraper has given up when the daemon still waits for it, and the next scrape gets nothing."""
    server = web_fakes.FakeServer()
    connection = server.connect()
    for first_byte in (1.0, 13.0):
        server.clock.advance(first_byte - server.clock.seconds())
        for part in (b"GET /heal", b"thz HTTP/1.1\r\nHo", b"st: a\r\n\r\n"):
            connection.protocol.dataReceived(part)
            server.clock.advance(2)
        assert [request.arrived for request in server.requests] == [first_byte]
        server.requests.clear()


# How many


@pytest_twisted.ensureDeferred
async def test_beyond_the_limit_the_one_longest_without_a_request_goes(tmp_path: Path) -> None:
    """Idle connections would keep the scrapers out, or the scrapers would be thrown out for them."""
    async with open_server(tmp_path, TWISTEDS_OWN, max_connections=3) as server:
        opened = [server.scraper() for _ in range(3)]
        await until(lambda: len(server.site._channels) == 3, lambda: "not all are there")
        opened[0].ask(path="/healthz")
        await opened[0].answer()
        opened.append(server.scraper())
        with pytest.raises(ConnectionResetError):
            await opened[1].rest()
        for scraper in (opened[0], opened[2], opened[3]):
            scraper.ask(path="/healthz")
            assert (await scraper.answer()).status == 200
        for scraper in opened:
            scraper.close()


@pytest_twisted.ensureDeferred
async def test_a_crowd_does_not_go_beyond_the_limit(tmp_path: Path) -> None:
    """Many connections at once would use up the descriptors."""
    async with open_server(tmp_path, TWISTEDS_OWN, max_connections=3) as server:
        opened = [server.scraper() for _ in range(12)]
        served = []
        for scraper in reversed(opened):
            try:
                scraper.ask(path="/healthz")
                served.append((await scraper.answer()).status)
            except OSError:
                served.append(0)
        assert served == [200] * 3 + [0] * 9
        for scraper in opened:
            scraper.close()


@pytest_twisted.ensureDeferred
async def test_a_scrape_under_way_is_not_thrown_out(tmp_path: Path) -> None:
    """A crowd of idle connections would break off every large response."""
    async with open_server(tmp_path, TWISTEDS_OWN, max_connections=2) as server:
        events = await server.happen(MANY)
        with server.scraper() as scraper:
            scraper.ask()
            await server.shipped()
            crowd = [server.scraper() for _ in range(5)]
            await until(lambda: len(server.site._channels) == 2, lambda: "no crowd")
            for other in crowd[:-1]:
                with pytest.raises(ConnectionResetError):
                    await other.rest()
            assert (await scraper.answer()).events == events
        for other in crowd:
            other.close()


@pytest_twisted.ensureDeferred
async def test_a_scraper_aborted_after_reading_gets_no_event_twice(tmp_path: Path) -> None:
    """The daemon's abort would look like the scraper's."""
    async with open_server(tmp_path, max_connections=1) as server:
        events = await server.happen()
        with server.scraper() as scraper:
            scraper.ask()
            assert (await scraper.answer()).events == events
            with server.scraper():
                await server.fate("delivered", "final")
        assert await server.scrape() == Counter()


# The end


@pytest_twisted.ensureDeferred
async def test_at_the_end_idle_connections_are_closed_and_answers_finished(tmp_path: Path) -> None:
    """A restart would break off the current scrape, or wait for unused connections."""
    async with open_server(tmp_path) as server:
        events = await server.happen(MANY)
        idle, half, busy = server.scraper(), server.scraper(), server.scraper()
        half.send(b"GET /metrics HTTP/1.1\r\n")
        idle.ask(path="/healthz")
        await idle.answer()
        busy.ask()
        await server.shipped()
        finished = server.site.finish()
        assert await idle.rest() == b""
        assert (await half.rest()).startswith(b"HTTP/1.1 503 ")
        assert not finished.called and len(server.site._channels) == 1
        assert (await busy.answer()).events == events
        assert await busy.rest() == b""
        await finished
        for scraper in (idle, half, busy):
            scraper.close()
        await server.fate("delivered", "final")


@pytest_twisted.ensureDeferred
async def test_at_the_end_a_delivery_can_still_be_thrown_away(tmp_path: Path) -> None:
    """The part that the scraper had not read when the daemon was stopped would be lost."""
    async with open_server(tmp_path) as server:
        events = await server.happen()
        scraper = server.scraper()
        scraper.ask()
        await server.fate("delivered")
        await server.site.finish()
        assert server.last == ["delivered"]
        scraper.close()
        await server.fate("delivered", "revoked")
        server.site.finishing = False
        assert await server.scrape() == events


@pytest_twisted.ensureDeferred
async def test_with_no_connection_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    """Every stop of an unused daemon would take the whole time allowed for it."""
    async with open_server(tmp_path) as server:
        assert server.site.finish().called


@pytest_twisted.ensureDeferred
async def test_a_response_broken_off_at_shutdown_is_repeated(tmp_path: Path) -> None:
    """A scraper that hangs when the daemon is stopped would lose its events."""
    async with open_server(tmp_path) as server:
        events = await server.happen(MANY)
        scraper = server.scraper()
        scraper.ask()
        await server.shipped()
        finished = server.site.finish()
        server.site.abort()
        await finished
        assert server.last == ["returned"]
        scraper.close()
        server.site.finishing = False
        assert await server.scrape() == events


# Many requests ahead


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_many_requests_is_still_read_afterwards(tmp_path: Path) -> None:
    """Reading is paused for it, a large answer pauses writing, and a tracker replaces the producer."""
    async with open_server(tmp_path) as server:
        events = await server.happen(MANY)
        with server.scraper() as scraper:
            look = b"GET /metrics?scraper=one HTTP/1.1\r\nHost: a\r\nAccept: application/xhtml+xml\r\n\r\n"
            scrape = b"GET /metrics?scraper=one HTTP/1.1\r\nHost: a\r\n\r\n"
            others = 1000
            scraper.send(look + scrape + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * others)
            assert [(await scraper.answer()).events for _ in range(2)] == [events, events]
            assert [(await scraper.answer()).status for _ in range(others)] == [200] * others
            scraper.ask(path="/healthz")
            assert (await scraper.answer()).status == 200
        await server.fate("delivered", "final")


# What else twisted.web stumbles over


@pytest.mark.parametrize("digits", [4000, 5000])
@pytest_twisted.ensureDeferred
async def test_a_length_with_thousands_of_digits_is_refused(tmp_path: Path, digits: int) -> None:
    """Each would leave a traceback in the log."""
    async with open_server(tmp_path) as server:
        with server.scraper() as scraper:
            scraper.send(b"POST /event HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"1" * digits + b"\r\n\r\n")
            assert (await scraper.rest()).startswith(b"HTTP/1.1 400 ")


# The daemon's end


@pytest_twisted.ensureDeferred
async def test_at_shutdown_a_new_client_may_still_send_its_request(tmp_path: Path) -> None:
    """With each restart a request or two would be cut, though the next daemon had answered them."""
    async with open_server(tmp_path) as server:
        with server.scraper() as fresh, server.scraper() as begun:
            begun.send(b"GET /healthz HT")
            await until(lambda: any(channel.began for channel in server.site._channels), lambda: "no bytes")
            await until(lambda: len(server.site._channels) == 2, lambda: "not both connections")
            gone = server.site.finish()
            fresh.ask(path="/healthz")
            begun.send(b"TP/1.1\r\nHost: a\r\n\r\n")
            assert (await fresh.answer()).status == (await begun.answer()).status == 200
            await gone


@pytest_twisted.ensureDeferred
async def test_at_shutdown_the_daemon_does_not_wait_for_silent_clients(tmp_path: Path) -> None:
    """A port scanner, or a client with an open connection, would hold up every restart."""
    async with open_server(tmp_path) as server:
        with server.scraper() as silent, server.scraper() as resting:
            resting.ask(path="/healthz")
            assert (await resting.answer()).status == 200
            await until(lambda: len(server.site._channels) == 2, lambda: "not both connections")
            since = reactor.seconds()
            gone = server.site.finish()
            await resting.rest()
            assert reactor.seconds() - since < SHUTDOWN_GRACE
            await ended(silent, since, SHUTDOWN_GRACE)
            await gone
