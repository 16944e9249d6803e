"""The image's configuration and its archive, which podman, skopeo and every docker can load."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from deb.build import REPOSITORY
from deb.inside import Tree

from image.bom import moment
from image.layers import Layer
from oneshotd import __version__

#: -P: nothing is imported from the working directory, which is the volume.
ENTRY_POINT = (
    *("/usr/bin/python3", "-P", "-m", "oneshotd.daemon"),
    *("--config", "/etc/oneshotd/oneshotd.toml"),
)
ENVIRONMENT = {
    "PATH": "/usr/bin",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "STATE_DIRECTORY": "/data",
}
USER = "65532:65532"
PORTS = ("8090/tcp", "8090/udp")
VOLUME = "/data"


@frozen(kw_only=True)
class Made:
    """One build.

    :param layout: folder of an OCI image layout.
    :param digest: of the manifest, which has those of all layers and of the configuration.
    """

    layout: Path
    digest: str
    layers: dict[str, Layer]
    bill: bytes

    def difference(self, other: Made) -> str:
        """Return which paths differ, or that only the configuration does."""
        found = []
        for name, layer in self.layers.items():
            ours, theirs = layer.entries, other.layers[name].entries
            found += [path for path in {*ours, *theirs} if ours.get(path) != theirs.get(path)]
        return ", ".join(sorted(found)[:20]) or "only how they are packed, or the configuration"


def labels(epoch: int) -> dict[str, str]:
    """Return the annotations of OCI's image specification, as labels."""
    found = {
        "title": "oneshotd",
        "description": "Gives each reported event exactly once to every Prometheus-style scraper",
        "version": __version__,
        "created": moment(epoch),
        "authors": "the oneshotd developers",
        "licenses": "MIT",
    }
    revision = _revision()
    if revision is not None:
        found["revision"] = revision
    return {f"org.opencontainers.image.{name}": text for name, text in found.items()}


def _revision() -> str | None:
    """Return the commit, unless something was changed since."""
    git = ["git", "-c", "safe.directory=*", "-C", str(REPOSITORY)]
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=60)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=60)
    clean = changed.returncode == head.returncode == 0 and not changed.stdout.strip()
    return head.stdout.strip() if clean else None


def make(
    tree: Tree,
    folder: str,
    layers: dict[str, Layer],
    *,
    name: str,
    bill: bytes,
    epoch: int,
    architecture: str,
    environment: Mapping[str, str],
) -> Made:
    """Make an image layout of layers, by umoci in the tree.

    :param folder: in the tree, for all that is made.
    """
    layout, tag = f"{folder}/oci", name.rpartition(":")[2]
    image = f"{layout}:{tag}"
    when = moment(epoch)

    def umoci(*words: str) -> None:
        tree.run("umoci", *words, env=environment)

    umoci("init", "--layout", layout)
    umoci("new", "--image", image)
    history = ("--history.author", "", "--history.created", when)
    for number, (what, layer) in enumerate(layers.items()):
        packed = f"{folder}/{number}.tar"
        tree.path(packed).write_bytes(layer.packed())
        umoci("raw", "add-layer", "--image", image, *history, "--history.created_by", what, packed)
        tree.path(packed).unlink()
    options = {
        "config.user": [USER],
        "config.workingdir": [VOLUME],
        "config.volume": [VOLUME],
        "config.stopsignal": ["SIGTERM"],
        "config.exposedports": PORTS,
        "config.env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
        "config.entrypoint": ENTRY_POINT,
        "config.label": [f"{name}={value}" for name, value in labels(epoch).items()],
        "manifest.annotation": [f"{name}={value}" for name, value in labels(epoch).items()],
        "created": [when],
        "os": ["linux"],
        "architecture": [architecture],
        "author": ["the oneshotd developers"],
    }
    words = [f"--{option}={value}" for option, values in options.items() for value in values]
    umoci("config", "--image", image, *words, *history, "--history.created_by", "configuration")
    umoci("gc", "--layout", layout)
    (manifest,) = json.loads(tree.path(f"{layout}/index.json").read_text())["manifests"]
    return Made(layout=tree.path(layout), digest=manifest["digest"], layers=layers, bill=bill)


def blob(layout: Path, digest: str) -> bytes:
    """Return a blob of a layout.

    :raises ValueError: it is not what its name says.
    """
    data = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ValueError(f"{digest}: the blob has another digest")
    return data


def write(layout: Path, target: Path, name: str, epoch: int) -> None:
    """Write a layout as one archive.

    It is an OCI archive, named as docker and podman look for a name. It has docker's older list, too, which
    points to the same blobs, for versions before 25 that know no other.
    """
    index = json.loads((layout / "index.json").read_text())
    (entry,) = index["manifests"]
    entry["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    manifest = json.loads(blob(layout, entry["digest"]))

    def place(row: Mapping[str, Any]) -> str:
        return f"blobs/{row['digest'].replace(':', '/')}"

    older = [
        {
            "Config": place(manifest["config"]),
            "RepoTags": [name],
            "Layers": [place(row) for row in manifest["layers"]],
        }
    ]
    files = {str(path.relative_to(layout)): path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    files["index.json"] = json.dumps(index).encode()
    files["manifest.json"] = json.dumps(older).encode()
    part = target.with_suffix(".part")
    with tarfile.open(part, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mtime, info.mode = len(data), epoch, 0o644
            archive.addfile(info, io.BytesIO(data))
    part.rename(target)


def unpack(packed: Path, layout: Path) -> None:
    """Make a layout of an archive, for umoci; its name there is the tag."""
    layout.mkdir(parents=True)
    with tarfile.open(packed) as archive:
        archive.extractall(layout, filter="data")
    (layout / "manifest.json").unlink()
    shutil.rmtree(layout / "refs", ignore_errors=True)
