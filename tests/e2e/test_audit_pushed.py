"""`oneshotctl audit` beside real receivers of remote write: exact to the millisecond."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.daemon import BROWSER, Daemon, environment
from support.processes import until
from support.prometheus import Prometheus
from support.receivers import STORES, Store, receiver, receivers_file

pytestmark = pytest.mark.e2e

SERIES = 12
EVENTS = 120


def audit(daemon: Daemon, server: Prometheus, *words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        (
            *(sys.executable, "-m", "oneshotd.ctl", "audit", "--daemon", daemon.url, "--scraper", "r"),
            *("--prometheus", server.url, "--json", "--wait", "20s", *words),
        ),
        cwd=daemon.process.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 1) and done.stderr == "", done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


def post(daemon: Daemon, *lines: str) -> None:
    request = urllib.request.Request(
        f"{daemon.url}/events", data="\n".join(lines).encode(), headers={"Content-Type": "text/plain"}
    )
    with BROWSER.open(request, timeout=30) as answer:
        assert json.load(answer)["stored"] == len(lines)


def is_delivered(daemon: Daemon) -> bool:
    scrapers = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
    return bool(scrapers) and not any(scraper["pending"] for scraper in scrapers)


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_pushed_events_are_counted_one_by_one(store: Store, tmp_path: Path) -> None:
    with receiver(store, tmp_path / "server") as server:
        file = receivers_file(tmp_path / "receivers.toml", {"r": server.port}, visible='"2s"', **store.keys)
        with Daemon(tmp_path / "daemon", more=[f"--receivers={file}"]) as daemon:
            post(
                daemon,
                *[f"type=x&n={n % SERIES}" + ("&value=0" if n % 3 else "") for n in range(EVENTS)],
                "type=x&job=cron&instance=db",
            )
            until(lambda: is_delivered(daemon), 60, "the delivery")
            status, found = audit(daemon, server)
            assert (status, found["verdict"], found["way"]) == (0, "equal", "push"), found
            assert found["events"] == found["found"] == EVENTS + 1
            assert found["series"]["equal"] == SERIES + 1
            # The store has nothing of another instance: all are missing.
            status, found = audit(daemon, server, "--match", 'instance="other:8090"')
            assert (status, found["series"]["missing"], found["found"]) == (1, SERIES + 1, 0)
            assert daemon.errors() == []
