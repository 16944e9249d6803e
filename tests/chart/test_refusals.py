"""Wrong values are refused with a message that names them.

A failure shows as an installation that ignores what somebody wrote, or as a pod that does not start, minutes
later and without a word about the value.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chart.helm import Helm, Refused

POSTGRESQL = {"store": {"kind": "postgresql", "secretName": "database"}}

#: Wrong values, and the words that the refusal must have.
WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"presistence": {"enabled": False}}, ("presistence",)),
    ({"server": {"hold": "2h"}}, ("server", "hold")),
    ({"server": {"options": {"holds": "2h"}}}, ("server.options", "holds")),
    ({"server": {"options": {"hold": "2 hours"}}}, ("server.options.hold",)),
    ({"server": {"options": {"hold": 3600}}}, ("server.options.hold",)),
    ({"server": {"options": {"hold": "1..5h"}}}, ("server.options.hold",)),
    ({"server": {"options": {"max-events": 20000000000000000000}}}, ("server.options.max-events",)),
    ({"server": {"options": {"http": ["8091"]}}}, ("server.options", "http")),
    ({"server": {"options": {"store": "sqlite:/tmp/x"}}}, ("server.options", "store")),
    ({"server": {"options": {"allow-emit": "10.0.0.0/8"}}}, ("server.options.allow-emit",)),
    ({"server": {"options": {"fast-path": "maybe"}}}, ("server.options.fast-path",)),
    ({"server": {"port": 80}}, ("server.port",)),
    ({"server": {"port": "8090"}}, ("server.port",)),
    ({"server": {"udp": "yes"}}, ("server.udp",)),
    ({"server": {"logLevel": "verbose"}}, ("server.logLevel",)),
    ({"server": {"pullPolicy": "Sometimes"}}, ("server.pullPolicy",)),
    ({"server": {"digest": "latest"}}, ("server.digest",)),
    ({"server": {"env": [{"name": "LOG_LEVEL", "value": "debug"}]}}, ("server.env.0.name",)),
    ({"serviceName": "Events"}, ("serviceName",)),
    ({"serviceName": 53 * "o"}, ("serviceName",)),
    ({"extraLabels": {"team": "a team"}}, ("extraLabels.team",)),
    ({"extraLabels": {"team": 64 * "t"}}, ("extraLabels.team",)),
    ({"replicaCount": 2}, ("replicaCount",)),
    ({"replicaCount": "1"}, ("replicaCount",)),
    ({"store": {"kind": "postgresql"}}, ("store.secretName",)),
    ({"store": {"kind": "mysql"}}, ("store.kind",)),
    ({"store": {"kind": "postgresql", "secretName": "x", "address": "host=db"}}, ("store", "address")),
    ({"store": {"leaseMargin": "soon"}}, ("store.leaseMargin",)),
    ({"persistence": {"size": "lots"}}, ("persistence.size",)),
    ({"persistence": {"size": "1..5Gi"}}, ("persistence.size",)),
    ({"persistence": {"accessModes": ["ReadWriteSometimes"]}}, ("persistence.accessModes",)),
    ({"webConfig": {"tls": True}}, ("webConfig.secretName",)),
    ({"webConfig": {"secretName": "web", "clientCertificates": True}}, ("webConfig.tls",)),
    (
        {"webConfig": {"secretName": "web", "tls": True, "clientCertificates": True}},
        ("webConfig.probeSecretName",),
    ),
    ({"access": {"file": "access.toml"}}, ("access", "file")),
    ({"hooks": {"key": "ci.toml"}}, ("hooks", "key")),
    ({"service": {"type": "Ingress"}}, ("service.type",)),
    ({"service": {"port": 0}}, ("service.port",)),
    ({"service": {"nodePort": "http"}}, ("service.nodePort",)),
    ({"scrape": {"by": "prometheus"}}, ("scrape.by",)),
    ({"scrape": {"by": ["serviceMonitor", "podMonitor"]}}, ("scrape.by",)),
    ({"scrape": {"scraper": "a b"}}, ("scrape.scraper",)),
    ({"scrape": {"scraper": 65 * "p"}}, ("scrape.scraper",)),
    ({"scrape": {"scraper": "${POD_NAME}"}}, ("scrape.scraper",)),
    ({"scrape": {"interval": "often"}}, ("scrape.interval",)),
    ({"scrape": {"params": {"timestamps": "event"}}}, ("scrape.params.timestamps",)),
    ({"scrape": {"by": "annotations", "params": {"a b: c": ["d"]}}}, ("scrape.params", "a b: c")),
    (
        {"netpol": {"ingress": {"allowedNamespaceMatchLabels": "monitoring"}}},
        ("allowedNamespaceMatchLabels",),
    ),
    ({"netpol": {"generate": "yes"}}, ("netpol.generate",)),
    ({"ingress": {"enabled": True}}, ("ingress.host",)),
    ({"ingress": {"enabled": True, "host": "x.example.org", "paths": ["/metrics"]}}, ("ingress.paths",)),
    ({**POSTGRESQL, "podDisruptionBudget": {"maxUnavailable": 0}}, ("podDisruptionBudget.maxUnavailable",)),
    ({"podDisruptionBudget": {"minAvailable": 1}}, ("podDisruptionBudget", "minAvailable")),
    ({"probes": {"liveness": {"httpGet": {"path": "/metrics"}}}}, ("probes.liveness", "httpGet")),
    ({"terminationGracePeriodSeconds": None}, ("terminationGracePeriodSeconds is required",)),
    ({"store": {"kind": None}, "replicaCount": 3}, ("store", "kind is required")),
    ({"terminationGracePeriodSeconds": 0}, ("terminationGracePeriodSeconds",)),
]


@pytest.fixture(scope="module")
def refusals(helm: Helm) -> list[str | None]:
    """What helm says to each; None where it takes the values."""

    def said(values: dict[str, Any]) -> str | None:
        try:
            helm.render(values)
        except Refused as refused:
            return str(refused)
        return None

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(said, [wrong for wrong, _ in WRONG]))


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[str(wrong) for wrong, _ in WRONG])
def test_wrong_values_are_refused_by_name(number: int, refusals: list[str | None]) -> None:
    said, (values, words) = refusals[number], WRONG[number]
    assert said is not None, f"helm takes {values}"
    # The schema names a value as a path with dots or slashes, by the version of helm.
    plain = said.replace("/", ".")
    assert all(word in plain for word in words), said


@pytest.mark.parametrize("version", ["1.24.0", "1.20.3"])
def test_a_cluster_that_is_too_old_is_refused(version: str, helm: Helm) -> None:
    with pytest.raises(Refused, match="kubeVersion"):
        helm.render({}, more=("--kube-version", version))
