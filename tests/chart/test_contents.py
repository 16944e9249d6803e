"""Rules and dashboard arrive in the cluster as they are in etc/; single values are where they belong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.debian_packages import REPOSITORY, fetch

from chart.helm import CHART, Helm

RULES = REPOSITORY / "etc" / "prometheus" / "oneshotd.rules.yml"
DASHBOARD = REPOSITORY / "etc" / "grafana" / "oneshotd.json"

MONITORED = {"prometheusRule": {"enabled": True}, "scrape": {"by": "serviceMonitor"}}


@pytest.mark.parametrize("store", [{}, {"store": {"kind": "postgresql", "secretName": "database"}}])
def test_the_alert_rules_are_those_of_etc_and_promtool_takes_them(
    store: Mapping[str, Any], helm: Helm, tmp_path: Path
) -> None:
    """A label in braces would have been taken for helm's own."""
    spec = helm.render({**MONITORED, **store}).one("PrometheusRule")["spec"]
    assert spec["groups"][:1] == yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(spec))
    promtool = fetch("prometheus") / "usr/bin/promtool"
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_that_of_etc(helm: Helm) -> None:
    """Grafana's sidecar finds it by a label, and by a name that ends with .json."""
    objects = helm.render({"dashboard": {"enabled": True}}).of("ConfigMap")
    (found,) = [one for one in objects if "grafana_dashboard" in one["metadata"]["labels"]]
    ((name, text),) = found["data"].items()
    assert name.endswith(".json")
    assert json.loads(text) == json.loads(DASHBOARD.read_text(encoding="utf-8"))


def test_a_change_of_the_options_makes_new_pods(helm: Helm) -> None:
    """The daemon reads its options once; a Secret's files are read again, and need no new pod."""

    def template(values: Mapping[str, Any]) -> Any:
        return helm.render(values).one("StatefulSet")["spec"]["template"]

    assert template({}) != template({"server": {"options": {"hold": "2h"}}})
    assert template({}) == template({"dashboard": {"enabled": True}, "service": {"port": 80}})


def test_a_digest_and_the_keys_of_secrets_are_used(helm: Helm) -> None:
    """The values that no combination changes."""
    values = {
        "server": {"image": "registry.example.org/oneshotd", "digest": f"sha256:{64 * 'a'}"},
        "access": {"secretName": "access", "key": "rules.toml"},
        "service": {"type": "NodePort", "nodePort": 30090},
        "updateStrategy": {"type": "OnDelete"},
        "probes": {"readiness": {"periodSeconds": 7}, "startup": {"failureThreshold": 9}},
        "testEvent": {"enabled": True, "schedule": "*/5 * * * *"},
    }
    release = helm.render(values)
    spec = release.one("StatefulSet")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.org/oneshotd@sha256:{64 * 'a'}"
    assert container["readinessProbe"]["periodSeconds"] == 7
    assert container["startupProbe"]["failureThreshold"] == 9
    assert spec["updateStrategy"] == {"type": "OnDelete"}
    assert 'access = "/etc/oneshotd/access/rules.toml"' in release.one("ConfigMap")["data"]["oneshotd.toml"]
    assert {port["nodePort"] for port in release.one("Service")["spec"]["ports"]} == {30090}
    assert release.one("CronJob")["spec"]["schedule"] == "*/5 * * * *"


def test_helm_runs_the_pod_of_its_test(helm: Helm) -> None:
    """The pod would be a part of the release, and run at each upgrade."""
    pod = helm.render({}).one("Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["restartPolicy"] == "Never"


def test_a_packaged_chart_renders_the_same(helm: Helm, tmp_path: Path) -> None:
    """Rules and dashboard are links to etc/, which an archive cannot have."""
    helm.run("package", str(CHART), "--destination", str(tmp_path))
    (archive,) = tmp_path.glob("oneshotd-*.tgz")
    values = {**MONITORED, "dashboard": {"enabled": True}}
    assert helm.render(values, chart=archive) == helm.render(values)


@pytest.mark.parametrize("port", [8090, 9190])
def test_annotations_name_the_port_and_the_path(port: int, helm: Helm) -> None:
    """A Prometheus that follows prometheus.io/scrape would ask elsewhere."""
    values = {"scrape": {"by": "annotations", "scraper": "prometheus-a"}, "server": {"port": port}}
    template = helm.render(values).one("StatefulSet")["spec"]["template"]
    found = {
        name: text
        for name, text in template["metadata"]["annotations"].items()
        if name.startswith("prometheus.io/")
    }
    assert found == {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": str(port),
        "prometheus.io/scheme": "http",
        "prometheus.io/param_scraper": "prometheus-a",
    }
    (container,) = template["spec"]["containers"]
    assert container["ports"][0] == {"name": "http", "containerPort": port, "protocol": "TCP"}
