"""A browser, and a daemon with an hour behind it, for the tests of the status page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.chromium import Page
from support.daemon import BROWSER, REPOSITORY, Daemon, environment
from support.processes import until

#: What the busy daemon is told while it is looked at.
LATELY: tuple[dict[str, str], ...] = (
    {"type": "login", "result": "denied", "realm": "shop"},
    {"type": "cron", "task": "sync-stock", "status": "ok", "value": "1.18"},
    {"type": "login", "result": "ok", "realm": "shop"},
    {"type": "deploy", "service": "shop", "version": "2.14.2", "by": "ana"},
    {"type": "login", "result": "ok", "realm": "back office"},
)


@contextmanager
def busy_daemon(folder: Path) -> Iterator[Daemon]:
    """Two scrapers come, one stays away."""
    command = [sys.executable, "-m", "support.example_hour", str(folder / "oneshotd.sqlite")]
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])}
    subprocess.run(command, env=env, check=True, timeout=60)
    with Daemon(folder) as daemon:
        for labels in LATELY:
            post(daemon, **labels)
            scrape(daemon, "prometheus-a")
            scrape(daemon, "victoria-1")
            time.sleep(1.0)  # their interval
        post(daemon, type="login", result="ok", realm="shop")
        scrape(daemon, "prometheus-a")
        yield daemon
        assert daemon.errors() == []


def post(daemon: Daemon, **labels: str) -> None:
    body = urllib.parse.urlencode(labels).encode()
    with BROWSER.open(urllib.request.Request(f"{daemon.url}/event", data=body), timeout=10) as answer:
        assert answer.status == 200


def scrape(daemon: Daemon, name: str) -> str:
    return daemon.get(f"/metrics?scraper={name}")


def text(page: Page, selector: str = "body") -> str:
    return str(page.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))


def shows(page: Page, words: str, selector: str = "body") -> None:
    until(lambda: words in text(page, selector), 20, lambda: f"{words!r} in {text(page, selector)!r}")
