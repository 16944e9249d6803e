"""Tracking of acknowledgements over TCP, one response at a time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import pytest_twisted
from support.memory_site import MANY, everything, open_server, reactor, stop_daemon_until, until

from oneshotd.web.transport.ack_states import State
from oneshotd.web.transport.ack_tracker import RESET_GRACE

NOTHING: Counter[int] = Counter()

#: A response within one segment, one that fills every buffer, and that with the smallest window.
SIZES = pytest.mark.parametrize(
    ("count", "window"), [(1, None), (MANY, None), (MANY, 1)], ids=["small", "large", "narrow"]
)
LARGE = pytest.mark.parametrize("window", [None, 1], ids=["large", "narrow"])

#: The shortest time that a scraper can give.
BRIEF = "X-Prometheus-Scrape-Timeout-Seconds: 1"


@SIZES
@pytest_twisted.ensureDeferred
async def test_what_was_read_does_not_come_again(tmp_path: Path, count: int, window: int | None) -> None:
    """Every event would be counted twice, or not at all."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        with server.scraper(window=window) as scraper:
            assert await everything(scraper) == events
            scraper.ask()
            assert (await scraper.answer()).events == NOTHING
        assert server.fates == [["delivered", "final"]]
        assert await server.scrape() == NOTHING


@pytest_twisted.ensureDeferred
async def test_each_scraper_gets_every_event(tmp_path: Path) -> None:
    """One of two Prometheus servers would miss what the other has read."""
    async with open_server(tmp_path) as server:
        events = await server.happen(2)
        assert [await server.scrape(name) for name in ("one", "other")] == [events, events]


@pytest.mark.parametrize("count", [1, MANY])
@pytest_twisted.ensureDeferred
async def test_a_response_read_to_its_end_is_delivered(tmp_path: Path, count: int) -> None:
    """A scraper that opens a connection for each scrape would get everything twice."""
    async with open_server(tmp_path) as server:
        events = await server.happen(count)
        with server.scraper() as scraper:
            assert await everything(scraper) == events
        await server.fate("delivered", "final")
        assert await server.scrape() == NOTHING


@pytest.mark.parametrize("read", [0, 1, 2_000_000])
@pytest_twisted.ensureDeferred
async def test_a_response_read_in_part_is_repeated(tmp_path: Path, read: int) -> None:
    """A scrape that is given up in the middle would lose everything in it."""
    async with open_server(tmp_path) as server:
        events = await server.happen(MANY)
        scraper = server.scraper()
        scraper.ask()
        await scraper.read(read)
        await server.shipped()
        scraper.reset()
        await server.fate("returned")
        assert await server.scrape() == events
        assert await server.scrape() == NOTHING


@pytest.mark.parametrize("read", [0, 1])
@pytest.mark.parametrize("linger", [False, True], ids=["close", "reset"])
@pytest_twisted.ensureDeferred
async def test_a_response_dropped_after_its_arrival_is_repeated(
    tmp_path: Path, read: int, linger: bool
) -> None:
    """All bytes are acknowledged before the scraper gives up: its events would be lost."""
    async with open_server(tmp_path) as server:
        events = await server.happen(1)
        scraper = server.scraper()
        scraper.ask()
        await scraper.read(read)
        await server.fate("delivered")
        scraper.reset() if linger else scraper.close()
        await server.fate("delivered", "revoked")
        assert await server.scrape() == events
        assert await server.scrape() == NOTHING


@LARGE
@pytest_twisted.ensureDeferred
async def test_a_scraper_that_stops_reading_has_until_its_deadline(
    tmp_path: Path, window: int | None
) -> None:
    """A scraper that hangs would be shut out of its events for ever, or they would be lost."""
    async with open_server(tmp_path) as server:
        events = await server.happen(MANY)
        with server.scraper(window=window) as scraper:
            asked = reactor.seconds()
            scraper.ask("one", BRIEF)
            await server.fate("returned")
            assert 0.9 < reactor.seconds() - asked < 5
            with pytest.raises(ConnectionResetError):
                await scraper.rest()
        with server.scraper(window=window) as scraper:
            assert await everything(scraper) == events


