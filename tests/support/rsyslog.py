"""A real rsyslogd from Debian, without root: its own configuration, socket and folder."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from support.daemon import environment
from support.debian_packages import fetch_with_libraries
from support.processes import Process, until

#: Seconds in which a message is read.
PATIENCE = 30.0

#: What a system's configuration has in front of the recipe.
HEAD = """\
global(workDirectory="{folder}/spool")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{socket}" CreatePath="on")
"""

#: Behind the recipe, so that what is in this file is in the queue of the recipe.
TAIL = """\
action(type="omfile" file="{folder}/received")
"""


class Rsyslog:
    """A server; as a context manager it starts, and is killed at the end.

    :param config: what its configuration has behind `HEAD`.
    :param path: the folders in which the programs that it starts find others.
    """

    def __init__(self, folder: Path, config: str, path: str) -> None:
        self.folder = folder
        self.socket = folder / "log.sock"
        root = fetch_with_libraries("rsyslog")
        modules = next(root.rglob("omprog.so")).parent
        libraries = sorted({str(found.parent) for found in root.rglob("lib*.so*")})
        self._config = HEAD.format(folder=folder, socket=self.socket) + config + TAIL.format(folder=folder)
        command = (
            str(root / "usr/sbin/rsyslogd"),
            "-n",
            "-f",
            "rsyslog.conf",
            "-i",
            "pid",
            "-M",
            str(modules),
        )
        env = {**environment(), "PATH": path, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}
        self.process = Process("rsyslogd", command, folder, env)

    def __enter__(self) -> Rsyslog:
        (self.folder / "spool").mkdir(parents=True)
        (self.folder / "rsyslog.conf").write_text(self._config, encoding="utf-8")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()

    def await_received(self, text: str) -> None:
        """Wait until the server has read this from its socket; at its end it leaves the rest there."""
        received = self.folder / "received"
        until(lambda: received.exists() and text in received.read_text(errors="replace"), PATIENCE, text)

    def start(self) -> None:
        """Start the server, and wait for its socket."""
        self.socket.unlink(missing_ok=True)
        self.process.start(self.socket.exists)
