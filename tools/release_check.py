"""Check whether this commit can be released.

    make release-check

docs/releasing.md has the list that it follows. Builds the source distribution and the wheel into
dist/, and installs each in a fresh environment.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Files that build the package, in which the version has no business.
BUILD_FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "Makefile", "README.md")

#: Headings of a section of the changelog.
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

#: What setuptools adds to a source distribution.
ADDED = {"PKG-INFO", "setup.cfg"}

#: Folders whose files are installed with the wheel.
INSTALLED = ("oneshotd/", "twisted/")

#: Seconds for one command; an installation fetches the dependencies.
PATIENCE = 600


def version(root: Path) -> str:
    """Return the version that the package says.

    :raises ValueError: it says none.
    """
    for node in ast.parse((root / "oneshotd/__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(name, "id", "") for name in node.targets] == [
            "__version__"
        ]:
            return str(ast.literal_eval(node.value))
    raise ValueError("oneshotd/__init__.py has no __version__")


# -- checks without building: each yields what is wrong


def check_version(root: Path) -> Iterator[str]:
    """The version is written once."""
    try:
        wanted = version(root)
    except ValueError as error:
        yield str(error)
        return
    if not re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", wanted):
        yield f"{wanted} is no version of a release: expected X.Y.Z or X.Y.ZrcN"
    for name in BUILD_FILES:
        path = root / name
        if path.exists() and re.search(
            rf"(?<![\d.]){re.escape(wanted)}(?![\d.])", path.read_text(encoding="utf-8")
        ):
            yield f"{name} has the version {wanted}, too"


def check_changelog(root: Path) -> Iterator[str]:
    """The topmost section is this version's, dated, and has entries."""
    sections = re.split(r"^## ", (root / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    title, _, text = (sections[1] if len(sections) > 1 else "").partition("\n")
    wanted = version(root)
    if not re.fullmatch(rf"{re.escape(wanted)} \(\d{{4}}-\d\d-\d\d\)", title):
        yield f"CHANGELOG.md begins with {title!r}, expected '{wanted} (YYYY-MM-DD)'"
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    if not kinds or kinds - KINDS:
        yield f"CHANGELOG.md: the headings are {sorted(kinds)}, expected some of {sorted(KINDS)}"
    if not re.search(r"^- ", text, re.MULTILINE):
        yield "CHANGELOG.md: the section has no entries"


def check_debian(root: Path) -> Iterator[str]:
    """The topmost entry of the Debian changelog is of this version."""
    first = (root / "debian/changelog").read_text(encoding="utf-8").partition("\n")[0]
    found = re.fullmatch(r"oneshotd \((.+)-[^-]+\) (\S+); .*", first)
    # Debian sorts 1.0~rc1 before 1.0.
    wanted = re.sub(r"rc(\d+)$", r"~rc\1", version(root))
    if found is None or found[1] != wanted:
        yield f"debian/changelog begins with {first!r}, expected the version {wanted}-1"
    elif found[2] == "UNRELEASED":
        yield "debian/changelog: the topmost entry is UNRELEASED"


def check_chart(root: Path) -> Iterator[str]:
    """The Helm chart is of this version, and installs the image of this version."""
    text = (root / "etc/helm/oneshotd/Chart.yaml").read_text(encoding="utf-8")
    wanted = version(root)
    # A chart has a version of semver.org.
    for key, expected in (("version", re.sub(r"rc(\d+)$", r"-rc.\1", wanted)), ("appVersion", wanted)):
        found = re.findall(rf"^{key}: \"?([^\"\n]*)\"?$", text, re.MULTILINE)
        if found != [expected]:
            yield f"Chart.yaml: {key} is {', '.join(found) or 'missing'}, expected {expected}"


def check_tree(root: Path) -> Iterator[str]:
    """Nothing is uncommitted."""
    for line in git(root, "status", "--porcelain").splitlines():
        yield f"not committed: {line}"


def check_tag(root: Path) -> Iterator[str]:
    """The tag of this version is on this commit."""
    wanted = f"v{version(root)}"
    tags = git(root, "tag", "--points-at", "HEAD").split()
    if wanted not in tags:
        yield f"the tag {wanted} is not on this commit (there: {', '.join(tags) or 'none'})"


# -- checks of what was built


def check_sdist(root: Path, file: Path) -> Iterator[str]:
    """The source distribution has every file of the repository and no other."""
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in (each.name for each in archive if each.isfile())}
    packed = {name for name in names if not name.startswith("oneshotd.egg-info/")} - ADDED
    tracked = set(git(root, "ls-files", "-z").split("\0")) - {""}
    yield from (f"{file.name} lacks {name}" for name in sorted(tracked - packed))
    yield from (
        f"{file.name} has {name}, which is not in the repository" for name in sorted(packed - tracked)
    )


def check_wheel(root: Path, file: Path) -> Iterator[str]:
    """The wheel has every file of the package and the plugin, and no other."""
    with zipfile.ZipFile(file) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = {name for name in git(root, "ls-files", "-z").split("\0") if name.startswith(INSTALLED)}
    yield from (f"{file.name} lacks {name}" for name in sorted(tracked - packed))
    yield from (
        f"{file.name} has {name}, which is not in the repository" for name in sorted(packed - tracked)
    )
    if f"-{version(root)}-" not in file.name:
        yield f"{file.name} is not of version {version(root)}"


def check_install(root: Path, file: Path) -> Iterator[str]:
    """The file can be installed in a fresh environment, and its commands say the version."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        binaries = home / "venv" / "bin"
        for command in (
            [sys.executable, "-m", "venv", home / "venv"],
            [binaries / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install", file],
        ):
            done = run(command, home)
            if done.returncode != 0:
                yield f"{file.name} cannot be installed: {done.stderr.strip()[-500:]}"
                return
        for name in (
            ["twistd", "oneshot", "--version"],
            ["oneshot-emit", "--version"],
            ["oneshotctl", "--version"],
        ):
            done = run([binaries / name[0], *name[1:]], home)
            said = (done.stdout + done.stderr).strip()
            if version(root) not in said.split():
                yield f"{file.name}: {' '.join(name)} says {said[-200:]!r}"


def build(root: Path, out: Path) -> list[Path]:
    """Build the source distribution and the wheel from a clean copy of the repository; their paths.

    :raises RuntimeError: a build failed; the text is its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in git(root, "ls-files", "-z").split("\0"):
            if name and (root / name).is_file():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, Path(folder) / name)
        done = run([sys.executable, "-m", "build", "--no-isolation", f"--outdir={out}"], Path(folder))
    if done.returncode != 0:
        raise RuntimeError(done.stdout[-1000:] + done.stderr[-1000:])
    return [*out.glob("*.tar.gz"), *out.glob("*.whl")]


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout


def run(command: Sequence[object], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=PATIENCE
    )


QUICK: dict[str, Callable[[Path], Iterator[str]]] = {
    "version": check_version,
    "changelog": check_changelog,
    "debian": check_debian,
    "chart": check_chart,
    "tree": check_tree,
    "tag": check_tag,
}


def main(root: Path = ROOT) -> int:
    wrong = 0

    def tell(name: str, found: Iterator[str]) -> None:
        nonlocal wrong
        faults = list(found)
        wrong += len(faults)
        print(
            f"{name:10} {'no' if faults else 'yes'}", *(f"           {fault}" for fault in faults), sep="\n"
        )

    for name, check in QUICK.items():
        tell(name, check(root))
    out = root / "dist"
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = build(root, Path(folder))
        except RuntimeError as error:
            tell("build", iter([str(error)]))
            built = []
        for file in built:
            kind, check_file = ("wheel", check_wheel) if file.suffix == ".whl" else ("sdist", check_sdist)
            tell(kind, check_file(root, file))
            tell("install", check_install(root, file))
            out.mkdir(exist_ok=True)
            shutil.copy(file, out)
    print("can be released" if not wrong else f"cannot be released: {wrong} points; see docs/releasing.md")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
