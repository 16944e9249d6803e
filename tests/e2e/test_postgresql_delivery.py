"""Deliveries of real daemons that share a real PostgreSQL database, and what each failure does to them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faketime import WallClock
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import until
from support.shared_store import ask, daemon, figure, post, scrape

pytestmark = pytest.mark.e2e

#: Seconds in which a condition that is not about time has come true.
PATIENCE = 30.0

#: Bytes of a receive buffer that does not hold the response of a test.
SMALL_BUFFER = 4096

#: Seconds of a scrape's timeout and of a margin that pass in a test.
TIMEOUT, MARGIN = 1.0, 2.0
SHORT = f"--lease-margin={MARGIN:g}s"

HOURS = 3600.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def database(server: PostgreSQLServer) -> str:
    return server.new_database()


def once(*numbers: int) -> Counter[int]:
    """Each of these events once."""
    return Counter(numbers)


def await_figure(one: object, name: str, value: float, **labels: str) -> None:
    until(lambda: figure(one, name, **labels) == value, PATIENCE, f"{name} is {value:g}")  # type: ignore[arg-type]


def test_a_response_that_was_reset_unread_comes_again_from_another_daemon(
    tmp_path: Path, server: PostgreSQLServer, database: str
) -> None:
    """A scraper that crashed with a response unread would lose it, if another daemon gets its next scrape."""
    with daemon(tmp_path / "ann", server, database) as ann, daemon(tmp_path / "bob", server, database) as bob:
        post(bob, range(50))
        first = ask(ann)
        first.await_all()
        await_figure(bob, "delivered_events_total", 50)  # acknowledged by the scraper's kernel
        assert scrape(bob) == once(), "it can still be revoked"
        first.reset()
        assert scrape(bob) == once(*range(50))
        await_figure(ann, "revoked_events_total", 50)
        assert scrape(ann) == scrape(bob) == once()
        assert ann.errors() == bob.errors() == []


def test_a_scraper_that_changes_daemons_gets_events_with_each_scrape(
    tmp_path: Path, server: PostgreSQLServer, database: str
) -> None:
    """Behind a load balancer every second response would be empty."""
    with daemon(tmp_path / "ann", server, database) as ann, daemon(tmp_path / "bob", server, database) as bob:
        daemons = (ann, bob)
        for number in range(20):
            post(daemons[number // 2 % 2], [number])
            assert scrape(daemons[number % 2]) == once(number)


def test_a_daemon_that_was_stopped_beyond_its_lease_settles_nothing(
    tmp_path: Path, server: PostgreSQLServer, database: str
) -> None:
    """It would move the cursor of the other daemon's delivery, and events would be lost."""
    with (
        daemon(tmp_path / "ann", server, database, SHORT) as ann,
        daemon(tmp_path / "bob", server, database, SHORT) as bob,
    ):
        post(bob, range(60), size=1000)
        late = ask(ann, timeout=TIMEOUT, buffer=SMALL_BUFFER)
        late.await_some()
        assert ann.is_ready()  # so all of the response is in its kernel
        os.kill(ann.process.pid, signal.SIGSTOP)
        try:
            got: Counter[int] = Counter()
            began = time.monotonic()
            while not got:
                got = scrape(bob, timeout=TIMEOUT)
                assert time.monotonic() - began < TIMEOUT + MARGIN + 10
            assert got == once(*range(60))
            post(bob, [60])
            assert late.read() == once(*range(60)), "its kernel goes on to send"
        finally:
            os.kill(ann.process.pid, signal.SIGCONT)
        await_figure(bob, "superseded_events_total", 60)
        assert figure(bob, "delivered_events_total") == 60
        assert scrape(bob) == once(60)
        assert scrape(ann) == scrape(bob) == once()
        assert "p has got 60 events twice" in ann.process.log_text()
        assert bob.errors() == []


def test_a_revocation_after_a_pause_is_counted_as_a_loss(
    tmp_path: Path, server: PostgreSQLServer, database: str
) -> None:
    """Events that the scraper has not read would be gone, and nothing would say so."""
    with (
        daemon(tmp_path / "ann", server, database, SHORT) as ann,
        daemon(tmp_path / "bob", server, database, SHORT) as bob,
    ):
        post(bob, range(5))
        first = ask(ann, timeout=TIMEOUT)
        first.await_all()
        await_figure(bob, "delivered_events_total", 5)
        os.kill(ann.process.pid, signal.SIGSTOP)
        try:
            first.reset()
            post(bob, [5])
            until(lambda: scrape(bob, timeout=TIMEOUT) == once(5), PATIENCE, "the lease has lapsed")
        finally:
            os.kill(ann.process.pid, signal.SIGCONT)
        until(lambda: figure(bob, "lost_events_total", reason="late") == 5, PATIENCE, "the loss is counted")
        assert "p will never get 5 events" in ann.process.log_text()
        assert scrape(ann) == scrape(bob) == once()


