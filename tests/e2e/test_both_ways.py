"""A real Prometheus that is scraped and pushed to: a warning, and what the audit finds."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from support.audit_command import audit_json
from support.daemon import Daemon
from support.processes import until
from support.prometheus import scrape_config
from support.pushed_events import SERIES, lines, pending, post
from support.receivers import STORES, receiver, receivers_file

pytestmark = pytest.mark.e2e

NEWEST = next(store for store in STORES if store.name == "prometheus-sid")
WARNING = (
    "scrapes from the host to which events for r are sent: if that is one store, it has each event twice"
)


def warnings(daemon: Daemon) -> int:
    return html.unescape(daemon.get("/", "text/html")).count(WARNING)


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
            _, found = audit_json(daemon, "r", server.url, "--wait", "4s")
            assert (found["verdict"], found["events"], found["found"]) == (verdict, SERIES, SERIES * factor)
            assert daemon.errors() == []
