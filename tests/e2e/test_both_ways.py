"""A real Prometheus that is scraped and pushed to: a warning, and what the audit finds."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, environment
from support.processes import until
from support.prometheus import Prometheus, scrape_config
from support.pushed_events import SERIES, lines, pending, post
from support.receivers import STORES, receiver, receivers_file

pytestmark = pytest.mark.e2e

NEWEST = next(store for store in STORES if store.name == "prometheus-sid")
WARNING = (
    "scrapes from the host to which events for r are sent: if that is one store, it has each event twice"
)


def warnings(daemon: Daemon) -> int:
    return html.unescape(daemon.get("/", "text/html")).count(WARNING)


def audit(daemon: Daemon, server: Prometheus) -> dict[str, Any]:
    command = (sys.executable, "-m", "oneshotd.ctl", "audit", "--json", "--wait", "4s", "--scraper", "r")
    done = subprocess.run(
        (*command, "--daemon", daemon.url, "--prometheus", server.url),
        cwd=daemon.process.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 1) and done.stderr == "", done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("parameters", "verdict", "factor"),
    [("scraper: [s]", "different", 2), ('events: ["0"]', "equal", 1)],
    ids=["events", "events=0"],
)
def test_a_store_that_is_scraped_and_pushed_to(
    parameters: str, verdict: str, factor: int, tmp_path: Path
) -> None:
    """Dashboards would show twice as much as there was, and nothing would say why."""
    server = receiver(NEWEST, tmp_path / "server")
    file = receivers_file(tmp_path / "receivers.toml", {"r": server.port}, visible='"1s"')
    with Daemon(tmp_path / "daemon", more=[f"--receivers={file}"]) as daemon:
        config = scrape_config("s", f"127.0.0.1:{daemon.port}")
        server.config = config.replace("scraper: [s]", parameters)
        with server:
            server.await_scrapes(3)
            post(daemon, *lines(0, SERIES))
            until(lambda: not pending(daemon), 30, "the delivery")
            server.await_scrapes(2)
            until(lambda: warnings(daemon) == factor - 1, 10, lambda: f"{warnings(daemon)} warnings")
            found = audit(daemon, server)
            assert (found["verdict"], found["events"], found["found"]) == (verdict, SERIES, SERIES * factor)
            assert daemon.errors() == []
