"""Crowds, slow ones, huge ones and endless ones: whom the daemon knows is served meanwhile."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from support.clients import Scraper, post_many
from support.crowd import Crowd
from support.daemon import Daemon
from support.disks import daemon_with, shell
from support.processes import until
from support.siege import besieged

pytestmark = [pytest.mark.e2e, pytest.mark.timed]

#: Seconds that a flood lasts; ``make soak`` may ask for more.
SECONDS = float(os.environ.get("ONESHOTD_FLOOD_SECONDS", "1.5"))

#: Invented names: as many as come in that time, but not fewer or more than these.
LEAST_NAMES, NAMES = 250, 10_000

CLOSE = b"Connection: close\r\n"


def get(path: str, *headers: bytes) -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n".encode() + b"".join(headers) + b"\r\n"


def post(query: str, *headers: bytes) -> bytes:
    """A request."""
    return f"POST {query} HTTP/1.1\r\nHost: a\r\n".encode() + b"".join(headers) + b"\r\n"


#: Sent over and over on one connection.
PIPELINED = (
    get("/metrics?look"),
    get("/metrics?scraper=greedy"),
    get("/"),
    get("/nothing"),
    post("/event?type=pipeline"),
    post("/event?type=pipeline&__id__=key"),
)

#: Each larger than is allowed.
HUGE = (
    get("/metrics", b"X-Long: " + b"x" * 1_000_000 + b"\r\n"),
    get("/metrics", *[b"X-%d: x\r\n" % n for n in range(50_000)]),
    b"G" * 1_000_000,
    post("/events", b"Content-Length: 10000000\r\n") + b"x" * 10_000_000,
    post("/events", b"Transfer-Encoding: chunked\r\n") + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 100,
)

SLOW = get("/metrics", b"Accept: text/plain\r\n" * 100)


def fill(daemon: Daemon, events: int) -> None:
    """Hold so many events; the known scraper has had them."""
    with closing(Scraper(daemon, "known")) as scraper:
        scraper.scrape()
        for start in range(0, events, 1000):
            assert post_many(daemon, range(start, start + 1000), padding=60).status == 200
        until(lambda: not scraper.scrape() and len(scraper.numbers) == events, 20, "all has come")


def descriptors(daemon: Daemon) -> int:
    """How many the daemon has."""
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def test_a_thousand_slow_connections(tmp_path: Path) -> None:
    """Requests trickle in, a byte now and then, on more connections than there may be: each is cut
    in time. A connection takes some 20 KiB of memory."""
    with daemon_with(tmp_path, "--request-timeout=1s") as daemon:
        with (
            besieged(daemon, growth=80),
            Crowd(daemon.port, 1100, says=lambda _: SLOW, piece=1).gathered() as crowd,
        ):
            crowd.act(2 * SECONDS)
            assert descriptors(daemon) < 1100
        assert len(crowd.lives) > 1000
        daemon.stop()


def test_a_thousand_connections_that_say_nothing(tmp_path: Path) -> None:
    """Under the default limits nobody is cut for that so soon; who is new takes the place of the
    one that has been there longest."""
    with Daemon(tmp_path) as daemon:
        with besieged(daemon, growth=80), Crowd(daemon.port, 1100, says=lambda _: b"").gathered() as crowd:
            # The kernel shows connections without a byte after a second or more.
            crowd.act(30, until=lambda: len(crowd.lives) >= 100)
            assert 900 < descriptors(daemon) < 1100
        assert len(crowd.lives) >= 100
        daemon.stop()


def test_a_process_with_few_descriptors(tmp_path: Path) -> None:
    """Where the system allows fewer than the connections need, there are fewer connections: one
    that can open nothing more can neither accept anybody nor reopen its store."""
    with daemon_with(tmp_path, within=shell("ulimit -n 150")) as daemon:
        assert "at most 75 connections instead of 1000" in daemon.process.log_text()
        with (
            besieged(daemon, growth=40),
            Crowd(daemon.port, 100, says=lambda _: SLOW, piece=1).gathered() as crowd,
        ):
            crowd.act(SECONDS)
        assert len(crowd.lives) > 100
        daemon.stop()


def test_bodies_that_do_not_end(tmp_path: Path) -> None:
    """Each is allowed to have 1 MiB, but all together they may not have a GiB."""
    part = post("/events", b"Content-Length: 1000000\r\n") + b"x" * 999_999

    with Daemon(tmp_path) as daemon:
        with (
            besieged(daemon, growth=220),
            Crowd(daemon.port, 400, says=lambda _: part, once=True).gathered() as crowd,
        ):
            crowd.act(SECONDS)
        assert len(crowd.lives) > 300
        assert post_many(daemon, range(1000), padding=900).status == 200
        daemon.stop()


def test_huge_requests(tmp_path: Path) -> None:
    """Headers, lines and bodies that are too large are refused when that is clear, and nothing of
    them is kept."""
    with Daemon(tmp_path) as daemon:
        with (
            besieged(daemon, growth=120),
            Crowd(daemon.port, 50, says=lambda number: HUGE[number % len(HUGE)]).gathered() as crowd,
        ):
            crowd.act(SECONDS)
        assert len(crowd.lives) > 50
        # Who is cut while it sends may not see why, but for a body the daemon waits a moment.
        answers = {answer[:12] for answer in crowd.answers if answer}
        assert b"HTTP/1.1 413" in answers
        assert answers <= {f"HTTP/1.1 {status}".encode() for status in (400, 413, 414, 431)}
        daemon.stop()


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_endless_pipelines(tmp_path: Path, reads: bool) -> None:
    """Requests without end on a connection: one at a time is answered, and the next one when the
    client has taken that."""

    def says(number: int) -> bytes:
        return PIPELINED[number % len(PIPELINED)] * 1000

    with Daemon(tmp_path) as daemon:
        fill(daemon, 10_000)
        with besieged(daemon, growth=150), Crowd(daemon.port, 36, says=says, reads=reads).gathered() as crowd:
            crowd.act(SECONDS)
        assert crowd.sent > 1_000_000
        daemon.stop()


def test_a_crowd_of_invented_scrapers(tmp_path: Path) -> None:
    """Newcomers without end: two hundred are known, the rest get the daemon's own metrics only,
    and nobody whom it knew before has to wait for them."""

    def says(number: int) -> bytes:
        return get(f"/metrics?scraper=invented-{number}", CLOSE)

    with Daemon(tmp_path) as daemon:
        fill(daemon, 5_000)
        with besieged(daemon, growth=150), Crowd(daemon.port, 100, says=says, once=True).gathered() as crowd:
            crowd.act(2 * SECONDS, until=lambda: len(crowd.lives) > NAMES)
            crowd.act(60, until=lambda: len(crowd.lives) > LEAST_NAMES)
        assert {answer[:12] for answer in crowd.answers} == {b"HTTP/1.1 200"}
        assert len(daemon.process.log_text().splitlines()) < 100
        daemon.stop()


def test_invented_scrapers_that_read_nothing(tmp_path: Path) -> None:
    """Each would have the daemon keep a response until its deadline."""

    def says(number: int) -> bytes:
        return get(f"/metrics?scraper=invented-{number}")

    with Daemon(tmp_path) as daemon:
        fill(daemon, 20_000)
        with (
            besieged(daemon, growth=250),
            Crowd(daemon.port, 150, says=says, reads=False).gathered() as crowd,
        ):
            crowd.act(2 * SECONDS)
        daemon.stop()
