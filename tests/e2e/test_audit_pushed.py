"""`oneshotctl audit` beside real receivers of remote write: exact to the millisecond."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.audit_command import audit_json
from support.daemon import Daemon
from support.processes import until
from support.pushed_events import post
from support.receivers import STORES, Store, receiver, receivers_file

pytestmark = pytest.mark.e2e

SERIES = 12
EVENTS = 120


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
            status, found = audit_json(daemon, "r", server.url, "--wait", "20s")
            assert (status, found["verdict"], found["way"]) == (0, "equal", "push"), found
            assert found["events"] == found["found"] == EVENTS + 1
            assert found["series"]["equal"] == SERIES + 1
            # The store has nothing of another instance: all are missing.
            status, found = audit_json(
                daemon, "r", server.url, "--wait", "20s", "--match", 'instance="other:8090"'
            )
            assert (status, found["series"]["missing"], found["found"]) == (1, SERIES + 1, 0)
            assert daemon.errors() == []
