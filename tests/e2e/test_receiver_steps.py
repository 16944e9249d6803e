"""The daemon is killed between any two steps of its exchange with a receiver: each event is there once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.disks import STORE, FaultyDisk
from support.processes import until
from support.prometheus import Prometheus
from support.receiver_steps import PATIENCE, await_end, check, has_pending, hold, kill_at, post
from support.receivers import STORES, receiver, receivers_file
from support.step_line import Step, StepLine

pytestmark = pytest.mark.e2e

#: Seconds from an event to its marker.
VISIBLE = 1.0

NEWEST = next(store for store in STORES if store.name == "prometheus-sid")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Prometheus]:
    with receiver(NEWEST, tmp_path / "server") as running:
        yield running


@pytest.fixture
def line(server: Prometheus) -> Iterator[StepLine]:
    with StepLine(server.port) as running:
        yield running


@pytest.fixture
def option(line: StepLine, tmp_path: Path) -> str:
    file = receivers_file(tmp_path / "receivers.toml", {"r": line.port}, visible=f'"{VISIBLE:g}s"')
    return f"--receivers={file}"


@pytest.mark.parametrize("markers", [False, True], ids=["events", "markers"])
def test_a_kill_at_each_step_of_a_request(
    server: Prometheus, line: StepLine, option: str, tmp_path: Path, markers: bool
) -> None:
    """An event would be missing, or counted twice, or seen for five minutes."""
    with Daemon(tmp_path / "daemon", more=[option]) as daemon:
        # Before the first byte: nobody listens, or what listens is no receiver yet.
        server.process.kill()
        post(daemon)
        until(lambda: 'oneshotd_receiver_accepts{scraper="r"} 0.0' in daemon.look(), PATIENCE, "an attempt")
        daemon.kill()
        server.start()
        daemon.start()
        check(daemon, server, "before the first byte")
        for step in Step:
            await_end(server, step.name)
            kill_at(daemon, line, step, markers=markers)
            line.release(goes_on=False)
            daemon.start()
            check(daemon, server, step.name)
        await_end(server, "the last step")
        assert daemon.errors() == []


@pytest.mark.parametrize("markers", [False, True], ids=["events", "markers"])
def test_a_request_that_arrives_when_later_ones_have_arrived(
    server: Prometheus, line: StepLine, option: str, tmp_path: Path, markers: bool
) -> None:
    """The network may have kept a request of a daemon that is dead: its events would be there twice."""
    with Daemon(tmp_path / "daemon", more=[option]) as daemon:
        kill_at(daemon, line, Step.ASKED, markers=markers)
        daemon.start()
        check(daemon, server, "the repetition")
        post(daemon)
        check(daemon, server, "later events")
        line.release(goes_on=True)
        post(daemon)
        check(daemon, server, "the late request")
        await_end(server, "the late request")
        assert daemon.errors() == []


def test_a_kill_at_each_step_of_a_settlement(
    server: Prometheus, line: StepLine, option: str, tmp_path: Path
) -> None:
    """An event would be missing, or counted twice, as its delivery is not on disk, or half of it."""
    disk = FaultyDisk(tmp_path / "disk")
    folder = tmp_path / "daemon"
    wal = folder / f"{STORE}-wal"
    with Daemon(folder, more=[option], variables=disk.env) as daemon:

        def settle(step: str) -> int:
            """Let the daemon have an answer, and return when the store's file had changed before."""
            hold(daemon, line, Step.STORED)
            if step == "not written":
                disk.fault(writes=errno.EIO)
            elif step == "not synced":
                disk.fault(sync_ms=3000)
            before = wal.stat().st_mtime_ns
            line.release(goes_on=True)
            return before

        settle("not written")
        daemon.process.await_text("receiver r waits for the store")
        daemon.kill()
        disk.heal()
        daemon.start()
        check(daemon, server, "not written")

        before = settle("not synced")
        until(lambda: wal.stat().st_mtime_ns != before, PATIENCE, "the settlement's write")
        daemon.kill()
        disk.heal()
        daemon.start()
        check(daemon, server, "not synced")

        settle("settled")
        until(lambda: not has_pending(daemon), PATIENCE, "the settlement")
        daemon.kill()
        daemon.start()
        check(daemon, server, "settled")
        await_end(server, "settled")
