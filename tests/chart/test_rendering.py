"""Every combination of values renders objects that Kubernetes takes, and that fit together.

A failure shows as an installation that Kubernetes refuses, or as one that it takes and that never works: a
Service without pods, a monitor without targets, a container that waits for a Secret.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart import choices, mount_rules, name_rules, schemas, security_rules, selector_rules
from chart.combinations import Chosen, covering, singles, whole_product
from chart.helm import CHART, Helm, Release
from chart.pods import pods, title
from oneshotd.daemon.config_sources import configure

#: helm is a process of 50 ms for each; two run at a time.
THREADS = 2

NAMESPACE = "monitoring"


def combinations() -> list[Chosen]:
    """Return what is rendered, each once."""
    usual = next(singles(choices.CHOICES))
    core = [{**usual, **row} for row in whole_product({n: choices.CHOICES[n] for n in choices.WHOLE})]
    rows = chain(
        singles(choices.CHOICES),
        (row for row in core if row["store"] == "sqlite" or row["persistence"] == usual["persistence"]),
        covering(choices.CHOICES),
    )
    return list({json.dumps(row, sort_keys=True): row for row in rows}.values())


def render(helm: Helm, chosen: Chosen) -> Release:
    return helm.render(
        choices.values(chosen),
        name=choices.release(chosen),
        namespace=NAMESPACE,
        more=("--kube-version", chosen["kubernetes"]),
    )


@pytest.fixture(scope="module")
def rendered(helm: Helm, tell: Callable[[str], None]) -> list[tuple[Chosen, Release]]:
    """Every combination, rendered."""
    rows = combinations()
    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        made = list(threads.map(lambda row: render(helm, row), rows))
    tell(f"{len(rows)} combinations of values rendered in {time.monotonic() - began:.1f} s")
    return list(zip(rows, made, strict=True))


def test_helm_lints_it_strictly(helm: Helm) -> None:
    said = helm.run("lint", "--strict", str(CHART))
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


def test_the_choices_are_all_there_are() -> None:
    """A value that these tests do not know is in none of the combinations."""
    made = [choices.values(row) for row in combinations()]
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    unknown = {".".join(path) for path in _paths(defaults) if not any(_has(row, path) for row in made)}
    assert unknown == choices.ALONE


def _paths(values: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of values; a mapping whose keys the user chooses is one value."""
    for name, value in values.items():
        path = (*prefix, name)
        if isinstance(value, dict) and value and name not in choices.FREE:
            yield from _paths(value, path)
        else:
            yield path


def _has(values: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


@pytest.mark.usefixtures("known_schemas")
def test_each_object_is_valid_for_its_version_of_kubernetes(
    rendered: list[tuple[Chosen, Release]], tell: Callable[[str], None]
) -> None:
    different = {
        json.dumps((row["kubernetes"], one), sort_keys=True): (row["kubernetes"], one)
        for row, release in rendered
        for one in release.objects
    }
    began = time.monotonic()
    found = schemas.complaints(list(different.values()))
    tell(f"{len(different)} different objects validated in {time.monotonic() - began:.1f} s")
    wrong = {
        f"{version}: {title(one)}: {complaint}"
        for (version, one), complaint in zip(different.values(), found, strict=True)
        if complaint
    }
    assert not wrong, "\n".join(sorted(wrong))
    kinds = {(version, one["kind"]) for version, one in different.values()}
    assert {version for version, _ in kinds} == set(choices.VERSIONS)
    for version in choices.VERSIONS:
        assert {kind for there, kind in kinds if there == version} == KINDS


#: Every kind that the chart has.
KINDS = {
    *("StatefulSet", "Deployment", "Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Ingress"),
    *("ServiceMonitor", "PodMonitor", "PrometheusRule", "CronJob", "Pod"),
}


def test_the_objects_fit_together(rendered: list[tuple[Chosen, Release]]) -> None:
    """Names, labels, selectors, ports, mounts, keys of Secrets, and what pods may do."""
    found: Counter[str] = Counter()
    example: dict[str, Chosen] = {}
    for row, release in rendered:
        for complaint in chain(
            name_rules.complaints(release.objects),
            selector_rules.complaints(release.objects, NAMESPACE),
            mount_rules.complaints(release.objects, choices.OUTSIDE),
            security_rules.complaints(release.objects),
        ):
            found[complaint] += 1
            example.setdefault(complaint, row)
    assert not found, "\n".join(
        f"{count} times: {complaint}, for instance with {example[complaint]}"
        for complaint, count in found.most_common()
    )


def test_the_daemon_takes_the_options(rendered: list[tuple[Chosen, Release]], tmp_path: Path) -> None:
    """An option that the daemon does not know, or a value of another type: a pod that never starts."""
    seen = set()
    for row, release in rendered:
        (daemon,) = [pod for pod in pods(release.objects) if pod.daemon]
        (container,) = daemon.spec["containers"]
        data = [one["data"] for one in release.of("ConfigMap")]
        (text,) = [files["oneshotd.toml"] for files in data if "oneshotd.toml" in files]
        given = dict(word.removeprefix("--").split("=", 1) for word in container["args"])
        environ = {one["name"]: one.get("value", "") for one in container["env"]}
        if (key := (text, str(given), str(environ))) in seen:
            continue
        seen.add(key)
        (file := tmp_path / f"{len(seen)}.toml").write_text(text)
        assert given.pop("config") == "/etc/oneshotd/options/oneshotd.toml"
        if row["store"] == "postgresql":
            assert given["store"] == "$(ONESHOTD_STORE)"
            given["store"] = "postgresql:host=db dbname=oneshotd"
        config = configure(given, {**environ, "STATE_DIRECTORY": "/data"}, str(file))
        assert config.store.kind == row["store"]
        assert bool(config.udp) == (row["udp"] == "yes")
    assert len(seen) > 10
