"""What no schema says about names and labels, and a cluster refuses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from chart.pods import Object, pods, title

#: A label's value, and a part of a name, have at most so many characters.
LONGEST = 63

#: The controller adds "-" and up to 10 characters to a StatefulSet's name, in a label of its pods.
LONGEST_OF_STATEFULSET = 52

#: Kinds whose names may have dots and 253 characters; the others become labels or parts of a host's name.
_SUBDOMAINS = {"ConfigMap", "Secret", "PrometheusRule", "ServiceMonitor", "PodMonitor"}

_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL_NAME.pattern}(\.{_LABEL_NAME.pattern})*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(rf"({_SUBDOMAIN.pattern}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_FILE_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def complaints(objects: tuple[Object, ...]) -> Iterator[str]:
    """Yield what is wrong, each with the object that it is about."""
    seen = Counter(
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects
    )
    for (kind, _, name), count in seen.items():
        if count > 1:
            yield f"{kind} {name}: {count} objects have this name"
    for one in objects:
        for complaint in _name(one):
            yield f"{title(one)}: {complaint}"
        for complaint in _labels(one):
            yield f"{title(one)}: {complaint}"
        if one["kind"] in ("ConfigMap", "Secret"):
            for key in (*one.get("data", {}), *one.get("stringData", {}), *one.get("binaryData", {})):
                if not _FILE_KEY.fullmatch(key):
                    yield f"{title(one)}: the key {key!r} is no name of a file"
    for pod in pods(objects):
        for name in _duplicates(one["name"] for one in pod.containers):
            yield f"{pod.owner}: two containers are called {name}"
        for port in pod.ports:
            if len(port.get("name", "")) > 15:
                yield f"{pod.owner}: the port's name {port['name']} has more than 15 characters"


def _duplicates(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _name(one: Object) -> Iterator[str]:
    name, kind = one["metadata"]["name"], one["kind"]
    pattern = _SUBDOMAIN if kind in _SUBDOMAINS else _LABEL_NAME
    if not pattern.fullmatch(name):
        yield f"the name {name!r} is none"
    longest = LONGEST_OF_STATEFULSET if kind == "StatefulSet" else LONGEST
    if len(name) > longest:
        yield f"the name has {len(name)} characters, and {longest} are allowed"


def _labels(value: Any, where: str = "") -> Iterator[str]:
    """Yield what is wrong with labels anywhere in an object, selectors included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("labels", "matchLabels", "selector", "nodeSelector") and _is_flat(inner):
                yield from _wrong_labels(inner, f"{where}.{key}")
            else:
                yield from _labels(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _labels(inner, f"{where}[{number}]")


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(inner, (dict, list)) for inner in value.values())


def _wrong_labels(labels: dict[str, Any], where: str) -> Iterator[str]:
    for key, text in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            yield f"{where}: {key!r} is no key of a label"
        if where.endswith(".labels") and where.count("rules"):
            continue  # labels of alerts are not those of objects
        if not isinstance(text, str):
            yield f"{where}: the label {key} is {text!r}, and not a text"
        elif len(text) > LONGEST or not _LABEL_VALUE.fullmatch(text):
            yield f"{where}: {text!r} is no value of the label {key}"
