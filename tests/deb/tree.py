"""Clean trees of a Debian release: made once by mmdebstrap, kept as archives, unpacked for a use.

Nothing of the machine gets in but its mirror and how its apt reaches it. In a tree programs run by
chroot, in namespaces of their own (`inside.py`); all mounts are made there, so that they are gone
with the last process, and no deletion can go through one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.debian_packages import KEYRING, PackageUnavailable, cache_folder, mirror, security_mirror

SUITE = "trixie"
#: Seconds for which a tree is good; a point release comes every two months.
AGE = 7 * 24 * 3600.0
#: Seconds after which a tree is nobody's any more.
DAY = 24 * 3600.0
#: Seconds for making one; it has some 300 MB to download the first time.
TIMEOUT = 900.0


class Unable(Exception):
    """This machine cannot do that; the text is the reason."""


def check_machine() -> None:
    """:raises Unable: trees cannot be made or entered here."""
    if os.geteuid() != 0:
        raise Unable("a clean tree takes root")
    for tool in ("mmdebstrap", "unshare", "chroot", "apt-get", "apt-config", "tar"):
        if shutil.which(tool) is None:
            raise Unable(f"there is no {tool} here")
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True, text=True, timeout=60
    )
    if tried.returncode != 0:
        raise Unable(f"no namespaces here: {tried.stderr.strip()}")


def archive(packages: Sequence[str], *, security: bool = False) -> Path:
    """A tar archive of a tree with these packages and what they need, made if there is none.

    :param security: with security updates that are in no point release yet, where the machine has a mirror.
    :raises Unable: the mirror is not reached, and there is no older archive.
    """
    folder = cache_folder() / "trees"
    folder.mkdir(parents=True, exist_ok=True)
    _tidy(folder)
    suites = [SUITE, f"{SUITE}-security"] if security else [SUITE]
    key = hashlib.sha256("\n".join([*suites, *sorted(packages)]).encode()).hexdigest()[:12]
    made = folder / f"{SUITE}-{key}.tar"
    if made.exists() and time.time() - made.stat().st_mtime < AGE:
        return made
    try:
        _make(packages, made, security)
    except (Unable, PackageUnavailable, subprocess.TimeoutExpired) as error:
        if not made.exists():
            raise Unable(str(error)) from error
        print(f"deb: an older tree is used; a new one could not be made: {error}")
    return made


def _tidy(folder: Path) -> None:
    """Remove what a run left that was killed, and archives that nobody has used for long."""
    for path in folder.iterdir():
        age = time.time() - path.stat().st_mtime
        if path.is_dir() and age > DAY and f" {path}/" not in Path("/proc/self/mounts").read_text():
            shutil.rmtree(path)
        elif path.is_file() and age > 2 * AGE:
            path.unlink()


def _make(packages: Sequence[str], target: Path, security: bool) -> None:
    print(f"deb: makes a tree of {SUITE} with {len(packages)} packages and what they need")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as name:
        work = Path(name)
        (work / "apt.conf").write_text(_apt_settings())
        fresh = work / "tree.tar"
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        command = [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--aptopt={work / 'apt.conf'}"),
            *(f"--include={','.join(packages)}", SUITE, str(fresh), f"deb {signed}{mirror()} {SUITE} main"),
        ]
        updates = security_mirror() if security else None
        if updates is not None:
            command.append(f"deb {signed}{updates} {SUITE}-security main")
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={**os.environ, "TMPDIR": str(work), "LC_ALL": "C.UTF-8"},
        )
        if done.returncode != 0:
            raise Unable(f"mmdebstrap: status {done.returncode}\n{done.stderr[-2000:]}")
        fresh.rename(target)


def _apt_settings() -> str:
    """How the machine's own apt gets at its mirror: proxies, certificates, what it does not check."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, timeout=60, check=True)
    return "".join(f"{line}\n" for line in dump.stdout.splitlines() if line.startswith("Acquire::"))


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A tree for one use; gone at the end."""
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="tree-") as name:
        root = Path(name)
        # Device nodes are made where the tree is used.
        unpack = ["tar", "--extract", f"--file={archive}", f"--directory={root}", "--exclude=./dev/*"]
        subprocess.run([*unpack, "--numeric-owner"], check=True, timeout=TIMEOUT)
        root.chmod(0o755)
        try:
            yield root
        finally:
            mounts = Path("/proc/self/mounts").read_text()
            assert f" {root}/" not in mounts, "something is mounted in the tree; it is left alone"