def test_a_daemon_that_dies_holds_its_scrapers_up_for_its_lease(
    tmp_path: Path, server: PostgreSQLServer, database: str
) -> None:
    """They would get nothing until somebody intervenes."""
    with (
        daemon(tmp_path / "ann", server, database, SHORT) as ann,
        daemon(tmp_path / "bob", server, database, SHORT) as bob,
    ):
        post(bob, range(60), size=1000)
        lost = ask(ann, timeout=5, buffer=SMALL_BUFFER)
        lost.await_some()
        began = time.monotonic()
        ann.kill()
        lost.reset()
        got = scrape(bob)
        assert got == once(), "the response may still be read"
        while not got:
            got = scrape(bob)
        waited = time.monotonic() - began
        assert got == once(*range(60))
        assert waited < 5 + MARGIN + 5, waited
        assert bob.errors() == []


def test_a_daemon_that_starts_again_frees_its_scrapers_before_their_leases_end(
    tmp_path: Path, server: PostgreSQLServer, database: str
) -> None:
    """After a crash they would wait for the whole margin, which may be long."""
    with (
        daemon(tmp_path / "ann", server, database, "--lease-margin=10m") as ann,
        daemon(tmp_path / "bob", server, database, "--lease-margin=10m") as bob,
    ):
        post(bob, range(60), size=1000)
        lost = ask(ann, buffer=SMALL_BUFFER)
        lost.await_some()
        held = ask(bob, name="q", timeout=60, buffer=SMALL_BUFFER)
        held.await_some()
        ann.kill()
        lost.reset()
        ann.start()
        began = time.monotonic()
        until(lambda: scrape(bob) == once(*range(60)), PATIENCE, "the scraper is free")
        assert time.monotonic() - began < 20
        assert "ended 1 deliveries that this daemon had left behind" in ann.process.log_text()
        assert scrape(ann, name="q") == once(), "the other daemon's delivery is in flight"
        assert held.read() == once(*range(60))


def test_a_daemon_whose_clock_is_wrong_delivers_as_the_others_do(
    tmp_path: Path, server: PostgreSQLServer, database: str
) -> None:
    """With timestamps=event it would hold back all events, or give them times of its own."""
    clock = WallClock(tmp_path, -1 * HOURS)
    with (
        daemon(tmp_path / "ann", server, database, variables=clock.variables) as ann,
        daemon(tmp_path / "bob", server, database) as bob,
    ):
        for number, (one, other) in enumerate(((ann, bob), (bob, ann), (ann, ann))):
            post(one, [number])
            assert scrape(other, query="&timestamps=event") == once(number)
        own = ann.get("/metrics/daemon")
        [total] = re.findall(r"^oneshotd_delivery_seconds_sum (\S+)$", own, re.MULTILINE)
        assert 0 <= float(total) < PATIENCE


@pytest.fixture
def skewed() -> Iterator[tuple[PostgreSQLServer, WallClock]]:
    """A server whose clock is set by the test."""
    folder = Path(tempfile.mkdtemp(prefix="oneshotd-clock-"))
    try:
        folder.chmod(0o755)  # the server runs as another user
        clock = WallClock(folder)
        with running_server(variables=clock.variables) as server:
            yield server, clock
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("step", [-2 * HOURS, 2 * HOURS])
def test_a_step_of_the_databases_clock_freezes_no_lease(
    tmp_path: Path, skewed: tuple[PostgreSQLServer, WallClock], step: float
) -> None:
    """After a failover to a host whose clock is two hours behind, scrapers would wait for two hours."""
    server, clock = skewed
    database = server.new_database()
    with (
        daemon(tmp_path / "ann", server, database, SHORT) as ann,
        daemon(tmp_path / "bob", server, database, SHORT) as bob,
    ):
        post(bob, range(60), size=1000)
        lost = ask(ann, timeout=5, buffer=SMALL_BUFFER)
        lost.await_some()
        ann.kill()
        lost.reset()
        clock.set(step)
        began = time.monotonic()
        until(lambda: scrape(bob) == once(*range(60)), 5 + MARGIN + 10, "the scraper is free")
        assert time.monotonic() - began < 5 + MARGIN + 10
        for number in range(100, 105):  # and events go on, with each other's order
            post(bob, [number])
            assert scrape(bob) == once(number)
