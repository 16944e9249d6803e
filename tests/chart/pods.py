"""The pods of rendered objects: those of the daemon, those of a CronJob, and the pod of ``helm test``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import frozen

Object = dict[str, Any]

#: Kinds of which one has the daemon's pods.
WORKLOADS = ("StatefulSet", "Deployment")


@frozen(kw_only=True)
class Pod:
    """One kind of pod.

    :ivar owner: the object that has it, for complaints: ``StatefulSet events-oneshotd``.
    :ivar daemon: whether the daemon runs in it.
    :ivar claims: names of the volumes that the owner claims for each pod.
    """

    owner: str
    daemon: bool
    labels: dict[str, str]
    spec: Object
    claims: frozenset[str] = frozenset()

    @property
    def containers(self) -> list[Object]:
        """Its containers, those of its start included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> list[Object]:
        """The ports of its containers, each with a protocol."""
        return [
            {"protocol": "TCP", **port} for one in self.spec["containers"] for port in one.get("ports", [])
        ]

    def has_port(self, wanted: str | int, protocol: str) -> bool:
        """Return whether a container has the port, by its name or number.

        A number needs no entry of its protocol: the daemon has UDP, if at all, at the number of HTTP.
        """
        if isinstance(wanted, int):
            return any(port["containerPort"] == wanted for port in self.ports)
        return any(port.get("name") == wanted and port["protocol"] == protocol for port in self.ports)

    def chosen_by(self, labels: dict[str, str]) -> bool:
        """Return whether these labels of a selector choose it."""
        return bool(labels) and labels.items() <= self.labels.items()


def title(one: Object) -> str:
    """Return kind and name of an object."""
    return f"{one['kind']} {one['metadata'].get('name', '?')}"


def pods(objects: Iterable[Object]) -> Iterator[Pod]:
    """Yield the pods of all objects that have some."""
    for one in objects:
        template = _template(one)
        if template is None:
            continue
        daemon = one["kind"] in WORKLOADS
        claims = one["spec"].get("volumeClaimTemplates", []) if daemon else []
        yield Pod(
            owner=title(one),
            daemon=daemon,
            labels=template["metadata"].get("labels", {}),
            spec=template["spec"],
            claims=frozenset(claim["metadata"]["name"] for claim in claims),
        )


def _template(one: Object) -> Object | None:
    """Return what has the labels and the spec of an object's pods."""
    if one["kind"] == "Pod":
        return one
    if one["kind"] in WORKLOADS:
        template: Object = one["spec"]["template"]
        return template
    if one["kind"] == "CronJob":
        return {"metadata": {}, **one["spec"]["jobTemplate"]["spec"]["template"]}
    return None
