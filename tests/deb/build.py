"""The package built in a clean tree, twice: the same, byte for byte, and in lintian's good books."""

from __future__ import annotations

import io
import lzma
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deb.inside import Tree

REPOSITORY = Path(__file__).resolve().parents[2]

#: In the tree beside what the package's Build-Depends name.
TOOLS = ("build-essential", "fakeroot", "lintian")

#: Folder in the tree, and what else differs between the two builds.
FIRST = "/build/one"
SECOND = "/srv/somewhere-else/two"
OTHER_ENVIRONMENT = {
    "DEB_BUILD_OPTIONS": "nocheck",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "HOME": "/nonexistent",
    "PYTHONHASHSEED": "4711",
}


class Unfit(Exception):
    """The package was built, and is not as it should be; the text says why."""


def build_depends() -> list[str]:
    """The packages that debian/control names for the build."""
    text = (REPOSITORY / "debian/control").read_text(encoding="utf-8")
    (field,) = re.findall(r"(?m)^Build-Depends:((?:\n .*)+)$", text)
    names = re.findall(r"(?m)^ ([a-z0-9.+-]+)", field)
    return ["debhelper" if name == "debhelper-compat" else name for name in names]


def version() -> str:
    """The package's version, of the changelog's first line."""
    first = (REPOSITORY / "debian/changelog").read_text(encoding="utf-8").partition("\n")[0]
    (found,) = re.findall(r"\((\S+)\)", first)
    return str(found)


def sources() -> Iterator[Path]:
    """The files that belong to the project, relative to it: those that git would commit."""
    # Root may build in somebody else's checkout.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]
    listed = subprocess.run(
        [*command, "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    if listed.returncode != 0:
        raise Unfit(f"{REPOSITORY} is no checkout: {listed.stderr.strip()}")
    for name in sorted(filter(None, listed.stdout.split("\0"))):
        if (REPOSITORY / name).is_file():
            yield Path(name)


def lay_out(root: Path, folder: str) -> str:
    """Put the source into the tree: its folder there, beside an upstream archive without debian/."""
    upstream = version().rpartition("-")[0]
    top = f"oneshotd-{upstream}"
    place = root / folder.lstrip("/")
    files = list(sources())
    for name in files:
        target = place / top / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target, follow_symlinks=False)  # as the archive has it
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in files:
            if name.parts[0] != "debian":
                archive.add(REPOSITORY / name, f"{top}/{name}", filter=_plain)
    (place / f"oneshotd_{upstream}.orig.tar.xz").write_bytes(lzma.compress(packed.getvalue()))
    return f"{folder}/{top}"


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = "root"
    return info


def build(root: Path, target: Path) -> None:
    """Build in the tree, which was entered, and copy the packages to `target`.

    :raises Unfit: the two differ, or lintian has found something.
    """
    tree = Tree(root)
    first, second = lay_out(root, FIRST), lay_out(root, SECOND)
    build_command = ("dpkg-buildpackage", "--no-sign", "--build=source,all")
    with ThreadPoolExecutor() as pool:
        one = pool.submit(tree.run, *build_command, cwd=first)
        elsewise = ("sh", "-c", 'umask 077; exec "$@"', "sh", *build_command)
        two = pool.submit(tree.run, *elsewise, cwd=second, env=OTHER_ENVIRONMENT)
        said = one.result()
        two.result()
    for line in re.findall(r"(?m)^.*\d+ passed.*$", said):
        print(f"deb: built; its tests: {line.strip('= ')}")
    (package,) = tree.path(FIRST).glob("*.deb")
    if package.read_bytes() != tree.path(f"{SECOND}/{package.name}").read_bytes():
        raise Unfit(f"built twice, {package.name} differs; diffoscope tells where")
    print(f"deb: built twice, {package.name} is the same, {package.stat().st_size} bytes")
    lint(tree)
    target.mkdir(exist_ok=True)
    for path in tree.path(FIRST).glob("oneshotd_*"):
        if path.suffix in (".deb", ".dsc", ".xz"):
            shutil.copy(path, target)


def lint(tree: Tree) -> None:
    """:raises Unfit: lintian finds fault with the source or the package."""
    (changes,) = tree.path(FIRST).glob("*.changes")
    words = ("--pedantic", "--allow-root", "--tag-display-limit=0", "--fail-on=none")
    said = tree.run("lintian", *words, f"{FIRST}/{changes.name}")
    tags = [line for line in said.splitlines() if re.match(r"[EWPX]: ", line)]
    if tags:
        raise Unfit("lintian:\n" + "\n".join(tags))
    print("deb: lintian --pedantic finds nothing")
