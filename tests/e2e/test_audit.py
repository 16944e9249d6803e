"""`oneshotctl audit` beside a real daemon and real Prometheus servers, one of which loses events."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from support.audit_command import audit_json, run_audit
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.processes import until
from support.prometheus import Prometheus, scrape_config
from support.steady_tool import KeyedTool

pytestmark = pytest.mark.e2e

#: More series than bob takes in one scrape.
MANY = 600
LIMIT = "    sample_limit: 500\n"


class Steady(KeyedTool):
    """Sends the same event all the time, so that the edge of a window has some."""

    def report(self) -> None:
        self.post(self.sent, "__name__=steady", attempts=100, timeout=10)
        self.sent += 1


@frozen(kw_only=True)
class Stage:
    daemon: Daemon
    servers: dict[str, Prometheus]
    folder: Path

    def audit(self, name: str, *words: str) -> tuple[int, dict[str, Any]]:
        """Return the exit status, and what is printed with --json."""
        return audit_json(self.daemon, name, self.servers[name].url, "--wait", "4s", *words)

    def run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        return run_audit(self.daemon, name, self.servers[name].url, "--wait", "4s", *words)

    def send(self, *lines: str) -> None:
        request = urllib.request.Request(
            f"{self.daemon.url}/events",
            data="\n".join(lines).encode(),
            headers={"Content-Type": "text/plain"},
        )
        with BROWSER.open(request, timeout=10) as answer:
            assert answer.status == 200

    def await_delivered(self) -> None:
        """Wait until no scraper has a pending event."""

        def pending() -> dict[str, int]:
            rows = json.loads(self.daemon.get("/api/v1/scrapers"))["scrapers"]
            return {row["name"]: row["pending"] for row in rows}

        until(lambda: not any(pending().values()), 20, lambda: f"nothing pending: {pending()}")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("audit")
    binary = fetch("prometheus") / "usr/bin/prometheus"
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(folder / "daemon"))
        target = f"127.0.0.1:{daemon.port}"
        configs = {
            "ann": scrape_config("ann", target),
            "bob": scrape_config("bob", target) + LIMIT,
            "eve": scrape_config("eve", target).replace("[eve]", "[eve], timestamps: [event]"),
        }
        servers = {
            name: stack.enter_context(Prometheus(binary, folder / name, config, name=name))
            for name, config in configs.items()
        }
        for server in servers.values():
            server.await_scrapes(1)
        yield Stage(daemon=daemon, servers=servers, folder=folder)


def test_an_audit_finds_what_a_store_has_lost_and_nothing_else(stage: Stage) -> None:
    stage.send(
        *["type=deploy&app=shop"] * 3,
        "type=deploy&app=shop&job=nightly&instance=x",
        "type=deploy&job=nightly&exported_job=y",
        *[f"type=backup&value={value}" for value in ("1.5", "NaN", "0")],
        'text=a"b\\c&type=text',
    )
    stage.await_delivered()
    for name, way in (("ann", "scrape"), ("bob", "scrape"), ("eve", "event")):
        status, found = stage.audit(name)
        assert (status, found["verdict"], found["events"], found["found"]) == (0, "equal", 9, 9), found
        assert found["way"] == way
        assert found["series"]["equal"] == 5

    stage.send(*[f"__name__=many&number={number}" for number in range(MANY)])
    stage.await_delivered()
    for name, way in (("ann", "scrape"), ("eve", "event")):
        status, found = stage.audit(name)
        assert (status, found["verdict"], found["events"], found["way"]) == (0, "equal", 9 + MANY, way)
    status, found = stage.audit("bob")
    assert (status, found["verdict"]) == (1, "different")
    assert found["series"]["missing"] == MANY
    named = {(row["metric"], row["labels"]["number"]) for row in found["differences"]}
    assert named == {("many", str(number)) for number in range(MANY)}
    done = stage.run("bob", "--show", "1")
    assert done.returncode == 1
    assert 'missing: many{number="' in done.stdout and f"and {MANY - 1} more series" in done.stdout


def test_events_that_go_on_are_the_edge_at_most(stage: Stage) -> None:
    with Steady(stage.daemon.url).working():
        stage.servers["ann"].await_scrapes(6)
        status, found = stage.audit("ann", "--last", "4s")
        assert (status, found["notes"]) == (0, []), found
        assert found["events"] > 0
        assert 0 <= found["longest_lag_seconds"] < 10


def test_a_restart_of_the_daemon_hides_no_loss_and_invents_none(stage: Stage) -> None:
    """The daemon does not know the longest lag from before its start."""
    stage.daemon.restart()
    for server in stage.servers.values():
        server.await_scrapes(3)
    stage.send("type=deploy&app=shop", "type=deploy&app=after")
    stage.await_delivered()
    for name, way in (("ann", "scrape"), ("eve", "event")):
        status, found = stage.audit(name)
        assert (status, found["verdict"], found["way"]) == (0, "equal", way), found
        assert found["longest_lag_seconds"] is None
        assert ["does not know the longest lag" in note for note in found["notes"]] == [True]
    status, found = stage.audit("bob")
    assert (status, found["series"]["missing"], found["series"]["surplus"]) == (1, MANY, 0)


def test_a_range_beyond_the_hold_and_another_server_are_said(stage: Stage) -> None:
    done = stage.run("ann", "--last", "3h")
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds events for 3600 s, got 10800 s" in done.stderr
    done = stage.run("ann", "--prometheus", stage.daemon.url)
    assert (done.returncode, done.stdout) == (76, "") and "refused (404)" in done.stderr
    done = stage.run("ann", "--daemon", stage.servers["ann"].url)
    assert (done.returncode, done.stdout) == (76, "") and "refused (404)" in done.stderr
