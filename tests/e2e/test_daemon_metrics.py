"""Two real daemons over one database: the cluster's figures at both, and each one's own."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import frozen
from prometheus_client.parser import text_string_to_metric_families
from support.alternating_proxy import AlternatingProxy
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import free_port
from support.prometheus import Prometheus

pytestmark = pytest.mark.e2e

#: The job of the events, through the balancer, and that of the daemons, each at its own address.
CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: oneshotd
    params: {{scraper: [prometheus]}}
    static_configs: [{{targets: ["127.0.0.1:{balancer}"]}}]
  - job_name: oneshotd-daemons
    metrics_path: /metrics/daemon
    static_configs: [{{targets: ["127.0.0.1:{ann}", "127.0.0.1:{bob}"]}}]
  # What it would be if a daemon's own figures were scraped through the balancer.
  - job_name: wrong
    metrics_path: /metrics/daemon
    static_configs: [{{targets: ["127.0.0.1:{second_balancer}"]}}]
"""


@frozen
class Cluster:
    """Two daemons that share a database."""

    server: PostgreSQLServer
    ann: Daemon
    bob: Daemon


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        server = stack.enter_context(running_server())
        store = f"--store=postgresql:{server.address(server.new_database())}"
        daemons = []
        for name in ("ann", "bob"):
            port, folder = free_port(), tmp_path / name
            folder.mkdir()
            options = (f"--http=localhost:{port}", f"--udp=127.0.0.1:{port}", store, f"--daemon-name={name}")
            daemons.append(stack.enter_context(Daemon(folder, options=options, port=port)))
        yield Cluster(server, *daemons)


def post(daemon: Daemon, path: str, body: str = "") -> None:
    request = urllib.request.Request(
        daemon.url + path, data=body.encode(), headers={"Content-Type": "text/plain"}, method="POST"
    )
    with BROWSER.open(request, timeout=20) as answer:
        assert answer.status == 200


