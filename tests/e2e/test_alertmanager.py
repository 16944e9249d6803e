"""A real alert in a real Prometheus reaches two Alertmanagers, and each of its states counts once."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from support.alertmanager import CONFIG, RECORDER, RECORDER_OPTION, Alertmanager
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.processes import until
from support.prometheus import Prometheus

pytestmark = pytest.mark.e2e

#: Seconds in which an alert that fires, or ends, has become an event.
PATIENCE = 60.0

PROMETHEUS = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: [rules.yml]
alerting:
  alertmanagers:
    - static_configs: [{{targets: [{alertmanagers}]}}]
scrape_configs:
  - job_name: oneshotd
    params: {{scraper: [prometheus]}}
    static_configs: [{{targets: ["127.0.0.1:{daemon}"]}}]
"""

RULES = """\
groups:
  - name: boiler
    rules:
      - alert: PressureHigh
        expr: last_over_time(pressure[30m]) > 5
        labels: {severity: page}
        annotations: {summary: "{{ $labels.boiler }} is at {{ $value }} bar"}
"""


class Stage:
    """A daemon, two Alertmanagers that send to it, and a Prometheus that scrapes it and alerts both."""

    def __init__(self, stack: ExitStack, folder: Path, suite: str | None) -> None:
        root = fetch("prometheus-alertmanager", suite)
        self.daemon = stack.enter_context(Daemon(folder / "daemon"))
        url = f"{self.daemon.url}/hook/alertmanager"
        config = CONFIG.format(url=url)
        options: tuple[str, ...] = ()
        if suite is not None:
            config, options = config + RECORDER.format(url=url), (RECORDER_OPTION,)
        self.peers: list[Alertmanager] = []
        for name in ("am-1", "am-2"):
            made = Alertmanager(root, folder / name, config, name=name, peers=self.peers, options=options)
            self.peers.append(stack.enter_context(made))
        until(lambda: all(peer.peers() == 2 for peer in self.peers), PATIENCE, "a cluster of two")
        server = folder / "prometheus"
        server.mkdir()
        (server / "rules.yml").write_text(RULES)
        text = PROMETHEUS.format(
            alertmanagers=", ".join(f'"127.0.0.1:{peer.port}"' for peer in self.peers),
            daemon=self.daemon.port,
        )
        self.prometheus = stack.enter_context(
            Prometheus(fetch("prometheus") / "usr/bin/prometheus", server, text)
        )

    def report(self, pressure: int) -> None:
        """Report an event that the rule watches."""
        query = urlencode({"__name__": "pressure", "boiler": "north", "value": pressure})
        request = urllib.request.Request(f"{self.daemon.url}/event?{query}", data=b"")
        with BROWSER.open(request, timeout=10) as answer:
            assert answer.status == 200

    def events(self, **labels: str) -> list[dict[str, Any]]:
        """Return the held events with these labels, the newest first."""
        found = json.loads(self.daemon.get(f"/api/v1/events?{urlencode(labels)}"))["events"]
        assert isinstance(found, list)
        return found

    def await_event(self, **labels: str) -> dict[str, Any]:
        """Wait until there is such an event; return the newest."""
        until(lambda: self.events(**labels), PATIENCE, lambda: f"an event {labels}\n{self._logs()}")
        return self.events(**labels)[0]

    def duplicates(self) -> int:
        """Return how many events were duplicates."""
        (found,) = re.findall(r"^oneshotd_events_duplicate_total (\S+)$", self.daemon.look(), re.MULTILINE)
        return int(float(found))

    def _logs(self) -> str:
        processes = [peer.process for peer in self.peers] + [self.prometheus.process, self.daemon.process]
        return "\n".join(process.tail(15) for process in processes)


@pytest.fixture(params=[None, "sid"], ids=["the system's", "sid's"])
def suite(request: pytest.FixtureRequest) -> str | None:
    """The suite of the Alertmanagers."""
    found: str | None = request.param
    return found


@pytest.fixture
def stage(tmp_path: Path, suite: str | None) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack, tmp_path, suite)


def test_an_alert_counts_once_and_ends_once(stage: Stage, suite: str | None) -> None:
    """A pair of Alertmanagers, and each repetition, would count an alert again."""
    begun = time.monotonic()
    stage.report(9)
    fired = stage.await_event(type="alert", status="firing")
    assert (
        fired["labels"].items()
        >= {"alertname": "PressureHigh", "severity": "page", "boiler": "north"}.items()
    )
    assert fired["detail"]["summary"] == "north is at 9 bar"
    assert fired["detail"]["url"].startswith("http")
    until(lambda: all(peer.sent() >= 3 for peer in stage.peers), PATIENCE, "three webhooks of each peer")
    stage.report(1)
    ended = stage.await_event(type="alert", status="resolved")
    until(lambda: all(not peer.alerts() for peer in stage.peers), PATIENCE, "no alert that fires")
    elapsed = time.monotonic() - begun
    assert 1 <= float(ended["value"]) <= elapsed
    assert fired["detail"]["time"] == ended["detail"]["time"] < ended["detail"]["end"]
    assert [event["labels"]["status"] for event in stage.events(type="alert")] == ["resolved", "firing"]
    assert stage.duplicates() >= 5
    assert [peer.failed() for peer in stage.peers] == [0, 0]
    counted = 'sum by (status) (count_over_time(events_to_metrics{type="alert"}[30m]))'
    until(
        lambda: stage.prometheus.by_labels(counted) == {'status="firing"': 1.0, 'status="resolved"': 1.0},
        PATIENCE,
        lambda: f"one sample a state in Prometheus, got {stage.prometheus.by_labels(counted)}",
    )
    if suite is not None:
        check_recorded(stage, elapsed)
    assert stage.daemon.errors() == []


def check_recorded(stage: Stage, elapsed: float) -> None:
    """See that what both peers have recorded of the alert counts once, what each has done for each."""
    stage.await_event(type="alertmanager", event="alert_resolved")
    for event in ("alert_created", "alert_grouped", "alert_resolved"):
        (found,) = stage.events(type="alertmanager", event=event)
        assert found["labels"].items() >= {"alertname": "PressureHigh", "boiler": "north"}.items()
        assert (
            (float(found["value"]) <= elapsed) if event == "alert_resolved" else found["value"] in (None, "1")
        )
    assert len(stage.events(type="alertmanager", event="startup")) == 2
    notified = stage.events(
        type="alertmanager", event="notification", receiver="oneshotd", integration="webhook"
    )
    assert len(notified) >= 6
    assert {"first_notification", "repeat_interval_elapsed"} <= {
        each["labels"]["reason"] for each in notified
    }
    assert {each["labels"]["alertname"] for each in notified} == {"PressureHigh"}


def test_an_alert_of_amtool_is_an_event(stage: Stage, suite: str | None) -> None:
    """An alert that a person or a script adds would not be counted; or a silence in the event recorder."""
    first = stage.peers[0]
    first.amtool("alert", "add", "Manual", "severity=info", "host=db1", "--annotation=summary=by hand")
    found = stage.await_event(type="alert", status="firing", alertname="Manual")
    assert found["labels"].items() >= {"severity": "info", "host": "db1"}.items()
    until(lambda: first.sent() >= 2, PATIENCE, "a second webhook")
    assert len(stage.events(type="alert")) == 1
    if suite is not None:
        first.amtool("silence", "add", "host=db1", "--comment=by hand", "--author=ann", "--duration=5m")
        stage.await_event(type="alertmanager", event="silence_created")
        stage.await_event(type="alertmanager", event="silence_muted_alert", alertname="Manual")
