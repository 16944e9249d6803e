"""Tracking of acknowledgements over TLS, one response at a time.

The clients read record by record, so that their kernel holds exactly what they have not read. They end as
clients do: by close_notify and a close (Go), by a close alone (Python, many others), or by a reset.
"""

from __future__ import annotations

import re
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bare_scraper import Scraper
from support.memory_site import MANY, MemoryServer, everything, open_server, reactor, stop_daemon_until, until
from support.tls_socket import TLSSocket

from oneshotd.web.transport.ack_states import State
from oneshotd.web.transport.ack_tracker import RESET_GRACE, AckTracker

#: Twisted hands pyOpenSSL its own kind of certificates still.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

NOTHING: Counter[int] = Counter()

#: The shortest time that a scraper can give.
BRIEF = "X-Prometheus-Scrape-Timeout-Seconds: 1"

#: Enough for a large response on a busy machine. A scraper that has sent the header once and then does not
#: gets a look.
USUAL = "X-Prometheus-Scrape-Timeout-Seconds: 15"

SIZES = pytest.mark.parametrize("count", [1, MANY], ids=["small", "large"])
ENDINGS = pytest.mark.parametrize("ending", ["notice and close", "close", "reset", "notice and reset"])


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    """The version that the client asks for."""
    found: ssl.TLSVersion = request.param
    return found


async def connect(server: MemoryServer, version: ssl.TLSVersion, **kind: Any) -> tuple[Scraper, TLSSocket]:
    """Open a connection and encrypt it."""
    scraper = server.scraper(**kind)
    return scraper, await scraper.encrypt(version)


def end(scraper: Scraper, tls: TLSSocket, ending: str) -> None:
    if ending.startswith("notice"):
        tls.close_notify()
    scraper.reset() if ending.endswith("reset") else scraper.close()


async def read_but(scraper: Scraper, rest: int) -> None:
    """Read a response but for its last bytes, as a client without buffers of its own does."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await scraper.read(1)
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found
    await scraper.read(int(found[1]) - rest)


async def again(server: MemoryServer, version: ssl.TLSVersion, *headers: str) -> Counter[int]:
    """Scrape on a new connection until no events are left."""
    scraper, _ = await connect(server, version)
    found: Counter[int] = Counter()
    with scraper:
        for _ in range(50):  # after a large response that did not arrive, the next ones are smaller
            scraper.ask("one", *headers)
            events = (await scraper.answer()).events
            if not events:
                return found
            found += events
    pytest.fail(f"the events do not end: {found.total()}")


def tracker_of(server: MemoryServer) -> AckTracker:
    (channel,) = server.site._channels
    (tracker,) = channel._trackers
    return tracker


# Read to the end


@SIZES
@pytest.mark.parametrize("ending", ["notice and close", "close"])
@pytest_twisted.ensureDeferred
async def test_a_response_read_to_its_end_is_delivered(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int, ending: str
) -> None:
    """A scraper that opens a connection for each scrape would get everything twice."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        scraper, layer = await connect(server, version)
        assert await everything(scraper) == events
        end(scraper, layer, ending)
        await server.fate("delivered", "final")
        assert await again(server, version) == NOTHING


@SIZES
@pytest.mark.parametrize("ending", ["notice and close", "close"])
@pytest_twisted.ensureDeferred
async def test_one_scrape_to_a_connection_is_delivered(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int, ending: str
) -> None:
    """The close comes with no request before it, and every event would be counted twice."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        for expected in (events, NOTHING):
            scraper, layer = await connect(server, version)
            scraper.ask()
            assert (await scraper.answer()).events == expected
            end(scraper, layer, ending)
            await server.fate("delivered", "final")


@SIZES
@pytest_twisted.ensureDeferred
async def test_a_client_that_waits_for_close_notify_gets_it(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int
) -> None:
    """asyncio and Twisted wait for it before they close: their connections would stay open."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        scraper, layer = await connect(server, version)
        scraper.ask()
        assert (await scraper.answer()).events == events
        before = reactor.seconds()
        layer.close_notify()
        assert await scraper.rest() == b""
        assert reactor.seconds() - before < 2
        scraper.close()
        await server.fate("delivered", "final")
        assert await again(server, version) == NOTHING


