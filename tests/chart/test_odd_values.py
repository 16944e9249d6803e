"""Values that YAML, helm or a parent chart makes into something else than was meant."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from chart import choices, name_rules, selector_rules
from chart.helm import CHART, Helm, Refused, Release
from chart.pods import pods

#: Everything that has an object of its own.
ALL: dict[str, Any] = {
    "scrape": {"by": "serviceMonitor"},
    **{name: {"enabled": True} for name in ("prometheusRule", "dashboard", "testEvent")},
    "netpol": {"generate": True},
    "ingress": {"enabled": True, "host": "events.example.org"},
}


def _paths(values: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        yield (*prefix, name)
        if isinstance(value, dict) and name not in choices.FREE:
            yield from _paths(value, (*prefix, name))


def _set(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(values))
    place = made
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = value
    return made


def test_a_value_of_null_is_refused_by_its_name_or_is_none(helm: Helm) -> None:
    """A key whose lines are all comments is null; helm then has no value, not the chart's default.

    Without `terminationGracePeriodSeconds` the daemon was killed at once, without `store.kind` three
    replicas had a file each.
    """
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    paths = list(_paths(defaults))

    def said(path: tuple[str, ...]) -> str | Release:
        try:
            return helm.render(_set(ALL, path, None))
        except Refused as refused:
            return str(refused)

    with ThreadPoolExecutor(2) as threads:
        found = dict(zip(paths, threads.map(said, paths), strict=True))
    wrong = {
        ".".join(path): text
        for path, text in found.items()
        if isinstance(text, str)
        and f"{path[-1]} is required" not in text
        and f"{'.'.join(path)}: " not in text
    }
    assert not wrong
    empty: tuple[Any, ...] = (None, "", {}, [])
    for path, result in found.items():
        value: Any = defaults
        for name in path:
            value = value[name]
        if not isinstance(result, str):
            optional = value in empty or path[-1] in choices.FREE or path[-1] == "options"
            assert optional, f"{'.'.join(path)}: null is taken, and the default is {value}"
    assert any(isinstance(result, str) for result in found.values())


def test_texts_that_look_like_something_else_stay_texts(helm: Helm) -> None:
    """A namespace 123 was a number, which Kubernetes refuses, and half of a path was a comment."""
    values = {
        **ALL,
        "serviceName": "on",
        "serviceAccountName": "0777",
        "priorityClassName": "123",
        "persistence": {"storageClass": "true", "size": "10"},
        "ingress": {**ALL["ingress"], "className": "0x1f", "paths": ["/event #x", "/a: b"]},
        "service": {"type": "LoadBalancer", "loadBalancerClass": "null"},
    }
    release = helm.render(values, namespace="123")
    assert {one["metadata"]["namespace"] for one in release.objects} == {"123"}
    assert all(isinstance(one["metadata"]["name"], str) for one in release.objects)
    daemon = release.one("StatefulSet")["spec"]
    assert daemon["serviceName"] == "on"
    assert daemon["template"]["spec"]["serviceAccountName"] == "0777"
    assert daemon["template"]["spec"]["priorityClassName"] == "123"
    (claim,) = daemon["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "true"
    assert claim["spec"]["resources"]["requests"]["storage"] == "10"
    assert release.one("Service")["spec"]["loadBalancerClass"] == "null"
    ingress = release.one("Ingress")["spec"]
    assert ingress["ingressClassName"] == "0x1f"
    assert [path["path"] for path in ingress["rules"][0]["http"]["paths"]] == ["/event #x", "/a: b"]


def test_a_label_for_all_and_for_one_object_stands_once(helm: Helm) -> None:
    """A key that stands twice is refused by some programs, and the others take one by chance."""
    one = {"team": "one"}
    values = {
        **ALL,
        "extraLabels": {"team": "all"},
        "podLabels": one,
        "scrape": {"by": "podMonitor", "labels": one},
        "prometheusRule": {"enabled": True, "labels": one},
        "dashboard": {"enabled": True, "labels": one},
    }
    release = helm.render(values)
    (dashboard,) = [each for each in release.of("ConfigMap") if "dashboard" in each["metadata"]["name"]]
    for each in (release.one("PodMonitor"), release.one("PrometheusRule"), dashboard):
        assert each["metadata"]["labels"]["team"] == "one"
    assert release.one("StatefulSet")["spec"]["template"]["metadata"]["labels"]["team"] == "one"
    assert release.one("Service")["metadata"]["labels"]["team"] == "all"


def test_the_network_policy_admits_the_chart_s_own_emitters(helm: Helm) -> None:
    """`helm test` would fail where the namespace is shut out."""
    values = _set(ALL, ("netpol", "ingress"), {"ownNamespace": False})
    release = helm.render(_set(values, ("netpol", "generate"), True))
    (rule,) = release.one("NetworkPolicy")["spec"]["ingress"]
    (test,) = [pod for pod in pods(release.objects) if pod.owner.startswith("Pod ")]
    admitted = [peer["podSelector"]["matchLabels"] for peer in rule["from"]]
    assert any(test.chosen_by(labels) for labels in admitted)
    (daemon,) = [pod for pod in pods(release.objects) if pod.daemon]
    assert not any(daemon.chosen_by(labels) for labels in admitted)


def test_another_chart_can_have_it_twice(helm: Helm, tmp_path: Path) -> None:
    """Both had one name; with names of their own, the Service of each chose the pods of both."""
    parent = tmp_path / "parent"
    helm.run("package", str(CHART), "--destination", str(parent / "charts"))
    dependency = {"name": "oneshotd", "version": "0.1.0"}
    aliases = ("shop-events", "otherEvents")
    rows = [{**dependency, "alias": alias, "condition": f"{alias}.enabled"} for alias in aliases]
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": rows}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    values = {alias: {**ALL, "enabled": True} for alias in aliases} | {"global": {"team": "events"}}
    both = helm.render(values, chart=parent)
    assert not list(name_rules.complaints(both.objects))
    services = both.of("Service")
    assert len(services) == 2
    for service in services:
        chosen = [pod.owner for pod in pods(both.objects) if pod.chosen_by(service["spec"]["selector"])]
        assert chosen == [f"StatefulSet {service['metadata']['name']}"]
    alone = helm.render({aliases[0]: {**ALL, "enabled": True}, aliases[1]: {"enabled": False}}, chart=parent)
    assert not list(
        chain(name_rules.complaints(alone.objects), selector_rules.complaints(alone.objects, "monitoring"))
    )
