"""Whether the files, keys and variables that a pod uses are there."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from chart.pods import Object, Pod, pods

#: Folders that the image has itself.
OF_THE_IMAGE = ("/etc/oneshotd/oneshotd.toml", "/data", "/etc/ssl/certs", "/usr", "/dev/stdout")

_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")

#: What there is beside the release: (kind, name) -> its keys.
Outside = dict[tuple[str, str], frozenset[str]]


def complaints(objects: tuple[Object, ...], outside: Outside) -> Iterator[str]:
    """Yield what is wrong, each with the pod that it is about.

    :param outside: the objects that the user has made, as the values name them.
    """
    known = {**outside, **_keys(objects)}
    for pod in pods(objects):
        for complaint in (*_volumes(pod, known), *_references(pod, known), *_files(pod, objects, known)):
            yield f"{pod.owner}: {complaint}"


def _keys(objects: tuple[Object, ...]) -> Outside:
    return {
        (one["kind"], one["metadata"]["name"]): frozenset((*one.get("data", {}), *one.get("stringData", {})))
        for one in objects
        if one["kind"] in ("ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount")
    }


def _volumes(pod: Pod, known: Outside) -> Iterator[str]:
    declared = [volume["name"] for volume in pod.spec.get("volumes", [])]
    for name, count in Counter([*declared, *pod.claims]).items():
        if count > 1:
            yield f"the volume {name} is there {count} times"
    mounted = set()
    for container in pod.containers:
        paths = Counter(mount["mountPath"] for mount in container.get("volumeMounts", []))
        for path, count in paths.items():
            if count > 1:
                yield f"{count} volumes are mounted at {path}"
            if not path.startswith("/") or path.endswith("/"):
                yield f"{path} is no path of a mount"
        for mount in container.get("volumeMounts", []):
            mounted.add(mount["name"])
            if mount["name"] not in (*declared, *pod.claims):
                yield f"the mount {mount['mountPath']} has the volume {mount['name']}, which is not there"
    for name in (*declared, *pod.claims):
        if name not in mounted:
            yield f"the volume {name} is mounted nowhere"
    for volume in pod.spec.get("volumes", []):
        for kind, name, items, optional in sources(volume):
            if (kind, name) not in known:
                if not optional:
                    yield f"the volume {volume['name']} is of the {kind} {name}, which is not there"
                continue
            for item in items or []:
                if item["key"] not in known[kind, name]:
                    yield f"the volume {volume['name']} takes {item['key']} of the {kind} {name}"


def sources(volume: Object) -> Iterator[tuple[str, str, list[Object] | None, bool]]:
    """Yield kind, name, items and whether it is optional, of each object that a volume is made of."""
    parts = [volume, *volume.get("projected", {}).get("sources", [])]
    for part in parts:
        if "configMap" in part:
            one = part["configMap"]
            yield "ConfigMap", one["name"], one.get("items"), one.get("optional", False)
        if "secret" in part:
            one = part["secret"]
            yield "Secret", one.get("secretName") or one["name"], one.get("items"), one.get("optional", False)
        if "persistentVolumeClaim" in part:
            yield "PersistentVolumeClaim", part["persistentVolumeClaim"]["claimName"], None, False


def _references(pod: Pod, known: Outside) -> Iterator[str]:
    account = pod.spec.get("serviceAccountName", "default")
    if account != "default" and ("ServiceAccount", account) not in known:
        yield f"the ServiceAccount {account} is not there"
    for secret in pod.spec.get("imagePullSecrets", []):
        if ("Secret", secret["name"]) not in known:
            yield f"the Secret {secret['name']} for the image is not there"
    for container in pod.containers:
        names = [variable["name"] for variable in container.get("env", [])]
        for name, count in Counter(names).items():
            if count > 1:
                yield f"the variable {name} is set {count} times"
        for variable in container.get("env", []):
            for kind, reference in _of_objects(variable.get("valueFrom", {})):
                if reference["key"] not in known.get((kind, reference["name"]), frozenset()):
                    there = f"{kind} {reference['name']}, key {reference['key']}"
                    yield f"the variable {variable['name']} is of {there}, which is not there"
        for word in (*container.get("command", []), *container.get("args", [])):
            for name in _VARIABLE.findall(word):
                if name not in names:
                    yield f"{word!r} has the variable {name}, which is not set"


def _of_objects(source: Object) -> Iterator[tuple[str, Object]]:
    for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if field in source:
            yield kind, source[field]


def _files(pod: Pod, objects: tuple[Object, ...], known: Outside) -> Iterator[str]:
    """Complain of files that the command line, a configuration or a probe names, and that are not mounted."""
    for container in pod.containers:
        texts = [*container.get("command", []), *container.get("args", [])]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            texts += container.get(probe, {}).get("exec", {}).get("command", [])
        for name, content in _configurations(pod, container, objects):
            texts += _strings(tomllib.loads(content)) if name.endswith(".toml") else []
        for text in texts:
            for path in _paths(text):
                if not _is_there(path, pod, container, known):
                    yield f"{path} is named in {text!r}, and is not mounted"


def _configurations(pod: Pod, container: Object, objects: tuple[Object, ...]) -> Iterator[tuple[str, str]]:
    """Yield (key, text) of the files that the release itself has, and mounts into this container."""
    mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
    for volume in pod.spec.get("volumes", []):
        if volume["name"] in mounted and "configMap" in volume:
            for one in objects:
                if one["kind"] == "ConfigMap" and one["metadata"]["name"] == volume["configMap"]["name"]:
                    yield from one.get("data", {}).items()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _paths(text: str) -> Iterator[str]:
    """Yield the absolute paths in a word of a command line or a value of an option."""
    value = text.partition("=")[2] if text.startswith("--") else text
    for scheme in ("sqlite:", "unix:"):
        value = value.removeprefix(scheme)
    if value.startswith("/"):
        yield value
    elif value.startswith("postgresql:"):
        yield from (part.partition("=")[2] for part in shlex.split(value) if "=/" in part)


def _is_there(path: str, pod: Pod, container: Object, known: Outside) -> bool:
    if any(path == place or path.startswith(f"{place}/") for place in OF_THE_IMAGE):
        return True
    for mount in container.get("volumeMounts", []):
        place = mount["mountPath"]
        if path != place and not path.startswith(f"{place}/"):
            continue
        inner = str(PurePosixPath(path).relative_to(place)) if path != place else mount.get("subPath", "")
        return inner in ("", ".") or _has_file(mount["name"], inner, pod, known)
    return False


def _has_file(name: str, inner: str, pod: Pod, known: Outside) -> bool:
    if name in pod.claims:
        return True
    made_of = [source for one in pod.spec["volumes"] if one["name"] == name for source in sources(one)]
    if not made_of or any(kind == "PersistentVolumeClaim" for kind, *_ in made_of):
        return True  # a writable folder
    for kind, source, items, _ in made_of:
        if items is not None:
            if inner in [item["path"] for item in items]:
                return True
        elif inner in known.get((kind, source), frozenset()):
            return True
    return False
