"""Programs in Go, compiled with Debian's compiler, which is unpacked into the cache and not installed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from support.debian_packages import cache_folder, fetch

#: Suite -> its version of Go; systems of other suites take that of trixie.
VERSIONS = {"bookworm": "1.19", "trixie": "1.24"}

#: Seconds for a compilation, of the standard library as well.
TIMEOUT = 600


def compiled(source: Path) -> Path:
    """Return the program of one source file; it is kept in the cache until the source changes."""
    name = f"{source.stem}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    program = cache_folder() / "go" / f"{name}-{platform.machine()}"
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        _compile(source, program)
    return program


def _compile(source: Path, program: Path) -> None:
    if not program.exists():
        root = _root()
        made = program.with_suffix(f".{os.getpid()}")
        settings = {
            "GOROOT": str(root),
            "GOCACHE": str(cache_folder() / "go" / "build"),
            "GOPATH": str(cache_folder() / "go" / "path"),
            "GO111MODULE": "off",
            "CGO_ENABLED": "0",
        }
        run = [str(root / "bin" / "go"), "build", "-o", str(made), str(source)]
        subprocess.run(run, env={**os.environ, **settings}, check=True, timeout=TIMEOUT)
        made.rename(program)


def _root() -> Path:
    """Return a folder with the compiler and the standard library, which are two packages."""
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    own = suite in VERSIONS
    version = VERSIONS[suite if own else "trixie"]
    packages = [fetch(f"golang-{version}-{part}", None if own else "trixie") for part in ("go", "src")]
    root = cache_folder() / "go" / f"root-{version}"
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        for package in packages:
            for part in (f"usr/share/go-{version}", f"usr/lib/go-{version}"):
                for file in (package / part).rglob("*"):
                    if file.is_file() and not file.is_symlink():
                        link = root / file.relative_to(package / part)
                        link.parent.mkdir(parents=True, exist_ok=True)
                        link.hardlink_to(file)  # go:embed wants regular files
        (root / "complete").touch()
    return root
