"""A machine on which recipes of docs/recipes.md are run: a daemon, programs, and the events that arrive."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import Daemon, environment
from support.emitting_tools import provide
from support.processes import until

#: Seconds for one command, and for an event to arrive.
PATIENCE = 60.0


class Machine:
    """A daemon, and a folder of programs that the recipes call.

    :param folder: of everything.
    """

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in ("curl", "oneshot-emit"):
            provide(name, self.programs)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a command: the programs are found, and `oneshot-emit` finds the daemon."""
        path = os.pathsep.join([str(self.programs), os.environ["PATH"]])
        return {
            **environment(),
            "PATH": path,
            "ONESHOTD_URL": self.daemon.url,
            "NO_PROXY": "*",
            "no_proxy": "*",
        }

    def adapted(self, text: str) -> str:
        """Return the text of a recipe for this daemon and these programs."""
        text = re.sub(r"/usr/(?:local/)?bin/(?!python|env)", f"{self.programs}/", text)
        return text.replace("http://localhost:8090", self.daemon.url)

    def install(self, path: Path, text: str) -> Path:
        """Write a program of a recipe."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.adapted(text), encoding="utf-8")
        path.chmod(0o755)
        return path

    def run(self, *command: str, folder: Path | str | None = None, **variables: str) -> str:
        """Run a command, which has to succeed; return what it prints."""
        done = subprocess.run(
            command,
            cwd=folder or self.folder,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def events(self, **labels: str) -> list[dict[str, Any]]:
        """Return the held events with these labels, oldest first."""
        query = "&".join(f"{name}={value}" for name, value in labels.items())
        found: list[dict[str, Any]] = json.loads(self.daemon.get(f"/api/v1/events?{query}"))["events"]
        return found[::-1]

    def await_events(self, number: int, **labels: str) -> list[dict[str, Any]]:
        """Wait for so many events with these labels, and return them."""
        until(
            lambda: len(self.events(**labels)) >= number, PATIENCE, lambda: f"events {self.events(**labels)}"
        )
        found = self.events(**labels)
        assert len(found) == number, found
        return found

    def samples(self) -> list[str]:
        """Return the samples of events, as a scrape would get them."""
        return [line for line in self.daemon.look().splitlines() if line.startswith("events_to_metrics")]

    def duplicates(self) -> int:
        """Return how many events were duplicates."""
        (found,) = re.findall(r"^oneshotd_events_duplicate_total (\S+)$", self.daemon.look(), re.MULTILINE)
        return int(float(found))


@contextmanager
def machine(folder: Path, more: Sequence[str] = ()) -> Iterator[Machine]:
    """Run a daemon with the programs of recipes.

    :param more: options of the daemon.
    """
    with Daemon(folder / "daemon", more=more) as daemon:
        yield Machine(daemon, folder)
        assert daemon.errors() == []
