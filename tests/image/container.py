"""Containers of an image in a clean tree, run by crun without a daemon, as a line for podman says."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deb.inside import ENVIRONMENT, Failed, Tree
from support.container_lines import Run

#: Seconds for a start and for an end.
PATIENCE = 30.0

RUNTIME = ("crun", "--cgroup-manager=disabled", "--root=/run/crun")

#: Before the place of a tree and a command: that is run with the tree as the root of a mount name space. A
#: runtime puts the root of a container where its own was, and a further process enters the name space at its
#: root: below a chroot alone these would be two places.
ROOTED = ("unshare", "--mount", "sh", "-c", 'cd "$0" && mount --move . / && exec chroot . "$@"')

#: What a runtime mounts beside the volumes; there is neither a cgroup nor a network of its own here.
MOUNTS: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("/proc", "proc", ("nosuid", "nodev", "noexec")),
    ("/dev", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")),
    ("/dev/shm", "tmpfs", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
)


class Image:
    """An image that umoci has unpacked in the tree; containers share its files, which they may not change."""

    def __init__(self, tree: Tree, layout: str, tag: str) -> None:
        self.tree = tree
        self.bundle = "/srv/bundle"
        tree.run("umoci", "unpack", "--image", f"{layout}:{tag}", self.bundle)
        self.settings: dict[str, Any] = json.loads(tree.path(f"{self.bundle}/config.json").read_text())

    @property
    def root(self) -> Path:
        return self.tree.path(f"{self.bundle}/rootfs")

    @property
    def entry_point(self) -> list[str]:
        return list(self.settings["process"]["args"])


class Container:
    """A container by crun: the program is its process 1, in namespaces of its own but for the network's.

    :param line: what podman would be asked for.
    :param volumes: source of a mount -> folder or file in the tree.
    """

    def __init__(self, image: Image, line: Run, volumes: Mapping[str, str], name: str = "oneshotd") -> None:
        self._tree = image.tree
        self._name = name
        self._folder = f"/srv/containers/{name}"
        self._log = self._tree.path(f"/srv/{name}.log")
        self._child: subprocess.Popen[bytes] | None = None
        place = self._tree.path(self._folder)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        settings = configured(image, line, volumes)
        (place / "config.json").write_text(json.dumps(settings))

    def start(self) -> None:
        """Start it; come back as soon as crun has its process 1."""
        with self._log.open("ab") as log:
            command = self._command("run", f"--bundle={self._folder}", self._name)
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT
            )
        until = time.monotonic() + PATIENCE
        while self._child.poll() is None and self._state() != "running":
            if time.monotonic() > until:
                raise Failed(f"the container does not start\n{self.log()}")
            time.sleep(0.02)

    def handles(self, number: signal.Signals) -> None:
        """Wait until its process 1 has a handler for a signal, which the kernel drops before.

        :raises Failed: it has none in time.
        """
        pid = json.loads(self._crun("state", self._name)[1])["pid"]
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            # The numbers of the tree's /proc are those of this process's name space.
            text = self._tree.path(f"/proc/{pid}/status").read_text()
            (caught,) = re.findall(r"(?m)^SigCgt:\s+([0-9a-f]+)$", text)
            if int(caught, 16) >> (number - 1) & 1:
                return
            time.sleep(0.005)
        raise Failed(f"process 1 does not handle {number.name}\n{self.log()}")

    def ready(self, *options: str) -> None:
        """Wait until its health check succeeds.

        :param options: of ``oneshotctl health``.
        :raises Failed: it does not, or the container has ended.
        """
        until = time.monotonic() + PATIENCE
        while True:
            status, said = self.execute("oneshotctl", "health", *options)
            if status == 0:
                return
            if self._child is None or self._child.poll() is not None or time.monotonic() > until:
                raise Failed(f"the container is not healthy: {said}\n{self.log()}")
            time.sleep(0.05)

    def execute(self, *words: str) -> tuple[int, str]:
        """Return the status of a command in the container, and what it says."""
        return self._crun("exec", self._name, *words)

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM to its process 1; return the status and the seconds that it took."""
        return self._ended("TERM")

    def kill(self) -> None:
        """``kill -9``; nothing where it does not run."""
        if self._child is not None and self._child.poll() is None:
            self._ended("KILL")
        self._child = None

    def wait(self) -> int:
        """Return the status with which it ends by itself."""
        assert self._child is not None
        status = self._child.wait(PATIENCE)
        self._child = None
        return status

    def log(self) -> str:
        """Return what it has written."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _ended(self, name: str) -> tuple[int, float]:
        assert self._child is not None
        began = time.monotonic()
        status, said = self._crun("kill", self._name, name)
        if status != 0:
            raise Failed(f"crun kill {name}: {said}\n{self.log()}")
        try:
            while (ended := self._child.poll()) is None:
                if time.monotonic() > began + PATIENCE:
                    self._child.send_signal(signal.SIGKILL)
                    raise Failed(f"the container does not end at SIG{name}\n{self.log()}")
                self._reap()
                time.sleep(0.02)
        finally:
            self._crun("delete", "--force", self._name)
        self._child = None
        return ended, time.monotonic() - began

    def _reap(self) -> None:
        """Wait for what `crun exec` has left to this process, which is process 1 of its name space.

        The kernel does not end a container before all of its processes are waited for.
        """
        assert self._child is not None
        for path in self._tree.path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, parent = path.read_text().rpartition(")")[2].split()[:2]
                pid = int(path.parent.name)
                if state == "Z" and int(parent) == os.getpid() and pid != self._child.pid:
                    os.waitpid(pid, 0)

    def _state(self) -> str:
        status, said = self._crun("state", self._name)
        return str(json.loads(said)["status"]) if status == 0 else ""

    def _command(self, *words: str) -> list[str]:
        """Return how crun is run."""
        return [*ROOTED, str(self._tree.root), *RUNTIME, *words]

    def _crun(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            self._command(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            env=ENVIRONMENT,
        )
        return done.returncode, done.stdout


def configured(image: Image, line: Run, volumes: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration of a runtime (OCI runtime specification 1.0) for a line.

    :raises ValueError: a mount has no place in `volumes`.
    """
    settings = json.loads(json.dumps(image.settings))
    process = settings["process"]
    process["terminal"] = False
    process.pop("rlimits", None)  # umoci's; podman and docker leave more descriptors
    process["args"] = [*image.entry_point, *line.arguments]
    process["env"] += [f"{name}={text}" for name, text in line.environment.items()]
    process["noNewPrivileges"] = line.no_new_privileges
    if line.drops_capabilities:
        process["capabilities"] = {}
    if line.user is not None:
        user, _, group = line.user.partition(":")
        process["user"] = {"uid": int(user), "gid": int(group or 0)}
    settings["root"] = {"path": f"{image.bundle}/rootfs", "readonly": line.read_only}
    settings["mounts"] = [
        {"destination": target, "type": kind, "source": kind, "options": list(options)}
        for target, kind, options in MOUNTS
    ]
    # Every runtime gives a container the names of this machine.
    hosts = {"destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts", "options": ["bind", "ro"]}
    settings["mounts"].append(hosts)
    for mount in line.mounts:
        options = ["rbind", "nosuid", "nodev", "ro" if mount.read_only else "rw"]
        source = volumes[mount.source]
        settings["mounts"].append(
            {"destination": mount.target, "type": "bind", "source": source, "options": options}
        )
    spaces = [{"type": name} for name in ("pid", "ipc", "uts", "mount")]
    settings["linux"] = {"namespaces": spaces, "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]}
    settings.pop("hooks", None)
    return dict(settings)


def volume(tree: Tree, name: str, user: str) -> str:
    """Make an empty volume that belongs to a user, as a runtime would; return its place in the tree."""
    place = f"/srv/volumes/{name}"
    tree.path(place).mkdir(parents=True)
    uid, _, gid = user.partition(":")
    os.chown(tree.path(place), int(uid), int(gid or 0))
    tree.path(place).chmod(0o700)
    return place
