"""The programs of docs/emitting.md: the machine's own, or Debian's, unpacked and not installed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import frozen
from support.debian_packages import PackageUnavailable, fetch
from support.emit_process import REPOSITORY

try:
    RELEASE = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
except OSError:
    RELEASE = ""

#: From Debian 13 on packages whose libraries have 64-bit times bear it in their names.
T64 = "" if RELEASE in ("", "bullseye", "bookworm", "jammy") else "t64"
PHP = {"bullseye": "7.4", "bookworm": "8.2", "jammy": "8.1", "noble": "8.3"}.get(RELEASE, "8.4")


@frozen(kw_only=True)
class Program:
    """:param path: of the program in the package."""

    package: str
    path: str


#: What the page runs, and the Debian package that brings it.
PROGRAMS: Mapping[str, Program] = {
    "curl": Program(package="curl", path="usr/bin/curl"),
    "wget": Program(package="wget", path="usr/bin/wget"),
    "busybox": Program(package="busybox", path="bin/busybox"),
    "nc.openbsd": Program(package="netcat-openbsd", path="bin/nc.openbsd"),
    "nc.traditional": Program(package="netcat-traditional", path="bin/nc.traditional"),
    "ncat": Program(package="ncat", path="usr/bin/ncat"),
    "socat": Program(package="socat", path="usr/bin/socat"),
    "perl": Program(package="perl", path="usr/bin/perl"),
    "php": Program(package=f"php{PHP}-cli", path=f"usr/bin/php{PHP}"),
    "awk": Program(package="mawk", path="usr/bin/mawk"),
}

#: Our own command, and what stands for the reader's programs.
OURS: Mapping[str, str] = {
    "oneshot-emit": f'PYTHONPATH={REPOSITORY} exec {sys.executable} -P -m oneshotd.emit "$@"',
    "nightly-backup": "exit 0",
    "mail-queue-length": "echo 12",
}


def provide(name: str, folder: Path) -> None:
    """Put the program into the folder, unless it is there; from the machine or from Debian.

    Where it cannot be had the test is skipped with the reason; where ``CI`` is set it fails.
    """
    target = folder / name
    if target.exists():
        return
    if name in OURS:
        _script(target, OURS[name])
    elif (found := shutil.which(name)) is not None:
        target.symlink_to(found)
    else:
        try:
            _from_debian(name, target)
        except PackageUnavailable as problem:
            if os.environ.get("CI"):
                pytest.fail(str(problem), pytrace=False)
            pytest.skip(f"{name}: {problem}")


def _from_debian(name: str, target: Path) -> None:
    program = PROGRAMS[name]
    files = fetch(program.package)
    path = files / program.path
    if not path.exists():  # from Debian 13 on everything is under usr
        path = files / "usr" / program.path
    libraries = list[Path]()
    for _ in range(6):  # each round finds what the libraries of the one before need
        missing = _missing_libraries(path, libraries)
        if not missing:
            break
        for library in missing:
            libraries += {each.parent for each in fetch(_package_of(library)).rglob(f"{library}*")}
    search = os.pathsep.join(map(str, libraries))
    _script(target, f'LD_LIBRARY_PATH={search} exec {path} "$@"' if search else f'exec {path} "$@"')


def _missing_libraries(path: Path, libraries: list[Path]) -> list[str]:
    env = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)), "LC_ALL": "C"}
    done = subprocess.run(["ldd", str(path)], env=env, capture_output=True, text=True, timeout=30)
    return re.findall(r"^\s*(\S+) => not found$", done.stdout, re.MULTILINE)


def _package_of(library: str) -> str:
    """Debian's name for it (Debian Policy section 8.1): libpcap.so.0.8 -> libpcap0.8."""
    stem, _, version = library.partition(".so.")
    if stem == "libxml2":
        return stem
    name = f"{stem}-{version}" if stem[-1].isdigit() else f"{stem}{version}"
    return name + (T64 if stem in ("libpcap", "libssl", "libcrypto") else "")


def _script(target: Path, line: str) -> None:
    target.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    target.chmod(0o755)
