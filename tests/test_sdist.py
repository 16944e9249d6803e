"""The source distribution has every file of the repository, and its tests can be collected."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: What setuptools adds.
ADDED = {"PKG-INFO", "setup.cfg"}

#: What builds and runs leave in a working tree.
LEFTOVERS = (
    "debian/.debhelper/x",
    "debian/man/oneshotd.8",
    "debian/oneshotd/usr/bin/x",
    "debian/files",
    "debian/debhelper-build-stamp",
    "debian/oneshotd.substvars",
    "tests/__pycache__/x.pyc",
    "oneshotd/core/__pycache__/x.cpython-311.pyc",
    "twisted/plugins/dropin.cache",
    ".hypothesis/x",
    ".cache/x",
    "var/oneshotd.sqlite",
)

pytestmark = pytest.mark.e2e


def repository() -> set[str]:
    """Return the files of the repository, or of an unpacked distribution."""
    if (ROOT / ".git").exists():
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}
    listed = (ROOT / "oneshotd.egg-info" / "SOURCES.txt").read_text(encoding="utf-8").split("\n")
    return {name for name in listed if name and not name.startswith("oneshotd.egg-info/")} - ADDED


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a distribution in a working tree with build files, and unpack it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for name in repository():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for name in LEFTOVERS:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("left behind", encoding="utf-8")
    words = [sys.executable, "-m", "build", "--sdist", "--no-isolation", f"--outdir={out}"]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (packed,) = out.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(out, filter="data")
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    return folder


def test_the_distribution_has_the_files_of_the_repository_only(unpacked: Path) -> None:
    """A distribution's maintainer could not build the package, or not run its tests."""
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    packed = {name for name in files if not name.startswith("oneshotd.egg-info/")} - ADDED
    assert packed == repository()


def test_every_test_can_be_collected_there(unpacked: Path) -> None:
    """A helper or a file that a test reads would be missing."""
    # To rewrite the assertions of all tests would take longer than to import them.
    words = ["--assert=plain", "--collect-only", "--quiet", "-p", "no:cacheprovider", "-m", "e2e or not e2e"]
    command = [sys.executable, "-m", "pytest", *words]
    here = subprocess.run(command, cwd=unpacked, capture_output=True, text=True)
    assert here.returncode == 0, here.stdout[-5000:]
