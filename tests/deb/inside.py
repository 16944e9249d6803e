"""Running things in a clean tree, cut off from the machine and its network.

`enter` is called in a process that was started in namespaces of its own. The mounts that it makes
nobody else sees, and the kernel takes them away with the last process.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Of netdevice(7).
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

#: Seconds for one command; the package's build with its tests takes the longest.
TIMEOUT = 600.0

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "TMPDIR": "/tmp",
}


def apart(module: str, *words: str) -> int:
    """Run ``python -m MODULE WORDS`` in namespaces of its own: its status.

    Everything that it has started and mounted is gone afterwards, however it ends.
    """
    command = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
    return subprocess.run([*command, sys.executable, "-m", module, *words]).returncode


def enter(root: Path) -> None:
    """Mount what programs in the tree need, and have the loopback."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "proc", "-o", "nosuid,nodev,noexec", "proc", str(root / "proc"))
    run("mount", "-t", "tmpfs", "-o", "nosuid,mode=755", "tmpfs", str(root / "dev"))
    for name, number in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        os.mknod(root / "dev" / name, 0o20666, os.makedev(1, number))
        (root / "dev" / name).chmod(0o666)
    for name in ("shm", "pts"):
        (root / "dev" / name).mkdir()
    run("mount", "-t", "tmpfs", "-o", "nosuid,nodev,mode=1777", "tmpfs", str(root / "dev/shm"))
    run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", str(root / "dev/pts"))
    (root / "dev/ptmx").symlink_to("pts/ptmx")
    (root / "dev/fd").symlink_to("/proc/self/fd")
    socket.sethostname("clean")
    (root / "etc/hosts").write_text("127.0.0.1 localhost clean\n::1 localhost\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        wanted = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack("16xh14x", wanted)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def run(*command: str) -> None:
    """Run it on this machine, which must succeed."""
    subprocess.run(command, check=True, timeout=60)


class Failed(Exception):
    """A command in the tree did not succeed; the text has what it said."""


class Tree:
    """Commands in a tree that was entered."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def command(self, words: Sequence[str]) -> list[str]:
        """How it is run from outside."""
        return ["chroot", str(self.root), *words]

    def run(
        self, *words: str, cwd: str = "/", env: Mapping[str, str] | None = None, expected: int = 0
    ) -> str:
        """What the command says, standard error included.

        :param cwd: in the tree.
        :raises Failed: it ended with another status.
        """
        inner = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", cwd, *words]
        done = subprocess.run(
            self.command(inner),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            env={**ENVIRONMENT, **(env or {})},
        )
        if done.returncode != expected:
            raise Failed(f"{' '.join(words)}: status {done.returncode}\n{done.stdout[-6000:]}")
        return done.stdout

    def path(self, name: str) -> Path:
        """A path of the tree, seen from outside."""
        return self.root / name.lstrip("/")
