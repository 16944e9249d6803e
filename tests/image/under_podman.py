"""The page's line, word by word, by podman in the tree: loaded, run, asked, stopped, run again.

There are no cgroups and no network of its own for it here, and no systemd whose timers would run the health
check: these three are other than on the page.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from deb import client
from deb.build import Unfit
from deb.inside import ENVIRONMENT, Failed, Tree

from image.container import ROOTED

PODMAN = (
    *("podman", "--root=/srv/podman", "--runroot=/run/podman", "--storage-driver=vfs"),
    *("--cgroup-manager=cgroupfs", "--events-backend=none"),
)
#: What podman says here of the missing cgroups.
_NOISE = re.compile(r"(?m)^.*(cgroups-v1|pids limit|Port mappings have been discarded).*\n?")

#: Seconds for a start.
PATIENCE = 30.0


class Podman:
    """podman in the tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __call__(self, *words: str, expected: int = 0) -> str:
        """Return what a command says.

        :raises Failed: its status is another.
        """
        done = subprocess.run(
            [*ROOTED, str(self._tree.root), *PODMAN, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            env=ENVIRONMENT,
        )
        said = _NOISE.sub("", done.stdout).strip()
        if done.returncode != expected:
            raise Failed(f"{' '.join(('podman', *words))}: status {done.returncode}\n{said[-3000:]}")
        return said


def here(words: Sequence[str]) -> list[str]:
    """Return the words of a `podman run` for this place."""
    line = list(words[2:])
    if "--health-interval" in line:
        line[line.index("--health-interval") + 1] = "disable"
    return ["run", "--cgroups=disabled", "--network=host", *line]


def trial(tree: Tree, archive: Path, words: Sequence[str]) -> str:
    """Run the line.

    :param words: of the page's line, with a configuration and a health check.
    :raises Unfit: it does not do well.
    """
    podman = Podman(tree)
    shutil.copy(archive, tree.path("/srv/image.tar"))
    said = podman("load", "--input", "/srv/image.tar")
    tree.path("/srv/image.tar").unlink()
    name = words[words.index("--name") + 1]
    if not any(word in said for word in words if word.startswith("localhost/")):
        raise Unfit(f"podman load: {said}")
    tree.path("/etc/oneshotd").mkdir(exist_ok=True)
    tree.path("/etc/oneshotd/oneshotd.toml").write_text('metric = "configured_metric"\n')
    try:
        podman(*here(words))
        _healthy(podman, name)
        podman("exec", name, "oneshot-emit", "n=1")
        podman("kill", "--signal=KILL", name)
        podman("wait", name)
        # An upgrade: another container on the same volume.
        podman("rm", "--force", name)
        podman(*here(words))
        _healthy(podman, name)
        scraped = client.get("/metrics?scraper=ann")
        if scraped.count('\nconfigured_metric{n="1"} 1\n') != 1:
            raise Unfit(f"another container on the volume delivers\n{scraped}\n{podman('logs', name)}")
        began = time.monotonic()
        podman("stop", name)
        took = time.monotonic() - began
        status = podman("inspect", "--format={{.State.ExitCode}}", name)
        if status != "0":
            raise Unfit(f"podman stop: status {status} after {took:.1f} s\n{podman('logs', name)}")
    finally:
        podman("rm", "--force", "--ignore", "--time=0", name)
    version = podman("--version").rpartition(" ")[2]
    return (
        f"podman {version} loads it, and runs the line; killed, replaced, stopped in {took:.1f} s: status 0"
    )


def _healthy(podman: Podman, name: str) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            podman("healthcheck", "run", name)
        except Failed as reason:
            if time.monotonic() > until:
                raise Failed(f"{reason}\n{podman('logs', name)}") from None
            time.sleep(0.2)
        else:
            return
