"""Replicas of one Prometheus have one configuration, and each gets every event once.

Two real servers run as the replicas of the operator would: with the configuration that it makes of the
rendered monitor (`chart.operator_config`), each with its pod's name in place of ``$(POD_NAME)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.debian_packages import fetch
from support.processes import until
from support.prometheus import Prometheus

from chart.helm import Helm
from chart.installation import NAMESPACE, Installation, events, running, scrape
from chart.kubelet import Network, network
from chart.operator_config import TARGET, configuration, reloaded

pytestmark = pytest.mark.usefixtures("pods_run")

REPLICAS = ("prometheus-k8s-0", "prometheus-k8s-1")

#: Events in each of three bursts.
COUNT = 20

SUM = 'sum(sum_over_time(events_to_metrics{type="burst"}[10m]))'


@pytest.fixture
def line() -> Iterator[Network]:
    with network() as made:
        yield made


def server(folder: Path, text: str, line: Network, suite: str | None = None) -> Prometheus:
    """Return a Prometheus of this pod's network; the system's, or another suite's."""
    return Prometheus(fetch("prometheus", suite) / "usr/bin/prometheus", folder, text, prefix=line.prefix)


def burst(line: Network, name: str) -> None:
    """Send some events, each a series of its own."""
    body = "\n".join(f"type=burst&burst={name}&n={number}" for number in range(COUNT))
    done = line.curl("http://127.0.0.1:8090/events", "--fail", "--data-binary", body)
    assert done.returncode == 0, done


def test_each_replica_gets_each_event_once(helm: Helm, line: Network, tmp_path: Path) -> None:
    """Also while one is away: its pod starts again under the same name, and gets what it has missed."""
    values = {"scrape": {"by": "serviceMonitor", "interval": "1s", "scrapeTimeout": "1s"}}
    installed = Installation(tmp_path, helm, values)
    text = configuration(installed.release.one("ServiceMonitor"), [TARGET])
    with running(installed.pod(line)), ExitStack() as stack:
        replicas = [
            stack.enter_context(server(tmp_path / name, reloaded(text, {"POD_NAME": name}), line))
            for name in REPLICAS
        ]
        for replica, name in zip(replicas, REPLICAS, strict=True):
            until(lambda replica=replica: replica.scrapes() > 0, 30, f"{name} scrapes")  # type: ignore[misc]
            (target,) = replica.targets()
            assert f"scraper={name}" in target["scrapeUrl"]
            assert target["labels"]["job"] == "oneshotd"
        burst(line, "both")
        for replica in replicas:
            until(lambda replica=replica: replica.value(SUM) == COUNT, 30, "a burst")  # type: ignore[misc]
        replicas[0].stop()
        burst(line, "one is away")
        until(lambda: replicas[1].value(SUM) == 2 * COUNT, 30, "the burst of the one")
        replicas[0].start()
        burst(line, "both again")
        for replica in replicas:
            until(lambda replica=replica: replica.value(SUM) >= 3 * COUNT, 30, "all")  # type: ignore[misc]
            replica.await_scrapes(2)
            assert replica.value(SUM) == 3 * COUNT
            assert replica.discarded() == {}


def test_a_pod_monitor_makes_the_same_job(helm: Helm) -> None:
    texts = [
        configuration(helm.render({"scrape": {"by": by}}).one(kind), [TARGET])
        for by, kind in (("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor"))
    ]
    assert texts[0].replace("serviceMonitor/", "podMonitor/") == texts[1]


def test_a_name_that_nothing_expands_is_refused(helm: Helm, line: Network, tmp_path: Path) -> None:
    """Where nothing replaces ``$(POD_NAME)``, the target is down; no events are shared by one name."""
    values = {"scrape": {"by": "serviceMonitor", "interval": "1s", "scrapeTimeout": "1s"}}
    installed = Installation(tmp_path, helm, values)
    text = configuration(installed.release.one("ServiceMonitor"), [TARGET])
    with running(installed.pod(line)), server(tmp_path / "p", reloaded(text, {}), line) as prometheus:
        until(lambda: "400" in str(prometheus.unhealthy_targets()), 30, "the target is down")


def test_without_a_name_a_new_address_is_a_new_scraper(helm: Helm, line: Network, tmp_path: Path) -> None:
    """By address: each replica gets every event, and one with a new address gets the last ones again."""
    installed = Installation(tmp_path, helm, {"scrape": {"by": "serviceMonitor", "scraper": ""}})
    (endpoint,) = installed.endpoints()
    assert "params" not in endpoint
    addresses = ("10.90.0.2", "10.90.0.3", "10.90.0.4")
    for address in addresses:
        done = line.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        assert done.returncode == 0, done.stderr
    pod = installed.pod(line)
    with running(pod):
        burst(line, "first")
        for address in addresses:
            for count in (COUNT, 0):
                got = events(scrape(installed, pod, endpoint, "", "--interface", address))
                assert len(got) == count, address


@pytest.mark.parametrize("suite", [None, "sid"])
def test_pods_with_one_database_are_one_target_for_the_events(
    suite: str | None, helm: Helm, line: Network, tmp_path: Path
) -> None:
    """And a target each for their own figures: the alert rules count on it."""
    values = {
        "store": {"kind": "postgresql", "secretName": "database"},
        "replicaCount": 3,
        "scrape": {"by": "serviceMonitor"},
    }
    monitor = helm.render(values, name="events", namespace=NAMESPACE).one("ServiceMonitor")
    targets = [
        {**TARGET, "__address__": f"10.0.0.{n}:8090", "__meta_kubernetes_pod_name": f"events-oneshotd-{n}"}
        for n in (1, 2, 3)
    ]
    text = reloaded(configuration(monitor, targets), {"POD_NAME": REPLICAS[0]})
    with server(tmp_path, text, line, suite) as prometheus:
        until(lambda: len(prometheus.targets()) == 4, 30, lambda: str(prometheus.targets()))
        found = sorted((one["labels"]["job"], one["labels"]["instance"]) for one in prometheus.targets())
        assert found == [
            ("oneshotd", "events-oneshotd.monitoring.svc:8090"),
            *(("oneshotd-daemons", f"events-oneshotd-{n}") for n in (1, 2, 3)),
        ]
        (events_job,) = [one for one in prometheus.targets() if one["labels"]["job"] == "oneshotd"]
        url = "http://events-oneshotd.monitoring.svc:8090/metrics?scraper=prometheus-k8s-0"
        assert events_job["scrapeUrl"] == url
