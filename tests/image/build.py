"""The image made in a clean tree of the package's files, twice: the same, digest for digest."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

from attrs import frozen
from deb.build import REPOSITORY, Unfit, version
from deb.inside import Tree

from image import archive, bom, contents
from image.layers import Layer, rooms
from image.packages import Missing, Package, installed, needed
from oneshotd import __version__

#: The name under which a runtime has it when it is loaded; no registry does.
NAME = f"localhost/oneshotd:{__version__}"

#: Bytes of all files of the image that are not too many.
MOST_BYTES = 120 * 1000 * 1000

USER = 65532
DATA = "data"
CONFIG = "etc/oneshotd/oneshotd.toml"
PLUGIN_CACHE = "usr/lib/python3/dist-packages/twisted/plugins/dropin.cache"

#: Folder in the tree, the mask of files' modes, and what else differs between the two.
FIRST: tuple[str, int, dict[str, str]] = ("/image/one", 0o022, {})
SECOND: tuple[str, int, dict[str, str]] = (
    "/srv/somewhere-else/two",
    0o077,
    {"LC_ALL": "C", "TZ": "Pacific/Kiritimati", "HOME": "/nonexistent", "GOMAXPROCS": "1"},
)


@frozen(kw_only=True)
class Contents:
    """What goes into the image.

    :param owners: path -> package.
    :param epoch: Unix seconds of the package; nothing in the image is later.
    """

    packages: Sequence[Package]
    owners: dict[str, str]
    release: str
    epoch: int

    @property
    def paths(self) -> list[str]:
        return sorted(self.owners)


def epoch() -> int:
    """Return the Unix seconds of the changelog's first entry, which the package's build has as well."""
    text = (REPOSITORY / "debian/changelog").read_text(encoding="utf-8")
    (date, *_) = re.findall(r"(?m)^ -- .*>  (.+)$", text)
    return int(parsedate_to_datetime(date).timestamp())


def build(root: Path, package: Path, target: Path) -> None:
    """Build in the tree, which was entered; write the archive and the bill of materials to `target`.

    :raises Unfit: two builds differ, or the image is too large.
    """
    tree = Tree(root)
    shutil.copy(package, tree.path("/srv"))
    install = ("apt-get", "install", "--yes", "--no-install-recommends")
    tree.run(*install, f"/srv/{package.name}")
    chosen = choose(root)
    tree.path("/srv/compiling.py").write_bytes((Path(__file__).parent / "compiling.py").read_bytes())
    made = []
    for folder, mask, environment in (FIRST, SECOND):
        began = time.monotonic()
        usual = os.umask(mask)
        made.append(_made(tree, chosen, folder, environment))
        os.umask(usual)
        print(f"image: made in {time.monotonic() - began:.0f} s: {made[-1].digest}")
    if made[0].digest != made[1].digest:
        raise Unfit(f"built twice, the images differ: {made[0].difference(made[1])}")
    (size, told) = tell(made[0].layers, chosen)
    print(f"image: built twice, both are {made[0].digest}")
    print(f"image: {told}")
    if size > MOST_BYTES:
        raise Unfit(f"the image has {size} bytes, expected at most {MOST_BYTES}")
    target.mkdir(exist_ok=True)
    packed = target / f"oneshotd-{__version__}.oci.tar"
    archive.write(made[0].layout, packed, NAME, chosen.epoch)
    (target / f"oneshotd-{__version__}.spdx.json").write_bytes(made[0].bill)
    print(f"image: {packed.relative_to(REPOSITORY)}: {packed.stat().st_size} bytes")


def choose(root: Path) -> Contents:
    """Choose packages and files of the tree.

    :raises Unfit: a package is missing, or is another than the changelog's.
    """
    there = installed(root)
    try:
        packages = needed(there, contents.ROOTS, contents.LEFT_OUT)
    except Missing as reason:
        raise Unfit(str(reason)) from None
    if there["oneshotd"].version != version():
        raise Unfit(f"installed is oneshotd {there['oneshotd'].version}, expected {version()}")
    owners = {}
    for package in packages:
        for path in filter(contents.is_taken, package.files):
            found = root / path.lstrip("/")
            if os.path.lexists(found) and (found.is_symlink() or not found.is_dir()):
                owners[path.lstrip("/")] = package.name
    for certificate in (root / "etc/ssl/certs").rglob("*"):
        owners[str(certificate.relative_to(root))] = "ca-certificates"
    owners["etc/nsswitch.conf"] = "base-files"
    for path in owners:
        assert contents.is_taken(f"/{path}") or contents.is_made(f"/{path}"), path
    (release,) = re.findall(r'(?m)^VERSION_ID="(\d+)"$', (root / "usr/lib/os-release").read_text())
    return Contents(packages=packages, owners=owners, release=release, epoch=epoch())


def _made(tree: Tree, chosen: Contents, folder: str, environment: dict[str, str]) -> archive.Made:
    place = tree.path(folder)
    (place / "compiled").mkdir(parents=True)
    bill = bom.bill(chosen.packages, version=__version__, release=chosen.release, epoch=chosen.epoch)
    sources = [f"/{path}" for path in chosen.paths if path.startswith("usr/lib/") and path.endswith(".py")]
    (place / "sources").write_text("".join(f"{path}\n" for path in sources))
    compiling = f"python3 -I -B /srv/compiling.py {folder}/compiled < {folder}/sources"
    # Python writes sets in the order of their hashes.
    tree.run("sh", "-c", compiling, env={**environment, "PYTHONHASHSEED": "0"})
    libraries = _library_cache(tree, chosen, folder)
    whole = Layer(chosen.epoch)
    own = Layer(chosen.epoch)
    for path in chosen.paths:
        (own if chosen.owners[path] == "oneshotd" else whole).add(path, tree.root / path)
    for compiled in sorted((place / "compiled").rglob("*.pyc")):
        name = str(compiled.relative_to(place / "compiled"))
        source = re.sub(r"__pycache__/([^/]+)\.cpython-\d+\.pyc$", r"\1.py", name)
        (own if chosen.owners[source] == "oneshotd" else whole).file(name, compiled.read_bytes())
    _add_records(whole, own, chosen.packages)
    _add_places(whole)
    whole.file("etc/ld.so.cache", libraries)
    own.folder(DATA, 0o770, uid=USER)
    own.file(CONFIG, (REPOSITORY / "etc/containers/oneshotd.toml").read_bytes())
    own.file(bom.PATH, bill)
    # Twisted takes a cache only if it is newer than every plugin.
    own.file(PLUGIN_CACHE, (place / "compiled/dropin.cache").read_bytes(), later=1)
    layers = {"Debian's packages": whole, "oneshotd": own.without(whole)}
    return archive.make(
        tree,
        folder,
        layers,
        name=NAME,
        bill=bill,
        epoch=chosen.epoch,
        architecture=next(p.architecture for p in chosen.packages if p.architecture != "all"),
        environment=environment,
    )


def _library_cache(tree: Tree, chosen: Contents, folder: str) -> bytes:
    """Return the loader's cache for the image's libraries, which `ldconfig -p` prints."""
    place = tree.path(f"{folder}/libraries")
    for path in chosen.paths:
        if re.search(r"\.so(\.[^/]+)?$", path) and "python3" not in path:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree.root / path, place / path, follow_symlinks=False)
    (place / "etc").mkdir()
    folders = sorted(
        {f"/{Path(path).parent}" for path in chosen.paths if re.search(r"/lib[^/]+\.so\.", path)}
    )
    (place / "etc/ld.so.conf").write_text("".join(f"{name}\n" for name in folders))
    tree.run("ldconfig", "-X", "-r", f"{folder}/libraries")
    return (place / "etc/ld.so.cache").read_bytes()


def _add_records(whole: Layer, own: Layer, packages: Sequence[Package]) -> None:
    """Add dpkg's record of each package, a file each, so that a layer has the records of its files."""
    for package in packages:
        layer = own if package.name == "oneshotd" else whole
        layer.file(f"var/lib/dpkg/status.d/{package.name}", package.stanza.encode())
        if package.md5sums:
            layer.file(f"var/lib/dpkg/status.d/{package.name}.md5sums", package.md5sums.encode())


def _add_places(layer: Layer) -> None:
    """Add the folders at which a runtime mounts its own."""
    for name in ("dev", "proc", "run", "sys"):
        layer.folder(name)
    for name in ("tmp", "var/tmp"):
        layer.folder(name, 0o1777)


def tell(layers: dict[str, Layer], chosen: Contents) -> tuple[int, str]:
    """Return the bytes of all layers, and a text that says what takes the room."""
    owners = dict(chosen.owners)
    for layer in layers.values():
        for path in layer.entries:
            source = re.sub(r"__pycache__/([^/]+)\.cpython-\d+\.pyc$", r"\1.py", path)
            if source in chosen.owners:
                owners[path] = chosen.owners[source]
    entries = {path: entry for layer in layers.values() for path, entry in layer.entries.items()}
    size = sum(layer.size() for layer in layers.values())
    most = ", ".join(f"{name} {bytes_ / 1e6:.1f}" for name, bytes_ in rooms(entries, owners)[:14])
    return size, f"{size / 1e6:.1f} MB in {len(entries)} files of {len(chosen.packages)} packages: {most}"