def figures(text: str) -> dict[str, float]:
    """Series -> number; only of the daemons' own metrics."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.startswith("events_to_metrics"):
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def reconnects(daemon: Daemon) -> float:
    return figures(daemon.get("/metrics/daemon"))["oneshotd_database_reconnects_total"]


def test_both_show_the_clusters_figures_and_each_its_own(cluster: Cluster) -> None:
    """A load balancer would show other numbers with each scrape, or nobody those of one daemon."""
    ann, bob = cluster.ann, cluster.bob
    ann.get("/metrics?scraper=p")
    for number in range(7):
        post(ann if number < 3 else bob, f"/event?n={number}")
    ann.get("/metrics?scraper=p")
    post(bob, "/events", "type=x\ntype=y")
    bob.get("/metrics?scraper=p")
    delivered = "oneshotd_scraper_delivered_events_total{scraper=p}"
    ann.process.until(lambda: figures(ann.look())[delivered] == 9, 30, "the last delivery is settled")
    post(ann, "/event?type=waits")
    of_ann, of_bob = figures(ann.get("/metrics?look")), figures(bob.get("/metrics?look"))
    assert of_ann == of_bob
    assert of_ann["oneshotd_events_accepted_total"] == 10
    assert of_ann["oneshotd_held_events"] == 10
    assert of_ann["oneshotd_scraper_pending_events{scraper=p}"] == 1
    assert of_ann[delivered] == 9
    assert of_ann["oneshotd_scraper_last_seen_timestamp_seconds{scraper=p}"] > 1e9
    assert not [name for name in of_ann if name.startswith(("process_", "oneshotd_commit_"))]
    own = [figures(each.get("/metrics/daemon")) for each in (ann, bob)]
    for figure, numbers in {
        "oneshotd_events_accepted_total{source=http}": [4, 4],
        "oneshotd_events_accepted_total{source=http_bulk}": [0, 2],
        "oneshotd_scrapes_total{result=events}": [1, 1],
        "oneshotd_scrapes_total{result=empty}": [1, 0],
        "oneshotd_database_reconnects_total": [0, 0],
        "oneshotd_store_writable": [1, 1],
    }.items():
        assert [each[figure] for each in own] == numbers, figure
    assert not {name.partition("{")[0] for name in own[0]} & {
        name.partition("{")[0] for name in of_ann if name.startswith("oneshotd_scraper_")
    }
    for name, daemon in (("ann", ann), ("bob", bob)):
        assert f"Answered by the daemon <bdi>{name}</bdi>" in daemon.get("/live", "text/html")
    # Nobody has become a scraper by that, and the page of either says the same.
    known = [json.loads(each.get("/api/v1/scrapers"))["scrapers"] for each in (ann, bob)]
    assert known[0] == known[1]
    assert [(each["name"], each["delivered"]) for each in known[0]] == [("p", 9)]


def test_a_restart_of_the_database_is_counted_by_each_daemon(cluster: Cluster) -> None:
    """Which of the daemons has a bad line to the database could not be told."""
    cluster.server.restart("immediate")
    for daemon in (cluster.ann, cluster.bob):
        daemon.process.until(daemon.is_ready, 60, "ready again")
        post(daemon, "/event?type=again")
        daemon.process.until(
            lambda daemon=daemon: reconnects(daemon) == 2,  # type: ignore[misc]
            30,
            "both connections are open again",
        )
    assert figures(cluster.ann.get("/metrics?look"))["oneshotd_events_accepted_total"] == 2


def test_without_the_database_a_scrape_has_no_figures_that_would_fall_back(cluster: Cluster) -> None:
    """A counter that falls is one that began at zero, to Prometheus, and its rate a mountain."""
    post(cluster.ann, "/event?type=x")
    cluster.ann.get("/metrics?scraper=p")
    cluster.server.stop("immediate")
    for daemon in (cluster.ann, cluster.bob):
        shown = figures(daemon.get("/metrics?scraper=p"))
        assert [name.partition("{")[0] for name in shown] == ["oneshotd_build_info"]
        assert "oneshotd_store_writable" in figures(daemon.get("/metrics/daemon"))


def test_a_prometheus_that_changes_daemons_sees_counters_that_never_fall(
    cluster: Cluster, tmp_path: Path
) -> None:
    """`rate()` would be nonsense behind a load balancer."""
    ann, bob = cluster.ann, cluster.bob
    binary = fetch("prometheus", None) / "usr/bin/prometheus"
    # One for each job: two jobs in turn would each find the same daemon every time.
    with AlternatingProxy([ann.port, bob.port]) as balancer, AlternatingProxy([ann.port, bob.port]) as second:
        ports = {"balancer": balancer.port, "second_balancer": second.port, "ann": ann.port, "bob": bob.port}
        config = CONFIG.format(**ports)
        with Prometheus(binary, tmp_path / "prometheus", config) as server:
            server.process.until(lambda: server.value('up{job="oneshotd"}') == 1, 30, "the first scrape")
            sent = 0
            for number in range(12):
                for daemon, count in ((ann, 4 + number % 3), (bob, 1)):
                    post(daemon, "/events", "\n".join(f"n={sent + each}" for each in range(count)))
                    sent += count
                scraped = server.value("count_over_time(up{job='oneshotd'}[10m])")
                server.process.until(
                    lambda before=scraped: server.value("count_over_time(up{job='oneshotd'}[10m])") > before,  # type: ignore[misc]
                    30,
                    "another scrape",
                )
            everything = "sum(count_over_time(events_to_metrics[10m]))"
            server.process.until(lambda: server.value(everything) == sent, 30, f"{sent} events")
            delivered = 'oneshotd_scraper_delivered_events_total{job="oneshotd",scraper="prometheus"}'
            server.process.until(lambda: server.value(delivered) == sent, 30, "the counter")
            assert server.unhealthy_targets() == []
            scrapes = server.value('count_over_time(up{job="oneshotd"}[10m])')
            counters = server.query('{job="oneshotd",__name__=~"oneshotd_.+_total"}[10m]')
            assert len(counters) == 10, [row["metric"] for row in counters]
            for row in counters:
                numbers = [float(value) for _, value in row["values"]]
                assert numbers == sorted(numbers), row["metric"]
                # It was there with each scrape, whichever daemon was asked, but for those that made the
                # scraper known.
                assert scrapes - 3 <= len(numbers) <= scrapes + 1, row["metric"]
            assert server.value(f"resets({delivered}[10m])") == 0
            assert server.value('oneshotd_events_accepted_total{job="oneshotd"}') == sent
            assert server.value('sum(oneshotd_events_accepted_total{job="oneshotd-daemons"})') == sent
            # The test can fail: a daemon's own figures do jump.
            wrong = 'sum(resets(oneshotd_events_accepted_total{job="wrong"}[10m]))'
            assert server.value(wrong) > 0
        assert min(balancer.answered.values()) >= 5, balancer.answered
        for daemon in (ann, bob):
            [scraper] = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
            assert 0.5 < scraper["interval_seconds"] < 1.5
            assert "seem to share" not in daemon.get("/live", "text/html")
    assert [line for each in (ann, bob) for line in each.errors()] == []
