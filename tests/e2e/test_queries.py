"""Every query of docs/queries.md gives the result that stands under it, in every server, by both ways.

A failure shows as a dashboard or an alert that counts wrong, though it was copied from the docs.
"""

from __future__ import annotations

import json
import math
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.documented_queries import (
    METRICSQL,
    PROMETHEUS_2,
    PROMETHEUS_3,
    PUSHED,
    SCRAPED,
    SERVERS,
    TIME,
    TOTAL,
    TOTAL_ON_AN_EDGE,
    WAYS,
    Query,
    blocks,
    queries,
)
from support.prometheus import Prometheus, scrape_config
from support.receivers import STORES, receiver, receivers_file
from support.victoriametrics import VictoriaMetrics

pytestmark = pytest.mark.e2e

SAMPLES = "sum(count_over_time(events_to_metrics[1h]))"
#: On which edge the page's panels are tried: the first sample of this series.
ON_THE_EDGE = 'events_to_metrics{type="login_failed"}[1h]'

IGNORED = ("__name__", "job", "instance")
SECONDS = {"15s": 15, "1m": 60, "5m": 300}
#: The page's, of which `$__rate_interval` is made. The servers here scrape once a second, or see a pushed
#: event for a second.
SCRAPE_INTERVAL = 15

#: Name on the page -> name in `STORES`.
RECEIVERS = {
    PROMETHEUS_2: "prometheus-bookworm",
    PROMETHEUS_3: "prometheus-sid",
    METRICSQL: "victoriametrics",
}

QUERIES = list(queries())


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How the events reach the servers."""
    found: str = request.param
    return found


def scraping(folder: Path) -> tuple[Daemon, dict[str, Prometheus]]:
    """A daemon, and the servers that scrape it; none of them is started."""
    daemon = Daemon(folder / "daemon")
    target = f"127.0.0.1:{daemon.port}"
    old = fetch("prometheus") / "usr/bin/prometheus"
    new = fetch("prometheus", "sid") / "usr/bin/prometheus"
    victoria = fetch("victoria-metrics", "sid") / "usr/bin/victoria-metrics"
    return daemon, {
        PROMETHEUS_2: Prometheus(old, folder / "old", scrape_config("old", target)),
        PROMETHEUS_3: Prometheus(new, folder / "new", scrape_config("new", target)),
        METRICSQL: VictoriaMetrics(victoria, folder / "victoria", scrape_config("victoria", target)),
    }


def receiving(folder: Path) -> tuple[Daemon, dict[str, Prometheus]]:
    """A daemon, and the servers to which it pushes; none of them is started."""
    stores = {store.name: store for store in STORES}
    made = {name: receiver(stores[store], folder / store) for name, store in RECEIVERS.items()}
    ports = {RECEIVERS[name]: server.port for name, server in made.items()}
    file = receivers_file(folder / "receivers.toml", ports, visible='"1s"')
    return Daemon(folder / "daemon", more=[f"--receivers={file}"]), made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, way: str) -> Iterator[Mapping[str, Prometheus]]:
    """The three of them, with the page's events."""
    daemon, made = (scraping if way == SCRAPED else receiving)(tmp_path_factory.mktemp(f"queries-{way}"))
    process = made[PROMETHEUS_3].process
    process.command = (*process.command, "--enable-feature=promql-experimental-functions")
    with ExitStack() as stack:
        for server in made.values():
            stack.enter_context(server)
        stack.enter_context(daemon)
        expected = 0.0
        for body in blocks("events"):
            post(daemon, body)
            expected += samples(body, way)
            for server in made.values():
                await_value(server, SAMPLES, expected)
        for server in made.values():
            # The last samples are over, too, so what follows is what somebody sees who comes later.
            await_value(server, "count(events_to_metrics)", 0)
        yield made


@pytest.mark.parametrize("query", [query for query in QUERIES if query.kind != "panel"], ids=lambda q: q.text)
def test_a_query_gives_what_the_page_says(query: Query, servers: Mapping[str, Prometheus], way: str) -> None:
    for name in query.servers:
        server, rows = servers[name], query.expected(name, way)
        found = server.by_labels(on_these_servers(query.text, step=0), *IGNORED)
        assert set(found) == set(rows), name
        for labels, value in rows.items():
            if value == TIME:
                assert found[labels] in times(server), f"{name} {labels}"
            else:
                assert found[labels] == float(value), f"{name} {labels}"


