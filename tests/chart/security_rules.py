"""The "restricted" profile of Kubernetes' Pod Security Standards, and what this chart promises beyond it."""

from __future__ import annotations

from collections.abc import Iterator

from chart.pods import Object, Pod, pods


def complaints(objects: tuple[Object, ...]) -> Iterator[str]:
    """Yield what is wrong, each with the pod that it is about."""
    for pod in pods(objects):
        for complaint in _pod(pod):
            yield f"{pod.owner}: {complaint}"


def _pod(pod: Pod) -> Iterator[str]:
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield "a token of the cluster is mounted, and nothing uses it"
    if pod.spec.get("enableServiceLinks") is not False:
        yield "the addresses of other Services are in its environment"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield f"{field} is set"
    for volume in pod.spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"the volume {volume['name']} is a folder of the node"
    for container in pod.containers:
        effective = {**pod.spec.get("securityContext", {}), **container.get("securityContext", {})}
        yield from (f"container {container['name']}: {text}" for text in _container(effective))
        if pod.daemon and not container.get("resources", {}).get("requests"):
            yield f"container {container['name']}: no resources are requested"


def _container(context: Object) -> Iterator[str]:
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield "it may run as root"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "its root is writable"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "it does not drop all capabilities"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "its seccompProfile is not RuntimeDefault"
    if context.get("privileged"):
        yield "it is privileged"
