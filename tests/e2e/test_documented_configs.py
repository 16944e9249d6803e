"""The configurations of docs/scraping.md and of the README are what those programs take.

A failure shows as a server that does not start with what somebody copied, or as two scrapers that
share the events between them.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.daemon import REPOSITORY
from support.debian_packages import fetch
from support.readme import block

from oneshotd.core.identity import identify
from oneshotd.core.scrape_limits import PARAMETERS, scrape_limits
from oneshotd.core.scraper_features import timestamps_mode

pytestmark = pytest.mark.e2e

PAGE = REPOSITORY / "docs" / "scraping.md"
RULES = REPOSITORY / "etc" / "prometheus" / "oneshotd.rules.yml"

_FENCED = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ALLOY_PARAM = re.compile(r'"(\w+)"\s+= \["([^"]*)"\]')

#: Programs whose configuration the page shows, and how many of each.
SHOWN = {
    "prometheus": 5,
    "operator": 1,
    "victoriametrics": 2,
    "otel": 1,
    "alloy": 1,
    "telegraf": 1,
    "datadog": 1,
}


def blocks() -> Iterator[tuple[str, str]]:
    """(program, text) of every fenced block of the page."""
    for language, program, text in _FENCED.findall(PAGE.read_text(encoding="utf-8")):
        yield program or language, text


def of(program: str) -> list[str]:
    return [text for found, text in blocks() if found == program]


def for_prometheus() -> list[str]:
    """Every text that a Prometheus would read: its own, the README's, and the Collector's part."""
    inner = [yaml.safe_load(text)["receivers"]["prometheus"]["config"] for text in of("otel")]
    return [*of("prometheus"), block("scrape_configs:"), *map(yaml.safe_dump, inner)]


def jobs() -> Iterator[dict[str, Any]]:
    """Every job of a configuration in Prometheus' language."""
    for text in [*for_prometheus(), *of("victoriametrics")]:
        yield from yaml.safe_load(text)["scrape_configs"]


def parameters() -> Iterator[dict[str, str]]:
    """With which parameters the page has each named scraper ask."""
    for job in jobs():
        if job.get("metrics_path") == "/metrics/daemon":
            continue  # it is no scraper
        yield {name: text for name, (text,) in job["params"].items()}
    urls = [url for text in of("telegraf") for url in tomllib.loads(text)["inputs"]["prometheus"][0]["urls"]]
    urls += [yaml.safe_load(text)["instances"][0]["openmetrics_endpoint"] for text in of("datadog")]
    for url in urls:
        yield dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query, strict_parsing=True))
    for text in of("alloy"):
        yield dict(_ALLOY_PARAM.findall(text))


def test_the_page_shows_them_all_and_each_can_be_read() -> None:
    for _, text in blocks():
        assert text.strip()
    shown = [program for program, _ in blocks()]
    assert {program: shown.count(program) for program in shown} == SHOWN
    for program in ("prometheus", "operator", "victoriametrics", "otel", "datadog"):
        for text in of(program):
            assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize(
    ("package", "suite"), [("prometheus", None), ("promtool", "sid")], ids=["the system's", "sid's"]
)
def test_promtool_takes_every_configuration_for_prometheus(
    package: str, suite: str | None, tmp_path: Path
) -> None:
    promtool = fetch(package, suite) / "usr/bin/promtool"
    for number, text in enumerate(for_prometheus()):
        file = tmp_path / f"{number}.yml"
        file.write_text(text.replace(f"/etc/prometheus/{RULES.name}", str(RULES)))
        run([str(promtool), "check", "config", str(file)], text)


def test_victoriametrics_and_vmagent_take_theirs_strictly(tmp_path: Path) -> None:
    programs = fetch("victoria-metrics", "sid") / "usr/bin"
    file = tmp_path / "scrape.yml"
    for text in of("victoriametrics"):
        file.write_text(text)
        for program in ("victoria-metrics", "vmagent"):
            run([str(programs / program), f"-promscrape.config={file}", "-promscrape.config.dryRun"], text)


def test_every_scraper_but_the_replicas_has_a_name_that_the_daemon_takes() -> None:
    """What is copied from the page works at once, and nobody is taken for another."""
    for asked in parameters():
        assert asked.keys() <= {"scraper", "timestamps", *PARAMETERS}
        visit = identify(scraper=asked["scraper"], user_agent=None, address="192.0.2.7", timed=True)
        assert visit.named
        scrape_limits(asked)
        timestamps_mode(asked.get("timestamps"))
    names = [yaml.safe_load(text)["scrape_configs"][0]["params"]["scraper"] for text in of("prometheus")]
    assert names[-3:] == [
        ["prometheus-a"],
        ["prometheus-b"],
        ["prometheus-a"],
    ]  # a pair, then several daemons
    (operator,) = of("operator")
    assert "params" not in yaml.safe_load(operator)["spec"]


def test_what_belongs_together_is_set_together() -> None:
    """A limit that the daemon does not know loses whole responses; so do timestamps that are ignored."""
    for job in jobs():
        params: Mapping[str, list[str]] = job.get("params", {})
        for name in PARAMETERS:
            assert params.get(name) == ([str(job[name])] if name in job else None)
        assert "honor_labels" not in job
    for text in of("victoriametrics"):
        (job,) = yaml.safe_load(text)["scrape_configs"]
        assert job.get("honor_timestamps", False) == ("timestamps" in job["params"])


def run(command: list[str], text: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
