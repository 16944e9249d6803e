"""Tracking of acknowledgements with pipelined requests, closed and half-closed connections."""

from __future__ import annotations

import fcntl
import struct
import termios
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.memory_site import MANY, MemoryServer, open_server, until
from twisted.internet.defer import Deferred

NOTHING: Counter[int] = Counter()

SIZES = pytest.mark.parametrize("count", [1, MANY], ids=["small", "large"])

#: Requests after whose answer the daemon closes.
CLOSING = pytest.mark.parametrize(
    "request_",
    [{"headers": ("Connection: close",)}, {"version": "HTTP/1.0"}],
    ids=["Connection: close", "HTTP/1.0"],
)


def ask_to_close(scraper: Any, request_: dict[str, Any]) -> None:
    scraper.ask("one", *request_.get("headers", ()), version=request_.get("version", "HTTP/1.1"))


# Pipelined requests


@SIZES
@pytest.mark.parametrize("times", [2, 3])
@pytest_twisted.ensureDeferred
async def test_of_requests_in_one_segment_the_first_gets_the_events(
    tmp_path: Path, count: int, times: int
) -> None:
    """A client that sends ahead would get events twice, or not at all."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            scraper.ask(times=times)
            answers = [(await scraper.answer()).events for _ in range(times)]
            assert answers == [events] + [NOTHING] * (times - 1)
            assert server.fates == [["delivered"]]
        await server.fate("delivered", "final")
        assert await server.scrape() == NOTHING


@SIZES
@pytest.mark.parametrize("times", [2, 3])
@pytest_twisted.ensureDeferred
async def test_a_request_sent_ahead_is_no_proof_that_the_answer_before_was_read(
    tmp_path: Path, count: int, times: int
) -> None:
    """The events of the first answer would be lost."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        scraper = server.scraper()
        scraper.ask(times=times)
        if count == 1:
            await server.fate("delivered")
        else:
            await server.shipped()
        scraper.reset()
        await server.fate(*(("delivered", "revoked") if count == 1 else ("returned",)))
        assert await server.scrape() == events
        assert await server.scrape() == NOTHING


@pytest_twisted.ensureDeferred
async def test_each_of_several_requests_in_one_segment_has_its_own_tracker(tmp_path: Path) -> None:
    """A response that one of two scrapers behind one connection drops would be lost."""
    async with open_server(tmp_path) as server:
        events = await server.happen(1)
        scraper = server.scraper()
        ahead = [b"GET /metrics?scraper=%s HTTP/1.1\r\nHost: a\r\n\r\n" % name for name in (b"one", b"two")]
        scraper.send(b"".join(ahead))
        await until(lambda: server.fates == [["delivered"]] * 2, lambda: str(server.fates))
        scraper.reset()
        await until(lambda: server.fates == [["delivered", "revoked"]] * 2, lambda: str(server.fates))
        assert await server.scrape("one") == events
        assert await server.scrape("two") == events


@pytest_twisted.ensureDeferred
async def test_a_request_sent_ahead_in_two_parts_is_no_proof_either(tmp_path: Path) -> None:
    """The rest of the request arrives after the answer, its first byte before."""
    async with open_server(tmp_path) as server:
        events = await server.happen(1)
        scraper = server.scraper()
        scraper.send(b"GET /metrics?scraper=one HTTP/1.1\r\nHost: a\r\n\r\nGET /heal")
        await server.fate("delivered")
        scraper.send(b"thz HTTP/1.1\r\nHost: a\r\n")
        await until(lambda: not unread(server), lambda: "bytes are not read")
        assert server.last == ["delivered"]
        scraper.reset()
        await server.fate("delivered", "revoked?")
        assert await server.scrape() == events


def unread(server: MemoryServer) -> int:
    """Bytes that the daemon has yet to read from its only connection."""
    (channel,) = server.site._channels
    answer = fcntl.ioctl(channel.transport.getHandle(), termios.FIONREAD, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])


