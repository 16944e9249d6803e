"""etc/prometheus/oneshotd.rules.yml: rules that Prometheus takes, that fire, and not for nothing.

What each alert fires for, and what it stays silent for, is in rules_test.yml.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.daemon import BROWSER, REPOSITORY, Daemon
from support.debian_packages import fetch
from support.locked_daemon import Locked
from support.postgresql_server import running_server
from support.processes import free_port
from support.receivers import receivers_file

pytestmark = pytest.mark.e2e

RULES = REPOSITORY / "etc" / "prometheus" / "oneshotd.rules.yml"
UNIT_TESTS = Path(__file__).with_name("rules_test.yml")

#: What Prometheus adds to what it scrapes.
TARGET_LABELS = {"job", "instance"}

_OWN_NAME = re.compile(r"\boneshotd_\w+")
_SERIES = re.compile(r"(\w+)\{(.*)\}")
_LABEL_NAME = re.compile(r'(\w+)[=!]~?"')
_IN_TEMPLATE = re.compile(r"\$labels\.(\w+)")

promtools = pytest.mark.parametrize(
    ("package", "suite"), [("prometheus", None), ("promtool", "sid")], ids=["the system's", "sid's"]
)


@functools.cache
def promtool(package: str, suite: str | None) -> str:
    return str(fetch(package, suite) / "usr/bin/promtool")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("rules")) as running:
        yield running


@pytest.fixture(scope="module")
def known(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every sample's name that a daemon shows, also one with locks -> its labels' names."""
    curl(daemon, "/metrics?scraper=ann")
    hooks = f"--hooks={tmp_path_factory.mktemp('hooks')}"
    checks = tmp_path_factory.mktemp("pings") / "pings.toml"
    checks.touch()
    receivers = receivers_file(checks.with_name("receivers.toml"), {"r": 9})
    with Locked(
        tmp_path_factory.mktemp("locked"), [hooks, f"--pings={checks}", f"--receivers={receivers}"]
    ).daemon as locked:
        shown = daemon.look() + locked.look()
    return labels_of(shown)


@pytest.fixture(scope="module")
def of_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The same of a daemon with a database: at /metrics, and at /metrics/daemon."""
    folder, port = tmp_path_factory.mktemp("shared"), free_port()
    with running_server() as server:
        store = f"--store=postgresql:{server.address(server.new_database())}"
        receivers = f"--receivers={receivers_file(folder / 'receivers.toml', {'r': 9})}"
        options = (f"--http=localhost:{port}", f"--udp=127.0.0.1:{port}", store, receivers)
        with Daemon(folder / "daemon", options=options, port=port) as daemon:
            curl(daemon, "/metrics?scraper=ann")
            return labels_of(daemon.look()), labels_of(daemon.get("/metrics/daemon"))


def labels_of(shown: str) -> dict[str, set[str]]:
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(shown)
        for sample in family.samples
    }


def curl(daemon: Daemon, path: str) -> None:
    request = urllib.request.Request(
        daemon.url + path, headers={"User-Agent": "curl/8.14.1", "Accept": "*/*"}
    )
    with BROWSER.open(request, timeout=10) as answer:
        answer.read()


@promtools
def test_promtool_takes_the_rules(package: str, suite: str | None) -> None:
    command = [promtool(package, suite), "check", "rules", str(RULES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(rules())} rules found" in done.stdout


@promtools
def test_each_alert_fires_when_it_should_and_at_no_other_time(
    package: str, suite: str | None, tmp_path: Path
) -> None:
    for file in (RULES, UNIT_TESTS):
        shutil.copy(file, tmp_path)
    command = [promtool(package, suite), "test", "rules", UNIT_TESTS.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    """Whoever is woken by one reads what is wrong, and what to do."""
    tried = UNIT_TESTS.read_text(encoding="utf-8")
    for rule in rules():
        assert f'alertname="{rule["alert"]}",alertstate="firing"' in tried or (
            f"alertname: {rule['alert']}\n" in tried
        ), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]


def test_the_rules_ask_for_metrics_and_labels_that_there_are(known: dict[str, set[str]]) -> None:
    """A rule about a metric that was renamed would be silent for ever."""
    for rule in rules():
        names = set(_OWN_NAME.findall(rule["expr"]))
        assert names <= known.keys(), rule["alert"]
        assert names or rule["alert"] in ("OneshotdUnreachable", "OneshotdDaemonDown")
        labels = set[str]().union(TARGET_LABELS, *(known[name] for name in names))
        assert set(_LABEL_NAME.findall(rule["expr"])) <= labels, rule["alert"]
        assert set(_IN_TEMPLATE.findall(str(rule["annotations"]))) <= labels, rule["alert"]


def test_each_rule_asks_one_job_of_a_cluster(
    known: dict[str, set[str]], of_a_cluster: tuple[dict[str, set[str]], dict[str, set[str]]]
) -> None:
    """A rule about figures of both jobs would find no two series that belong together, and be silent."""
    files = {
        name
        for name in known
        if name.startswith(("oneshotd_web_config_", "oneshotd_access_", "oneshotd_hooks_", "oneshotd_pings_"))
    }
    scrape, own = of_a_cluster
    for rule in rules():
        names = set(_OWN_NAME.findall(rule["expr"])) - files
        assert names <= scrape.keys() or names <= own.keys(), rule["alert"]
        for name in names:
            assert known[name] == {**own, **scrape}[name], name


def test_the_rules_are_tried_with_the_series_that_the_daemon_shows(known: dict[str, set[str]]) -> None:
    """Else an alert would fire in its test, and never in earnest."""
    for group in yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))["tests"]:
        for series in group["input_series"]:
            found = _SERIES.fullmatch(series["series"])
            assert found, series
            if found[1] != "up":
                labels = set(_LABEL_NAME.findall(found[2]))
                assert labels == known[found[1]] | TARGET_LABELS, series["series"]


def test_losses_are_shown_as_zero_from_the_first_scrape_on(daemon: Daemon) -> None:
    """An alert compares with what was before, so there must have been something before."""
    curl(daemon, "/metrics?scraper=ann")
    for reason in ("away", "log full", "clock"):
        assert f'oneshotd_scraper_lost_events_total{{reason="{reason}",scraper="ann"}} 0.0' in daemon.look()


def test_a_passer_bys_curl_has_no_figures_and_one_that_comes_often_is_left_out(daemon: Daemon) -> None:
    """Nobody is woken because somebody had a look at /metrics and went."""
    for _ in range(2):
        curl(daemon, "/metrics")
        assert "127.0.0.1 curl" not in daemon.look()
    curl(daemon, "/metrics")
    curl(daemon, "/metrics")
    name = "127.0.0.1 curl"
    assert f'oneshotd_scraper_last_seen_timestamp_seconds{{scraper="{name}"}}' in daemon.look()
    for rule in rules():
        matchers = re.findall(r'scraper!~"(.*?)"', rule["expr"])
        if "oneshotd_scraper_" in rule["expr"]:
            assert matchers, rule["alert"]
        for matcher in matchers:
            assert re.fullmatch(matcher, name)
            assert not re.fullmatch(matcher, "127.0.0.1 Prometheus")
            assert not re.fullmatch(matcher, "curl")  # a name that somebody gave
