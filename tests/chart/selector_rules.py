"""Whether selectors choose what they are for, and the ports that objects name exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chart.pods import WORKLOADS, Object, Pod, pods, title


def complaints(objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    """Yield what is wrong, each with the object that it is about.

    :param namespace: that of the release.
    """
    daemons = [pod for pod in pods(objects) if pod.daemon]
    others = [pod for pod in pods(objects) if not pod.daemon]
    if len(daemons) != 1:
        yield f"{len(daemons)} workloads, and the chart is for one: {[pod.owner for pod in daemons]}"
        return
    (daemon,) = daemons
    for container in daemon.spec["containers"]:
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            port = container.get(name, {}).get("httpGet", {}).get("port")
            if port is not None and not daemon.has_port(port, "TCP"):
                yield f"{daemon.owner}: a probe asks the port {port}, which no container has"
    for one in objects:
        check = _CHECKS.get(one["kind"], _no_check)
        for complaint in check(one, daemon, objects, namespace):
            yield f"{title(one)}: {complaint}"
        chosen = _selector(one)
        for pod in others:
            if chosen and pod.chosen_by(chosen):
                yield f"{title(one)}: chooses {pod.owner} as well"


def _no_check(one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    return iter(())


def _selector(one: Object) -> dict[str, str]:
    """Return the labels by which an object chooses pods."""
    spec = one.get("spec", {})
    if one["kind"] == "Service":
        return dict(spec.get("selector") or {})
    if one["kind"] in (*WORKLOADS, "PodDisruptionBudget", "PodMonitor"):
        return dict(spec["selector"].get("matchLabels") or {})
    if one["kind"] == "NetworkPolicy":
        return dict(spec["podSelector"].get("matchLabels") or {})
    return {}


def _chooses_pods(one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    if not daemon.chosen_by(_selector(one)):
        yield f"its selector {_selector(one)} does not choose the pods of {daemon.owner}"


def _stateful_set(one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    yield from _chooses_pods(one, daemon, objects, namespace)
    service = one["spec"].get("serviceName")
    if service not in [other["metadata"]["name"] for other in objects if other["kind"] == "Service"]:
        yield f"its serviceName is {service}, and there is no such Service"
    if one["spec"].get("replicas", 1) > 1:
        yield "more than one replica, and each would have events of its own"


def _service(one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    yield from _chooses_pods(one, daemon, objects, namespace)
    ports = one["spec"]["ports"]
    if len(ports) > 1 and not all(port.get("name") for port in ports):
        yield "it has several ports, and one without a name"
    names = [port.get("name") for port in ports]
    if len(set(names)) < len(names):
        yield f"two ports have one name: {names}"
    for port in ports:
        target, protocol = port.get("targetPort", port["port"]), port.get("protocol", "TCP")
        if not daemon.has_port(target, protocol):
            yield f"its port {port.get('name')} leads to {protocol} {target}, which no container has"


def _network_policy(one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    yield from _chooses_pods(one, daemon, objects, namespace)
    for rule in one["spec"].get("ingress") or []:
        if "ports" in rule and not rule["ports"]:
            yield "a rule with an empty list of ports admits every port"
        if "from" in rule and not rule["from"]:
            yield "a rule with an empty list of peers admits everybody"
        for port in rule.get("ports", []):
            if not daemon.has_port(port["port"], port.get("protocol", "TCP")):
                yield f"admits {port}, which no container has"


def _disruption_budget(
    one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str
) -> Iterator[str]:
    yield from _chooses_pods(one, daemon, objects, namespace)
    spec = one["spec"]
    if ("minAvailable" in spec) == ("maxUnavailable" in spec):
        yield "one of minAvailable and maxUnavailable is needed, and not both"
    (workload,) = [other for other in objects if other["kind"] in WORKLOADS]
    replicas = workload["spec"].get("replicas", 1)
    if spec.get("maxUnavailable") in (0, "0%") or spec.get("minAvailable") in (replicas, "100%"):
        yield f"no pod may go, so no node with one of the {replicas} can be drained"


def _reaches_namespace(one: Object, namespace: str) -> Iterator[str]:
    own = one["metadata"].get("namespace", namespace)
    chosen = one["spec"].get("namespaceSelector", {})
    if own != namespace and not chosen.get("any") and namespace not in chosen.get("matchNames", []):
        yield f"it is in {own}, and its namespaceSelector does not name {namespace}"


def _service_monitor(one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    yield from _reaches_namespace(one, namespace)
    wanted = one["spec"]["selector"].get("matchLabels") or {}
    services = [other for other in objects if other["kind"] == "Service"]
    chosen = [other for other in services if wanted.items() <= other["metadata"].get("labels", {}).items()]
    if len(chosen) != 1 or not wanted:
        yield f"its selector chooses {[title(other) for other in chosen]}; each pod must be scraped once"
        return
    ports = {port.get("name"): port.get("protocol", "TCP") for port in chosen[0]["spec"]["ports"]}
    for endpoint in one["spec"]["endpoints"]:
        if ports.get(endpoint.get("port")) != "TCP":
            yield f"it scrapes the port {endpoint.get('port')}, and {title(chosen[0])} has {ports}"


def _pod_monitor(one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    yield from _reaches_namespace(one, namespace)
    yield from _chooses_pods(one, daemon, objects, namespace)
    for endpoint in one["spec"]["podMetricsEndpoints"]:
        if not daemon.has_port(endpoint.get("port", ""), "TCP"):
            yield f"it scrapes the port {endpoint.get('port')}, which no container has"


def _ingress(one: Object, daemon: Pod, objects: tuple[Object, ...], namespace: str) -> Iterator[str]:
    services = {other["metadata"]["name"]: other for other in objects if other["kind"] == "Service"}
    for rule in one["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            service = services.get(backend["name"])
            if service is None:
                yield f"it leads to the Service {backend['name']}, which is not there"
                continue
            (field, wanted), *_ = backend["port"].items()
            known: list[Any] = [
                port.get("name" if field == "name" else "port")
                for port in service["spec"]["ports"]
                if port.get("protocol", "TCP") == "TCP"
            ]
            if wanted not in known:
                yield f"it leads to the port {wanted}, and {title(service)} has {known}"


_CHECKS = {
    "StatefulSet": _stateful_set,
    "Deployment": _chooses_pods,
    "Service": _service,
    "NetworkPolicy": _network_policy,
    "PodDisruptionBudget": _disruption_budget,
    "ServiceMonitor": _service_monitor,
    "PodMonitor": _pod_monitor,
    "Ingress": _ingress,
}