@SIZES
@pytest_twisted.ensureDeferred
async def test_the_next_request_proves_that_the_response_was_read(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int
) -> None:
    """A scraper that reads, asks again and then crashes would get everything twice."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        scraper, _ = await connect(server, version)
        scraper.ask()
        assert (await scraper.answer()).events == events
        scraper.ask()
        await server.fate("delivered", "final")
        scraper.reset()
        assert await again(server, version) == NOTHING


@pytest_twisted.ensureDeferred
async def test_the_next_request_counts_if_close_notify_and_a_reset_follow_at_once(
    tmp_path: Path, tls: str, version: ssl.TLSVersion
) -> None:
    """All three are there before the daemon reads: the request tells, not the reset."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(1)
        scraper, layer = await connect(server, version)
        scraper.ask()
        assert (await scraper.answer()).events == events
        await server.fate("delivered")
        request = layer.encrypted(b"GET /metrics?scraper=one HTTP/1.1\r\nHost: a\r\n\r\n")
        layer.send_raw(request + layer.notice())
        scraper.reset()
        await server.fate("delivered", "final")


# Thrown away


@ENDINGS
@pytest.mark.parametrize("read", [0, 1024])
@pytest_twisted.ensureDeferred
async def test_a_response_dropped_after_its_arrival_is_repeated(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, read: int, ending: str
) -> None:
    """All bytes are acknowledged before the scraper gives up: its events would be lost."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(1)
        scraper, layer = await connect(server, version)
        scraper.ask()
        await scraper.read(read)
        await server.fate("delivered")
        end(scraper, layer, ending)
        await server.fate("delivered", "revoked")
        assert await again(server, version) == events
        assert await again(server, version) == NOTHING


@ENDINGS
@pytest.mark.parametrize("read", [0, 1024, 2_000_000])
@pytest_twisted.ensureDeferred
async def test_a_response_read_in_part_is_repeated(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, read: int, ending: str
) -> None:
    """A scrape that is given up in the middle would lose everything in it."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(MANY)
        scraper, layer = await connect(server, version)
        scraper.ask()
        await scraper.read(read)
        await server.shipped()
        end(scraper, layer, ending)
        await server.fate("returned")
        assert await again(server, version) == events
        assert await again(server, version) == NOTHING


@SIZES
@ENDINGS
@pytest_twisted.ensureDeferred
async def test_a_response_read_but_for_its_last_byte_is_repeated(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int, ending: str
) -> None:
    """TLS decrypts up to 16 KiB as a whole: the rest of them would count as read."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        scraper, layer = await connect(server, version)
        scraper.ask()
        await read_but(scraper, 1)
        await server.fate("delivered")
        end(scraper, layer, ending)
        await server.fate("delivered", "revoked")
        assert await again(server, version) == events
        assert await again(server, version) == NOTHING


@SIZES
@pytest_twisted.ensureDeferred
async def test_a_reset_after_the_last_byte_is_one(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int
) -> None:
    """A scraper that crashes with the response in its memory, before it asks again, would lose it."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        scraper, _ = await connect(server, version)
        scraper.ask()
        assert (await scraper.answer()).events == events
        await server.fate("delivered")
        scraper.reset()
        await server.fate("delivered", "revoked")
        assert await again(server, version) == events