@pytest.mark.parametrize("query", [query for query in QUERIES if query.kind == "panel"], ids=lambda q: q.text)
def test_a_panel_adds_up_to_what_the_page_says(
    query: Query, servers: Mapping[str, Prometheus], way: str
) -> None:
    for name in query.servers:
        server, figures = servers[name], query.expected(name, way)
        step = SECONDS[figures["step"]]
        text = on_these_servers(query.text, step)
        sample = server.samples(ON_THE_EDGE)[0][0]
        assert total(server, text, sample - step / 2, step) == float(figures[TOTAL]), name
        if TOTAL_ON_AN_EDGE in figures:
            assert total(server, text, sample, step) == float(figures[TOTAL_ON_AN_EDGE]), name


def test_the_edges_of_a_window(servers: Mapping[str, Prometheus]) -> None:
    """A window that begins or ends at the millisecond of an event, which a pushed one keeps."""
    selector = 'events_to_metrics{type="deploy",app="mail"}'
    for name, server in servers.items():
        ((at, _),) = [sample for sample in server.samples(f"{selector}[1h]") if not math.isnan(sample[1])]
        seen = [
            server.value(f"count_over_time({selector}[10s] @ {at + seconds:.3f})")
            for seconds in (-0.001, 0, 9.999, 10, 10.001)
        ]
        assert seen == [0, 1, 1, int(name == PROMETHEUS_2), 0], name


def test_the_page_covers_every_server_and_what_differs() -> None:
    """Whoever reads it for one server finds where that one is not like the others."""
    panels = [query for query in QUERIES if query.kind == "panel"]
    assert {
        name for query in panels for name in query.results if TOTAL_ON_AN_EDGE in query.results[name]
    } == {*SERVERS}
    differ = [query for query in QUERIES if len({json.dumps(rows) for rows in query.results.values()}) > 1]
    assert {"increase", "changes"} <= {query.text.partition("(")[0] for query in differ}


def test_the_pages_alert_rules_are_rules_and_their_expressions_are_tested() -> None:
    """They can be copied as they are."""
    known = {squeezed(query.text) for query in QUERIES}
    for block in blocks("yaml"):
        for group in yaml.safe_load(block)["groups"]:
            for rule in group["rules"]:
                assert squeezed(rule["expr"]) in known, rule["alert"]
                assert "for" not in rule


def test_promtool_takes_the_pages_alert_rules(tmp_path: Path) -> None:
    promtool = fetch("promtool", "sid") / "usr/bin/promtool"
    rules = tmp_path / "rules.yml"
    (block,) = blocks("yaml")
    rules.write_text(block)
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS: 3 rules found" in done.stdout


def post(daemon: Daemon, body: str) -> None:
    request = urllib.request.Request(
        f"{daemon.url}/events", data=body.encode(), headers={"Content-Type": "text/plain"}
    )
    with BROWSER.open(request, timeout=10) as answer:
        assert answer.status == 200


def samples(body: str, way: str) -> int:
    """How many samples these events become: in a scrape, a series without values is counted."""
    lines = body.splitlines()
    if way == PUSHED:
        return len(lines)
    return len({line for line in lines if "value=" not in line}) + sum("value=" in line for line in lines)


def await_value(server: Prometheus, expression: str, value: float) -> None:
    server.process.until(lambda: server.value(expression) >= value, 30, f"{expression} is {value}")
    server.process.until(lambda: server.value(expression) == value, 30, f"{expression} is {value} again")


def on_these_servers(text: str, step: int) -> str:
    """The query as Grafana would send it, with this test's scrape interval in subqueries."""
    rate_interval = max(step + SCRAPE_INTERVAL, 4 * SCRAPE_INTERVAL)
    text = text.replace("$__interval", f"{step}s").replace("$__rate_interval", f"{rate_interval}s")
    return text.replace("$__range", "1h").replace(":5s]", ":333ms]")


def total(server: Prometheus, text: str, start: float, step: int) -> float:
    """The sum of all points of a panel that begins there, wide enough for all events."""
    parameters = {"query": text, "start": round(start, 3), "end": round(start + 20 * step, 3), "step": step}
    url = f"{server.url}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    with BROWSER.open(url, timeout=10) as answer:
        rows: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
    return sum(float(value) for row in rows for _, value in row["values"])


def times(server: Prometheus) -> set[float]:
    """The times of the samples, Unix seconds."""
    rows = server.query("events_to_metrics[1h]")
    return {at for row in rows for at, value in row["values"] if value != "NaN"}


def squeezed(expression: str) -> str:
    return " ".join(expression.split())
