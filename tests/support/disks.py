"""Disks that are full, read-only, faulty or slow, under a real daemon."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.daemon import Daemon, environment
from support.processes import Process

SOURCE = Path(__file__).with_name("faulty_disk.c")

#: The file of a daemon's store, in its folder.
STORE = "oneshotd.sqlite"


def daemon_with(
    folder: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Daemon:
    """A daemon, not started yet.

    :param options: of ``twistd oneshot``, besides those that every daemon under test gets.
    :param env: variables that it has in addition.
    :param within: a command that becomes the daemon, which is appended to it (`shell`).
    """
    daemon = Daemon(folder)
    process = daemon.process
    daemon.process = Process(
        process.name, (*within, *process.command, *options), folder, {**environment(), **(env or {})}
    )
    return daemon


def shell(script: str) -> tuple[str, ...]:
    """A prefix that runs this in a shell, and then the command that follows it in its place."""
    return ("sh", "-ec", f'{script}\nexec "$@"', "sh")


def skip_or_fail(reason: str) -> None:
    """Skip the test, but never where ``CI`` is set: there everything has to run."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set")
    pytest.skip(reason)


class FaultyDisk:
    """What a daemon's store is written through; in order at first.

    :ivar env: variables of the daemon that has this disk.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            skip_or_fail("there is no C compiler")
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "faulty_disk.so"
        command = (str(compiler), "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        self._faults = folder / "faults"
        self.env = {"LD_PRELOAD": str(library), "FAULTY_DISK": str(self._faults)}
        self.heal()

    def fault(self, *, writes: int = 0, syncs: int = 0, sync_ms: int = 0) -> None:
        """From now on.

        :param writes: errno of every write.
        :param syncs: errno of every sync.
        :param sync_ms: how much longer a sync takes, milliseconds.
        """
        new = self._faults.with_name("faults.new")
        new.write_text(f"{writes} {syncs} {sync_ms}\n")
        new.replace(self._faults)

    def heal(self) -> None:
        """Everything works again."""
        self.fault()


class SmallDisk:
    """A file system of its own for a daemon's store, in memory; only that daemon sees it.

    :param size: of it, bytes.
    :ivar within: for `daemon_with`.
    :ivar option: where the store is, as an option.
    :ivar point: where it is mounted.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.point = folder / "small"
        self.point.mkdir(parents=True)
        mount = f"mount -t tmpfs -o size={size} small {shlex.quote(str(self.point))}"
        if shutil.which("unshare") is None or shutil.which("mount") is None:
            skip_or_fail("there is no unshare or no mount")
        tried = subprocess.run(("unshare", "-rm", "sh", "-ec", mount), capture_output=True, timeout=30)
        if tried.returncode != 0:
            skip_or_fail("a file system cannot be mounted here")
        self.within = ("unshare", "-rm", *shell(mount))
        self.option = f"--store=sqlite:{self.point / STORE}"

    def seen_by(self, daemon: Daemon) -> Path:
        """Its root, as long as the daemon runs."""
        return Path(f"/proc/{daemon.process.pid}/root{self.point}")

    def remounted(self, daemon: Daemon, how: str) -> bool:
        """Remount it, ``ro`` or ``rw``; false where that is not possible now: a file is open for
        writing."""
        inside = ("nsenter", "--preserve-credentials", "-U", "-m", "-t", str(daemon.process.pid))
        mount = ("mount", "-o", f"remount,{how}", str(self.point))
        return subprocess.run((*inside, *mount), capture_output=True, timeout=30).returncode == 0