@pytest_twisted.ensureDeferred
async def test_at_the_deadline_what_the_kernel_holds_is_uncertain(tmp_path: Path) -> None:
    """The operator would not learn that events may have been counted twice."""
    async with open_server(tmp_path) as server:
        events = await server.happen(300)
        with server.scraper(window=1) as scraper:
            scraper.ask("one", BRIEF)
            await server.fate("uncertain")
        assert await server.scrape() == events


@pytest_twisted.ensureDeferred
async def test_a_moment_after_the_deadline_a_delivery_cannot_be_thrown_away(tmp_path: Path) -> None:
    """The scraper would be shut out as long as it keeps the connection and says nothing."""
    async with open_server(tmp_path) as server:
        await server.happen(1)
        with server.scraper() as scraper:
            asked = reactor.seconds()
            scraper.ask("one", BRIEF)
            await server.fate("delivered", "final")
            assert 1.0 + RESET_GRACE <= reactor.seconds() - asked < 4 + RESET_GRACE
            more = await server.happen(1)
            with server.scraper() as another:
                another.ask("one", BRIEF)
                assert (await another.answer()).events == more


@pytest_twisted.ensureDeferred
async def test_a_response_dropped_just_after_the_deadline_is_repeated(tmp_path: Path) -> None:
    """A scraper closes a moment after the deadline, at its own timeout: its events would be lost."""
    async with open_server(tmp_path) as server:
        events = await server.happen(1)
        scraper = server.scraper()
        scraper.ask("one", BRIEF)
        await server.fate("delivered")
        (tracker,) = next(iter(server.site._channels))._trackers
        await until(lambda: tracker.state is State.OVERDUE, lambda: str(tracker.state))
        assert server.last == ["delivered"]
        scraper.close()
        await server.fate("delivered", "revoked")
        with server.scraper() as another:
            another.ask("one", BRIEF)
            assert (await another.answer()).events == events


@pytest.mark.parametrize("speaks", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_daemon_that_was_stopped_finds_a_request_and_a_reset_at_once(
    tmp_path: Path, speaks: bool
) -> None:
    """The last acknowledgement, the next request and a reset come before the daemon looks: the
    response was read, so it comes twice, and nobody would be told."""
    async with open_server(tmp_path) as server:
        events = await server.happen(300)
        scraper = server.scraper(window=1)
        scraper.ask()
        await server.shipped()
        (tracker,) = next(iter(server.site._channels))._trackers
        await until(lambda: tracker.state is State.SENT, lambda: str(tracker.state))
        # This holds the reactor up, which is the daemon's.
        unread = len(server.shipments[-1].body)
        while unread > 0:
            unread -= len(scraper.sock.recv(1 << 16))  # the headers are in there, too
        if speaks:
            scraper.ask()
        scraper.reset()
        assert tracker.state is State.SENT
        await server.fate("uncertain" if speaks else "returned")
        assert server.last == ["uncertain" if speaks else "returned"]
        assert await server.scrape() == events
        assert await server.scrape() == NOTHING


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_was_stopped_over_the_deadline_finds_the_next_request(tmp_path: Path) -> None:
    """The deadline's timer is due before the socket is read, on which a reset follows the request that
    shows that the response was read: it would come twice."""
    async with open_server(tmp_path) as server:
        await server.happen(1)
        scraper = server.scraper()
        asked = reactor.seconds()
        scraper.ask("one", BRIEF)
        await server.fate("delivered")
        (tracker,) = next(iter(server.site._channels))._trackers
        assert scraper.sock.recv(1 << 20)
        scraper.ask("one", BRIEF)
        scraper.reset()
        stop_daemon_until(asked + 1.1)
        assert tracker.state is State.DELIVERED
        await server.fate("delivered", "final")


@pytest_twisted.ensureDeferred
async def test_two_hundred_scrapes_at_once_one_after_the_other(tmp_path: Path) -> None:
    """An answer without the event that is pending: the last delivery was not settled in time."""
    async with open_server(tmp_path) as server:
        with server.scraper() as scraper:
            for _ in range(200):
                event = await server.happen()
                scraper.ask()
                assert (await scraper.answer()).events == event
        await server.fate("delivered", "final")
        assert server.fates == [["delivered", "final"]] * 200