@SIZES
@pytest_twisted.ensureDeferred
async def test_a_request_sent_ahead_is_no_proof_that_the_answer_before_was_read(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, count: int
) -> None:
    """The events of the first answer would be lost."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(count)
        scraper, layer = await connect(server, version)
        scraper.ask(times=2)
        await server.shipped()
        if count == 1:
            await server.fate("delivered")
        end(scraper, layer, "notice and close")
        await server.fate(*(("delivered", "revoked") if count == 1 else ("returned",)))
        assert await again(server, version) == events
        assert await again(server, version) == NOTHING


# Timers


@pytest_twisted.ensureDeferred
async def test_a_scraper_that_stops_reading_has_until_its_deadline(
    tmp_path: Path, tls: str, version: ssl.TLSVersion
) -> None:
    """A scraper that hangs would be shut out of its events for ever, or they would be lost."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(MANY)
        scraper, _ = await connect(server, version, window=1)
        asked = reactor.seconds()
        scraper.ask("one", BRIEF)
        await server.fate("returned")
        assert 0.9 < reactor.seconds() - asked < 5
        scraper.close()
        assert await again(server, version, USUAL) == events


@pytest.mark.parametrize("notice", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_moment_after_the_deadline_a_delivery_cannot_be_thrown_away(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, notice: bool
) -> None:
    """The scraper would be shut out as long as it keeps the connection and says nothing."""
    async with open_server(tmp_path, tls) as server:
        await server.happen(1)
        scraper, layer = await connect(server, version)
        with scraper:
            asked = reactor.seconds()
            scraper.ask("one", BRIEF)
            await server.fate("delivered")
            if notice:
                layer.close_notify()
            await server.fate("delivered", "final")
            assert 1.0 + RESET_GRACE <= reactor.seconds() - asked < 4 + RESET_GRACE


@pytest_twisted.ensureDeferred
async def test_a_response_dropped_just_after_the_deadline_is_repeated(
    tmp_path: Path, tls: str, version: ssl.TLSVersion
) -> None:
    """A scraper closes a moment after the deadline, at its own timeout: its events would be lost."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(1)
        scraper, layer = await connect(server, version)
        scraper.ask("one", BRIEF)
        await server.fate("delivered")
        tracker = tracker_of(server)
        await until(lambda: tracker.state is State.OVERDUE, lambda: str(tracker.state))
        end(scraper, layer, "notice and close")
        await server.fate("delivered", "revoked")
        assert await again(server, version, USUAL) == events


@pytest.mark.parametrize("speaks", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_daemon_that_was_stopped_over_the_deadline_reads_before_it_judges(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, speaks: bool
) -> None:
    """The deadline's timer is due before the socket is read: close_notify there is no next request, and
    a next request is one. The events would be lost, or come twice."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(1)
        scraper, layer = await connect(server, version)
        asked = reactor.seconds()
        scraper.ask("one", BRIEF)
        await server.fate("delivered")
        tracker = tracker_of(server)
        if speaks:
            assert scraper.sock.recv(1 << 20)
            scraper.ask("one", BRIEF)
        end(scraper, layer, "notice and reset")
        stop_daemon_until(asked + 1.1)
        assert tracker.state is State.DELIVERED
        await server.fate("delivered", "final" if speaks else "revoked")
        if not speaks:
            assert await again(server, version, USUAL) == events


@pytest.mark.parametrize("speaks", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_daemon_that_was_stopped_finds_all_at_once(
    tmp_path: Path, tls: str, version: ssl.TLSVersion, speaks: bool
) -> None:
    """The last acknowledgement, perhaps the next request, close_notify and a reset come before the daemon
    looks: what was read comes twice, and nobody would be told; or what was not is counted as uncertain."""
    async with open_server(tmp_path, tls) as server:
        events = await server.happen(300)
        scraper, layer = await connect(server, version, window=8192)
        scraper.ask()
        await server.shipped()
        tracker = tracker_of(server)
        await until(lambda: tracker.state is State.SENT, lambda: str(tracker.state))
        # This holds the reactor up, which is the daemon's.
        unread = len(server.shipments[-1].body)
        while unread > 0:
            unread -= len(scraper.sock.recv(1 << 16))  # the headers are in there, too
        if speaks:
            scraper.ask()
        end(scraper, layer, "notice and reset")
        assert tracker.state is State.SENT
        await server.fate("uncertain" if speaks else "returned")
        assert await again(server, version) == events
        assert await again(server, version) == NOTHING
