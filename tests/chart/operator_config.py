"""The configuration that the Prometheus operator makes of a monitor, and what its reloader makes of that.

Neither program comes by a package of the registries that tests use, so this is what their source says: the
operator's, version 0.93.0 (pkg/prometheus/promcfg.go), and the reloader's, which is that of Thanos 0.42
(pkg/reloader). In place of the discovery, the targets are given, with the labels that it would give them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from chart.pods import Object

_VARIABLE = re.compile(r"\$\(([a-zA-Z_0-9]+)\)")

#: What the discovery would say of the pod of a release `events`; all pods are on a loopback here.
TARGET = {
    "__address__": "127.0.0.1:8090",
    "__meta_kubernetes_namespace": "monitoring",
    "__meta_kubernetes_service_name": "events-oneshotd",
    "__meta_kubernetes_pod_name": "events-oneshotd-0",
    "__meta_kubernetes_pod_container_name": "oneshotd",
}

#: The labels of a target that the operator takes from the discovery: label -> label of the discovery.
_COPIED = {
    "namespace": "__meta_kubernetes_namespace",
    "service": "__meta_kubernetes_service_name",
    "pod": "__meta_kubernetes_pod_name",
    "container": "__meta_kubernetes_pod_container_name",
    "job": "__meta_kubernetes_service_name",
}

#: Field of an endpoint -> key of a job.
_FIELDS = {
    "interval": "scrape_interval",
    "scrapeTimeout": "scrape_timeout",
    "path": "metrics_path",
    "params": "params",
    "scheme": "scheme",
}


def configuration(monitor: Object, targets: Sequence[Mapping[str, str]]) -> str:
    """Return the prometheus.yml for a monitor.

    :param targets: the labels of each, ``__address__`` with them.
    """
    spec = monitor["spec"]
    endpoints = spec.get("endpoints") or spec["podMetricsEndpoints"]
    name = f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}"
    kind = monitor["kind"][0].lower() + monitor["kind"][1:]
    jobs = [_job(f"{kind}/{name}/{n}", endpoint, targets) for n, endpoint in enumerate(endpoints)]
    return yaml.safe_dump({"global": {"scrape_interval": "30s"}, "scrape_configs": jobs})


def _job(name: str, endpoint: Object, targets: Sequence[Mapping[str, str]]) -> Object:
    relabelings: list[Object] = [
        {"source_labels": [found], "target_label": label} for label, found in _COPIED.items()
    ]
    relabelings.append({"target_label": "endpoint", "replacement": endpoint["port"]})
    relabelings += [_relabeling(one) for one in endpoint.get("relabelings", [])]
    statics = [
        {
            "targets": [labels["__address__"]],
            "labels": {k: v for k, v in labels.items() if k != "__address__"},
        }
        for labels in targets
    ]
    taken = {key: endpoint[field] for field, key in _FIELDS.items() if field in endpoint}
    return {"job_name": name, **taken, "static_configs": statics, "relabel_configs": relabelings}


def _relabeling(one: Mapping[str, Any]) -> Object:
    """Return a relabeling with the names of prometheus.yml: ``targetLabel`` is ``target_label``."""
    return {re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name): value for name, value in one.items()}


def reloaded(text: str, environment: Mapping[str, str]) -> str:
    """Return a configuration with each ``$(NAME)`` replaced; since version 0.76 an unknown one stays."""
    return _VARIABLE.sub(lambda found: environment.get(found[1], found[0]), text)
