"""``python -m chart.enter FILE``: become the process of a container.

FILE is JSON: `root` (an empty folder), `mounts` ([source, target, "ro" or "rw"]), `writable` (whether the
root is), `uid`, `gid`, `groups`, `directory`, `environment` and `command`. Takes root, and a mount namespace
of its own, with which the mounts are gone.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Of prctl(2): no program that is started gains privileges.
PR_SET_NO_NEW_PRIVS = 38

DEVICES = ("null", "zero", "full", "random", "urandom")


def main(file: str) -> None:
    """Make the root of the container, and execute its command there."""
    wanted: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    root = Path(wanted["root"])
    _mount("--make-rprivate", "/")
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root))
    for name in ("bin", "sbin", "lib", "lib64"):
        _copy_link(Path("/") / name, root / name)
    for name in DEVICES:
        _bind(f"/dev/{name}", root / "dev" / name, "rw")
    _bind("/proc", root / "proc", "ro")
    for source, target, mode in wanted["mounts"]:
        _bind(source, root / target.lstrip("/"), mode)
    if not wanted["writable"]:
        _mount("-o", "remount,ro,bind", str(root))
    os.chroot(root)
    os.chdir(wanted["directory"])
    os.setgroups(wanted["groups"])
    os.setgid(wanted["gid"])
    os.setuid(wanted["uid"])
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    os.execvpe(wanted["command"][0], wanted["command"], wanted["environment"])


def _copy_link(source: Path, target: Path) -> None:
    """Have /bin and its like as on this machine: a link into /usr, or a folder."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        _bind(str(source), target, "ro")


def _bind(source: str, target: Path, mode: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(source).is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    _mount("--bind", source, str(target))
    if mode == "ro":
        _mount("-o", "remount,ro,bind", str(target))


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, timeout=60)


if __name__ == "__main__":
    main(sys.argv[1])
