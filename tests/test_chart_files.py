"""The files of the Helm chart fit each other, the daemon, and docs/migrating.md.

What helm makes of them is tested by `make chart-test`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from oneshotd.daemon.config import OPTIONS
from tools.release_check import check_chart

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "etc" / "helm" / "oneshotd"
UNIT = (ROOT / "etc" / "systemd" / "oneshotd.service").read_text(encoding="utf-8")
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

#: Options that other values than `server.options` set.
SET_BY_VALUES = {
    *("http", "udp", "log-level", "timestamps", "store", "daemon-name", "lease-margin"),
    *("web-config", "access", "hooks", "pings", "receivers"),
}

#: Keys that a chart gets from the one that depends on it.
FROM_A_PARENT = {"global", "enabled"}


def names(values: Mapping[str, Any], schema: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Yield the names that are in only one of values.yaml and its schema."""
    known = schema.get("properties")
    if known is None or within == "server.options.":
        return
    yield from (f"{within}{name}" for name in values.keys() ^ known.keys())
    for name in values.keys() & known.keys():
        if isinstance(values[name], dict) and values[name]:
            yield from names(values[name], known[name], f"{within}{name}.")


def test_the_version_is_that_of_the_package() -> None:
    """helm would install an image that does not exist."""
    assert list(check_chart(ROOT)) == []


@pytest.mark.parametrize("name", ["prometheus/oneshotd.rules.yml", "grafana/oneshotd.json"])
def test_rules_and_dashboard_are_those_of_etc(name: str) -> None:
    """An alert would be corrected in one of two places."""
    packed = CHART / "files" / Path(name).name
    assert packed.read_bytes() == (ROOT / "etc" / name).read_bytes()


def test_each_value_is_in_the_schema_and_has_a_default() -> None:
    """helm would refuse a value that the chart has, or nobody would find it in values.yaml."""
    assert set(names(VALUES, SCHEMA)) == FROM_A_PARENT


def test_each_object_of_the_schema_refuses_unknown_names() -> None:
    """A typing error would have no effect, and nothing say so."""

    def open_objects(schema: Mapping[str, Any], within: str) -> Iterator[str]:
        for name, child in schema.get("properties", {}).items():
            if "properties" in child and child.get("additionalProperties") is not False:
                yield f"{within}{name}"
            yield from open_objects(child, f"{within}{name}.")

    assert SCHEMA["additionalProperties"] is False
    assert list(open_objects(SCHEMA, "")) == []


def test_each_option_of_the_daemon_can_be_set_in_one_way() -> None:
    """An option would be out of reach, or be set twice in the file of options."""
    options = SCHEMA["properties"]["server"]["properties"]["options"]["properties"]
    assert {*options} == {*OPTIONS} - SET_BY_VALUES
    for name, found in options.items():
        kind = found.get("type") or SCHEMA["definitions"].get(
            found.get("$ref", "").rpartition("/")[2], {}
        ).get("type")
        assert (kind == "boolean") is (OPTIONS[name].unit is None), name
        assert (kind == "array") is OPTIONS[name].repeats, name


def test_each_template_uses_values_that_exist() -> None:
    """A typing error in a template would be an empty value."""
    templates = [path for path in (CHART / "templates").rglob("*") if path.is_file()]
    for path in templates:
        for found in re.findall(r"\.Values((?:\.\w+)+)", path.read_text(encoding="utf-8")):
            value: Any = VALUES
            for name in found.strip(".").split("."):
                if not isinstance(value, dict) or not value:
                    break  # an object of Kubernetes' own
                assert name in value, f"{path.name}: {found}"
                value = value[name]


def test_bounds_are_those_of_the_unit() -> None:
    """Kubernetes would kill a daemon that is still within its own limits."""
    assert f"TimeoutStopSec={VALUES['terminationGracePeriodSeconds']}s" in UNIT
    assert f"MemoryMax={VALUES['server']['resources']['limits']['memory'].removesuffix('i')}" in UNIT


def test_migrating_names_values_that_exist() -> None:
    """A reader would set a value that helm refuses."""
    page = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `([\w.]+)` \| (.+?) \|", page.partition("## The Helm chart")[2])
    assert len(rows) >= 14
    for _, here in rows:
        for found in re.findall(r"`([a-zA-Z]+(?:\.\w+)+|\w+)`", here):
            value: Any = VALUES
            for name in found.split("."):
                assert name in value, found
                value = value[name]
