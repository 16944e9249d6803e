"""The daemon is killed between any two steps of its exchange with a receiver: each event is there once."""

from __future__ import annotations

import errno
import json
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from support.daemon import BROWSER, Daemon
from support.disks import STORE, FaultyDisk
from support.processes import until
from support.prometheus import Prometheus
from support.receivers import STORES, receiver, receivers_file, samples
from support.step_line import Step, StepLine

pytestmark = pytest.mark.e2e

SELECTOR = 'events_to_metrics{type="x",job="oneshotd",instance="edge-1:8090"}'
SERIES = 5

#: Seconds from an event to its marker; to everything that a test waits for. After some failed attempts a
#: receiver is asked again after half a minute.
VISIBLE, PATIENCE = 1.0, 60.0

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


def post(daemon: Daemon) -> None:
    """Store two events of each series, the second of them with a value."""
    lines = [f"type=x&n={n}" + (f"&value={n}.5" if again else "") for again in (0, 1) for n in range(SERIES)]
    request = urllib.request.Request(
        f"{daemon.url}/events", data="\n".join(lines).encode(), headers={"Content-Type": "text/plain"}
    )
    with BROWSER.open(request, timeout=30) as answer:
        assert json.load(answer)["stored"] == len(lines)


def accepted(daemon: Daemon) -> Mapping[str, Sequence[tuple[int, float]]]:
    """Return what the daemon has accepted: label `n` -> (Unix ms, value)."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    page = json.loads(daemon.get("/api/v1/events?limit=1000"))
    assert not page["next"]
    for event in page["events"]:
        found[event["labels"]["n"]].append((event["at"], float(event["value"] or 1)))
    return {series: sorted(each) for series, each in found.items()}


def has_pending(daemon: Daemon) -> bool:
    scrapers = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
    return not scrapers or any(scraper["pending"] for scraper in scrapers)


def check(daemon: Daemon, server: Prometheus, step: str) -> None:
    """Wait until nothing is pending; the receiver has each event once then, and nothing is lost."""
    until(lambda: not has_pending(daemon), PATIENCE, lambda: f"{step}: delivery\n{daemon.process.tail()}")
    assert samples(server, f"{SELECTOR}[1h]") == accepted(daemon), step
    [scraper] = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
    assert scraper["lost"] == {}, step


def await_end(server: Prometheus, step: str) -> None:
    """Wait until all series have ended."""
    until(lambda: not server.query(SELECTOR), PATIENCE, f"{step}: the stale markers")


def kill_at(daemon: Daemon, line: StepLine, step: Step, *, markers: bool = False) -> None:
    """Store events, and kill the daemon when an exchange with them, or with their markers, is at a step."""
    line.hold(step, markers=markers)
    post(daemon)
    assert line.held.wait(PATIENCE), f"{step}: {daemon.process.tail()}"
    daemon.kill()


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
            line.hold(Step.STORED)
            post(daemon)
            assert line.held.wait(PATIENCE), f"{step}: {daemon.process.tail()}"
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