@SIZES
@pytest_twisted.ensureDeferred
async def test_a_pipelined_look_delivers_no_events(tmp_path: Path, count: int) -> None:
    """A person that looks would take the scraper's events."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            scraper.ask("one", method="HEAD")
            assert (await scraper.answer("HEAD")).headers["Oneshotd-Look"] == "1"
            scraper.ask("one", "Accept: application/xhtml+xml")
            assert (await scraper.answer()).events == events
            assert server.fates == []
            scraper.ask()
            assert (await scraper.answer()).events == events
            scraper.ask("one", method="HEAD")
            await scraper.answer("HEAD")
        assert server.fates == [["delivered", "final"]]


@pytest.mark.parametrize("ahead", [False, True], ids=["one by one", "in one segment"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_emits_and_scrapes_on_one_connection_gets_each_event_once(
    tmp_path: Path, ahead: bool
) -> None:
    """An event on the way to the disk would be taken for a proof, or cut the response before it."""
    async with open_server(tmp_path) as server:
        with server.scraper() as scraper:
            for number in range(20):
                post = b"POST /event?number=%d&text=x HTTP/1.1\r\nHost: a\r\n\r\n" % number
                scraper.send(post)
                if not ahead:
                    assert (await scraper.answer()).body == b"ok\n"
                scraper.ask()
                if ahead:
                    assert (await scraper.answer()).body == b"ok\n"
                assert (await scraper.answer()).events == Counter([number])
        await server.fate("delivered", "final")
        assert server.fates == [["delivered", "final"]] * 20


@pytest_twisted.ensureDeferred
async def test_events_sent_behind_a_scrape_are_no_proof_that_it_was_read(tmp_path: Path) -> None:
    """A client that resets after them would lose what it was sent before."""
    async with open_server(tmp_path) as server:
        events = await server.happen()
        scraper = server.scraper()
        scrape = b"GET /metrics?scraper=one HTTP/1.1\r\nHost: a\r\n\r\n"
        scraper.send(scrape + b"POST /event?number=7&text=x HTTP/1.1\r\nHost: a\r\n\r\n")
        await server.fate("delivered")
        scraper.reset()
        await server.fate("delivered", "revoked")
        again = await server.scrape()
        assert again - Counter([7]) == events


# Closing by us


@SIZES
@CLOSING
@pytest_twisted.ensureDeferred
async def test_a_connection_that_we_close_brings_all_of_it(
    tmp_path: Path, count: int, request_: dict[str, Any]
) -> None:
    """curl -0, or a proxy without keep-alive, would get half a response, or everything twice."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            ask_to_close(scraper, request_)
            assert (await scraper.answer()).events == events
            assert await scraper.rest() == b""
        await server.fate("delivered", "final")
        assert await server.scrape() == NOTHING


@CLOSING
@pytest_twisted.ensureDeferred
async def test_a_response_dropped_after_the_daemon_has_closed_is_repeated(
    tmp_path: Path, request_: dict[str, Any]
) -> None:
    """The daemon closes at the last acknowledgement, the scraper crashes before it reads."""
    async with open_server(tmp_path) as server:
        events = await server.happen(1)
        scraper = server.scraper()
        ask_to_close(scraper, request_)
        await server.fate("delivered")
        await until(lambda: not server.site._channels, lambda: "the connection is still open")
        assert server.last == ["delivered"]
        scraper.close()
        await server.fate("delivered", "revoked")
        assert await server.scrape() == events
        assert await server.scrape() == NOTHING


@CLOSING
@pytest_twisted.ensureDeferred
async def test_we_do_not_close_before_all_is_acknowledged(tmp_path: Path, request_: dict[str, Any]) -> None:
    """Bytes in the kernel's queue when the daemon closes could be lost without a sign."""
    async with open_server(tmp_path) as server:
        events = await server.happen(300)
        with server.scraper(window=1) as scraper:
            ask_to_close(scraper, request_)
            await server.shipped()
            await scraper.read(1000)
            assert (server.last, len(server.site._channels)) == ([], 1)
            await scraper.rest()
            await server.fate("delivered")
        await server.fate("delivered", "final")
        assert events


