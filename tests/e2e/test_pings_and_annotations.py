"""A cron wrapper of shell and curl, and what writes marks into charts: each needs only another base URL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon
from support.emitting_tools import provide
from support.processes import until

pytestmark = pytest.mark.e2e

UUID = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
KEY = "fqOOd6-F4MMNuCEnzTU01w"
RUNS = ("123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174001")

CHECKS = f"""
[[check]]
name = "backup"
uuid = "{UUID}"
labels = {{ team = "shop" }}

[[check]]
name = "report"
key = "{KEY}"
"""


class Machine:
    """A machine with cron: the daemon, and curl."""

    def __init__(self, daemon: Daemon, checks: Path, programs: Path) -> None:
        self.daemon = daemon
        self.checks = checks
        self._curl = shutil.which("curl", path=str(programs)) or "curl"

    def curl(self, *words: str, fails: bool = False) -> str:
        """Return what curl writes; a word that begins with / is below the URL of the daemon."""
        asked = [
            f"{self.daemon.url}{word}" if word.startswith("/") and word != os.devnull else word
            for word in words
        ]
        command = [
            self._curl,
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "20",
            *([] if fails else ["--fail"]),
            *asked,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def events(self, **labels: str) -> list[Mapping[str, Any]]:
        """Return the held events with these labels, oldest first."""
        query = "&".join(f"{name}={value}" for name, value in labels.items())
        found: list[Mapping[str, Any]] = json.loads(self.daemon.get(f"/api/v1/events?{query}"))["events"]
        return found[::-1]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    checks = tmp_path / "pings.toml"
    checks.write_text(CHECKS)
    programs = tmp_path / "bin"
    programs.mkdir()
    provide("curl", programs)
    more = [f"--pings={checks}", "--access-log", "--log-level=debug"]
    with Daemon(tmp_path, more=more) as daemon:
        yield Machine(daemon, checks, programs)
        assert daemon.errors() == []
        assert not [line for line in daemon.process.log_text().splitlines() if UUID in line or KEY in line]


def test_two_runs_of_a_wrapper_over_a_restart(machine: Machine) -> None:
    """A job that ran across an upgrade of the daemon would have no duration, or be counted twice."""
    began = time.monotonic()
    for run in RUNS:
        assert machine.curl(f"/ping/{UUID}/start?rid={run}") == "OK"
    machine.curl(f"/ping/{UUID}/start?rid={RUNS[0]}")  # its answer was lost
    machine.daemon.restart()
    assert machine.curl("--data-raw", "42 files", f"/ping/{UUID}/0?rid={RUNS[0]}") == "OK"
    machine.daemon.restart()
    least = time.monotonic()
    assert machine.curl("--data-raw", "disk full", f"/ping/{UUID}/1?rid={RUNS[1]}") == "OK"
    for run, status in zip(RUNS, (0, 1), strict=True):
        assert machine.curl("--head", f"/ping/{UUID}/{status}?rid={run}").startswith("HTTP/1.1 200")
    most = time.monotonic() - began
    assert [event["labels"]["state"] for event in machine.events(type="ping")] == [
        "start",
        "start",
        "success",
        "fail",
    ]
    succeeded, failed = machine.events(type="ping")[2:]
    assert succeeded["labels"] == {
        "type": "ping",
        "check": "backup",
        "state": "success",
        "exit_code": "0",
        "team": "shop",
    }
    assert (succeeded["detail"], failed["detail"]) == ({"text": "42 files"}, {"text": "disk full"})
    assert 0 < float(succeeded["value"]) < float(failed["value"]) <= most
    assert float(failed["value"]) >= least - began - 1  # the daemon's clock has been asked a little later
    found = json.loads(machine.curl("/api/annotations?tags=check:backup&tags=state:fail"))
    (region,) = found
    assert region["text"] == "disk full"
    assert abs(region["timeEnd"] - region["time"] - float(failed["value"]) * 1000) <= 1


def test_a_wrapper_of_cronitor(machine: Machine) -> None:
    machine.curl("--get", "--data-urlencode", "message=50% done", f"/p/{KEY}/report?state=run&series=7")
    machine.curl(f"/p/{KEY}/report?state=complete&series=7&metric=count:3")
    started, completed = machine.events(type="ping", check="report")
    assert started["detail"] == {"text": "50% done"}
    assert (started["value"], completed["detail"]) == (None, {"metrics": "count:3"})
    assert float(completed["value"]) >= 0


def test_an_unknown_url_is_404_until_the_file_names_it(machine: Machine) -> None:
    """An operator would have to restart the daemon for each job."""
    new = UUID.replace("5", "7")
    status = ("--output", os.devnull, "--write-out", "%{http_code}")
    assert machine.curl(*status, f"/ping/{new}", fails=True) == "404"
    assert machine.curl(*status, "--user-agent", "Slackbot 1.0", f"/ping/{UUID}", fails=True) == "403"
    machine.checks.write_text(CHECKS + f'[[check]]\nname = "new"\nuuid = "{new}"\n')
    until(lambda: machine.curl(*status, f"/ping/{new}", fails=True) == "200", 30, "the new check")
    assert [event["labels"]["check"] for event in machine.events(type="ping")] == ["new"]
    assert new not in machine.daemon.process.log_text()


def test_marks_of_charts(machine: Machine) -> None:
    """A deployment would not be in the charts."""
    argo = {
        "time": 1507037197000,
        "isRegion": False,
        "tags": ["deploy", "env:prod"],
        "text": "shop is synced",
    }
    json_type = ("--header", "Content-Type: application/json", "--header", "Accept: application/json")
    first, again = (
        json.loads(machine.curl(*json_type, "--data-raw", json.dumps(argo), "/api/annotations"))
        for _ in range(2)
    )
    assert first == again == {"message": "Annotation added", "id": first["id"]}
    event = {"what": "deploy", "tags": ["deploy", "env:dev"], "data": "by ann"}
    made = json.loads(machine.curl(*json_type, "--data-raw", json.dumps(event), "/api/annotations/graphite"))
    assert made["message"] == "Graphite annotation added"
    # As the documentation of Graphite does it: as a form, which it is not.
    assert machine.curl("--data-raw", json.dumps(event), "/events/") == ""
    assert len(machine.events(type="annotation")) == 3
    found = json.loads(machine.curl("/api/annotations?tags=deploy&tags=env:prod"))
    assert found == [
        {
            "id": first["id"],
            "time": 1507037197000,
            "timeEnd": 1507037197000,
            "text": "shop is synced",
            "tags": ["env:prod", "deploy"],
        }
    ]
    newest = json.loads(machine.curl("/api/annotations?limit=1&tags=env:dev&tags=env:prod&matchAny=true"))
    assert [mark["text"] for mark in newest] == ["deploy\nby ann"]
