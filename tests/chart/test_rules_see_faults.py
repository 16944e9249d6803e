"""The rules of these tests see a fault: each is put into rendered objects, one at a time.

A rule that sees nothing would let every later mistake of the chart pass.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest

from chart import choices, mount_rules, name_rules, schemas, security_rules, selector_rules
from chart.choices import CHOICES, OUTSIDE
from chart.combinations import singles
from chart.helm import Helm
from chart.pods import Object

NAMESPACE = "monitoring"

#: What has every kind of object, without the StatefulSet.
SHARED = {
    **next(singles(CHOICES)),
    **{"store": "postgresql", "replicas": "3", "scrape": "serviceMonitor", "locks": "client certificates"},
    **{"hooks": "yes", "rules": "yes", "netpol": "everything", "ingress": "yes", "test event": "yes"},
}
#: What has a StatefulSet and a PodMonitor.
ALONE = {**next(singles(CHOICES)), "scrape": "podMonitor", "netpol": "own namespace", "locks": "users"}

GONE = object()

POD = "spec.template.spec"
CONTAINER = f"{POD}.containers[0]"

#: Combination, kind, path in the object, the wrong value, and words of the complaint.
FAULTS: list[tuple[dict[str, str], str, str, Any, str]] = [
    (ALONE, "StatefulSet", "metadata.name", 53 * "n", "53 characters"),
    (ALONE, "StatefulSet", "metadata.name", "events_oneshotd", "is none"),
    (ALONE, "StatefulSet", "spec.serviceName", "other", "there is no such Service"),
    (ALONE, "StatefulSet", "spec.replicas", 2, "more than one replica"),
    (ALONE, "StatefulSet", "spec.selector.matchLabels", {"app": "x"}, "does not choose the pods"),
    (ALONE, "StatefulSet", f"{POD}.volumes[0].name", "other", "which is not there"),
    (
        ALONE,
        "StatefulSet",
        f"{POD}.volumes[0].configMap.name",
        "other",
        "ConfigMap other, which is not there",
    ),
    (
        ALONE,
        "StatefulSet",
        f"{POD}.volumes[1].secret.secretName",
        "other",
        "Secret other, which is not there",
    ),
    (ALONE, "StatefulSet", f"{CONTAINER}.volumeMounts[0].name", "other", "mounted nowhere"),
    (
        ALONE,
        "StatefulSet",
        f"{CONTAINER}.volumeMounts[0].mountPath",
        "/etc/oneshotd/options",
        "2 volumes are",
    ),
    (ALONE, "StatefulSet", f"{CONTAINER}.volumeMounts[1].mountPath", "/etc/other", "is not mounted"),
    (ALONE, "StatefulSet", f"{CONTAINER}.args", ["--web-config=/etc/oneshotd/web/other"], "is not mounted"),
    (ALONE, "StatefulSet", f"{CONTAINER}.args", ["--daemon-name=$(POD_NAME)"], "POD_NAME, which is not set"),
    (ALONE, "StatefulSet", f"{CONTAINER}.ports[0].name", "web", "which no container has"),
    (ALONE, "Service", "spec.ports[1].targetPort", 8091, "leads to UDP 8091"),
    (ALONE, "StatefulSet", f"{CONTAINER}.ports[0].name", 16 * "p", "more than 15 characters"),
    (ALONE, "StatefulSet", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False, "root is writable"),
    (ALONE, "StatefulSet", f"{CONTAINER}.securityContext.capabilities", {}, "drop all capabilities"),
    (ALONE, "StatefulSet", f"{POD}.securityContext.runAsUser", 0, "run as root"),
    (ALONE, "StatefulSet", f"{POD}.securityContext.seccompProfile", GONE, "seccompProfile"),
    (ALONE, "StatefulSet", f"{POD}.automountServiceAccountToken", GONE, "token of the cluster"),
    (ALONE, "StatefulSet", f"{CONTAINER}.readinessProbe.httpGet.port", "web", "a probe asks the port web"),
    (ALONE, "Service", "spec.selector", {"app.kubernetes.io/name": "oneshotd"}, "chooses Pod"),
    (ALONE, "Service", "spec.ports[1].name", "http", "two ports have one name"),
    (ALONE, "ConfigMap", "data", {"other.toml": ""}, "oneshotd.toml is named"),
    (ALONE, "ConfigMap", "metadata.labels.team", "a team", "no value of the label"),
    (ALONE, "ConfigMap", "metadata.labels.team", 1, "and not a text"),
    (ALONE, "PodMonitor", "spec.podMetricsEndpoints[0].port", "web", "which no container has"),
    (ALONE, "PodMonitor", "spec.selector.matchLabels", {"app": "x"}, "does not choose the pods"),
    (SHARED, "ServiceMonitor", "spec.endpoints[1].port", "udp", "scrapes the port udp"),
    (SHARED, "ServiceMonitor", "spec.selector.matchLabels", {"app": "x"}, "must be scraped once"),
    (SHARED, "ServiceMonitor", "spec.namespaceSelector", GONE, "does not name monitoring"),
    (SHARED, "NetworkPolicy", "spec.ingress[0].ports[0].port", "web", "which no container has"),
    (SHARED, "NetworkPolicy", "spec.ingress[0].from", [], "admits everybody"),
    (SHARED, "PodDisruptionBudget", "spec.maxUnavailable", 0, "can be drained"),
    (SHARED, "PodDisruptionBudget", "spec.minAvailable", 1, "not both"),
    (SHARED, "Ingress", "spec.rules[0].http.paths[0].backend.service.name", "other", "which is not there"),
    (
        SHARED,
        "Ingress",
        "spec.rules[0].http.paths[0].backend.service.port",
        {"name": "udp"},
        "leads to the port",
    ),
    (SHARED, "Deployment", f"{CONTAINER}.env[4].valueFrom.secretKeyRef.key", "other", "key other"),
    (SHARED, "Deployment", f"{CONTAINER}.env[4].name", "other", "ONESHOTD_STORE, which is not set"),
    (
        SHARED,
        "Deployment",
        f"{CONTAINER}.livenessProbe.exec.command",
        ["x", "--key=/etc/y"],
        "is not mounted",
    ),
    (SHARED, "Deployment", f"{POD}.serviceAccountName", "other", "ServiceAccount other"),
]

#: Combination, kind, path, the wrong value, and words of the schema's complaint.
INVALID: list[tuple[dict[str, str], str, str, Any, str]] = [
    (ALONE, "StatefulSet", "spec.replica", 1, "replica"),
    (ALONE, "StatefulSet", f"{CONTAINER}.livenessProbe.httpget", {}, "httpget"),
    (ALONE, "StatefulSet", f"{CONTAINER}.ports[0].containerPort", "8090", "8090"),
    (SHARED, "Deployment", "spec.serviceName", "x", "serviceName"),
    (SHARED, "CronJob", "spec.schedule", GONE, "schedule"),
    (SHARED, "ServiceMonitor", "spec.endpoints[0].parameters", {}, "parameters"),
    (SHARED, "ServiceMonitor", "spec.endpoints[0].params", {"scraper": "a"}, "params"),
    (SHARED, "ServiceMonitor", "spec.endpoints[0].relabelings[0].target_label", "job", "target_label"),
    (SHARED, "ServiceMonitor", "spec.podMetricsEndpoints", [], "podMetricsEndpoints"),
    (ALONE, "PodMonitor", "spec.endpoints", [], "endpoints"),
    (SHARED, "PrometheusRule", "spec.groups[0].rules[0].exp", "up", "exp"),
    (SHARED, "PrometheusRule", "spec.groups[0].name", GONE, "name"),
]


def faulty(objects: tuple[Object, ...], kind: str, path: str, value: Any) -> tuple[Object, ...]:
    """Return the objects with a value at a path of the first object of a kind."""
    made = copy.deepcopy(objects)
    place: Any = next(one for one in made if one["kind"] == kind)
    *steps, last = (int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path))
    for step in steps:
        place = place[step]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return made


def complaints(objects: tuple[Object, ...]) -> Iterator[str]:
    return chain(
        name_rules.complaints(objects),
        selector_rules.complaints(objects, NAMESPACE),
        mount_rules.complaints(objects, OUTSIDE),
        security_rules.complaints(objects),
    )


Rendered = Callable[[dict[str, str]], tuple[Object, ...]]


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> Rendered:
    def objects(row: dict[str, str]) -> tuple[Object, ...]:
        values = choices.values(row)
        if row is SHARED:
            values = {**values, "scrape": {**values["scrape"], "namespace": "elsewhere"}}
        return helm.render(values, namespace=NAMESPACE).objects

    return objects


def _ids(rows: list[tuple[dict[str, str], str, str, Any, str]]) -> list[str]:
    return [f"{kind} {path}" for _, kind, path, _, _ in rows]


@pytest.mark.parametrize("row", [ALONE, SHARED], ids=["alone", "shared"])
def test_there_is_nothing_to_complain_of_without_a_fault(row: dict[str, str], rendered: Rendered) -> None:
    assert list(complaints(rendered(row))) == []


@pytest.mark.parametrize(("row", "kind", "path", "value", "words"), FAULTS, ids=_ids(FAULTS))
def test_the_rules_see_it(
    row: dict[str, str], kind: str, path: str, value: Any, words: str, rendered: Rendered
) -> None:
    found = list(complaints(faulty(rendered(row), kind, path, value)))
    assert any(words in complaint for complaint in found), found


def test_two_objects_of_one_name_are_seen(rendered: Rendered) -> None:
    objects = rendered(ALONE)
    assert any("have this name" in complaint for complaint in complaints((*objects, objects[0])))


@pytest.mark.usefixtures("known_schemas")
def test_the_schemas_see_it(rendered: Rendered) -> None:
    wrong = []
    for row, kind, path, value, _ in INVALID:
        objects = faulty(rendered(row), kind, path, value)
        wrong.append(("1.37", next(one for one in objects if one["kind"] == kind)))
    found = schemas.complaints(wrong)
    for (_, kind, path, _, words), complaint in zip(INVALID, found, strict=True):
        assert words in complaint, f"{kind} {path}: {complaint!r}"