@pytest_twisted.ensureDeferred
async def test_more_bytes_after_we_have_closed_are_no_reset(tmp_path: Path) -> None:
    """The daemon's own kernel answers them with a reset: the events would be counted twice."""
    async with open_server(tmp_path) as server:
        await server.happen(1)
        with server.scraper() as scraper:
            scraper.ask("one", "Connection: close")
            await server.fate("delivered")
            await until(lambda: not server.site._channels, lambda: "the connection is still open")
            scraper.send(b"\r\n")
            await server.fate("delivered", "final")
        assert await server.scrape() == NOTHING


@pytest_twisted.ensureDeferred
async def test_a_scraper_that_has_us_close_gets_each_event_at_once(tmp_path: Path) -> None:
    """A scrape right after the last one would not contain the pending event."""
    async with open_server(tmp_path) as server:
        for _ in range(20):
            event = await server.happen()
            with server.scraper() as scraper:
                scraper.ask("one", "Connection: close")
                assert (await scraper.answer()).events == event
                await scraper.rest()
            await server.fate("delivered", "final")


# Half closed


@SIZES
@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_still_gets_the_answer(tmp_path: Path, count: int) -> None:
    """`nc -N` would get nothing, and the events would be lost or held back."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            scraper.ask()
            scraper.finish_sending()
            assert (await scraper.answer()).events == events
            assert await scraper.rest() == b""
        await server.fate("delivered", "final")
        assert await server.scrape() == NOTHING


@pytest.mark.parametrize("count", [300, MANY])
@pytest_twisted.ensureDeferred
async def test_a_client_that_half_closes_and_resets_gets_it_again_at_once(tmp_path: Path, count: int) -> None:
    """The scraper would be shut out of its events until the deadline."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        scraper = server.scraper(window=1)
        scraper.ask()
        scraper.finish_sending()
        await server.shipped()
        await scraper.read(1)
        scraper.close()
        await server.fate("returned")
        assert await server.scrape() == events


@SIZES
@pytest_twisted.ensureDeferred
async def test_a_client_that_hangs_up_while_the_store_works_gets_it_with_the_next_scrape(
    tmp_path: Path, count: int
) -> None:
    """A FIN first, and a reset when the response arrives: Twisted does not read the socket any more."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        gate: Deferred[None] = Deferred()
        server.store.gate = gate
        scraper = server.scraper()
        scraper.ask()
        await until(lambda: server.reserved == 1, lambda: "nothing is reserved")
        scraper.close()
        await until(lambda: all(c.peer_finished for c in server.site._channels), lambda: "no FIN")
        server.store.gate = None
        gate.callback(None)
        await server.fate("returned")
        assert await server.scrape() == events
        assert await server.scrape() == NOTHING


@pytest_twisted.ensureDeferred
async def test_a_client_that_resets_while_the_store_works_gets_it_with_the_next_scrape(
    tmp_path: Path,
) -> None:
    """The reservation of a cancelled request would shut the scraper out until its lease ends."""
    async with open_server(tmp_path) as server:
        events = await server.happen(1)
        gate: Deferred[None] = Deferred()
        server.store.gate = gate
        scraper = server.scraper()
        scraper.ask()
        await until(lambda: server.reserved == 1, lambda: "nothing is reserved")
        scraper.reset()
        await until(lambda: not server.site._channels, lambda: "the connection is still open")
        server.store.gate = None
        gate.callback(None)
        assert await server.scrape() == events
        assert await server.scrape() == NOTHING


# A second connection


@SIZES
@pytest_twisted.ensureDeferred
async def test_a_second_scrape_of_the_same_scraper_is_answered_at_once(tmp_path: Path, count: int) -> None:
    """A reloaded Prometheus would wait for its own last scrape, or get events twice."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            scraper.ask()
            await server.shipped()
            if count == 1:
                await server.fate("delivered")
            assert await server.scrape() == NOTHING
            assert server.fates == [["delivered"] if count == 1 else []]
            assert (await scraper.answer()).events == events
        await server.fate("delivered", "final")
        assert await server.scrape() == NOTHING
