"""A real HAProxy before daemons: Debian's, installed or unpacked into the cache."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from support.daemon import environment
from support.debian_packages import fetch_with_libraries
from support.processes import Process, free_port, until

#: Seconds in which a server's check must have changed its state.
PATIENCE = 30.0

#: The control socket of a configuration that these tests start, in the folder where HAProxy runs.
CONTROL = "control"

CONFIG = """\
global
    stats socket unix@{control} level admin
defaults
    mode {mode}
    timeout connect 5s
    timeout client {idle}
    timeout server {idle}
listen oneshotd
    bind {bind}
    option httpchk GET /readyz
    default-server check inter 200ms fall 2 rise 1
{servers}
"""


def binary() -> tuple[Path, dict[str, str]]:
    """Return HAProxy's program and its environment; skip the test if it is not to be had."""
    installed = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if installed is not None:
        return Path(installed), environment()
    root = fetch_with_libraries("haproxy")
    libraries = root / "usr/lib" / f"{platform.machine()}-linux-gnu"
    return root / "usr/sbin/haproxy", {**environment(), "LD_LIBRARY_PATH": str(libraries)}


def balanced(
    servers: Mapping[str, int | str], *, mode: str = "tcp", port: int, idle: str = "60s", bind: str = ""
) -> str:
    """Return a configuration that distributes connections to servers, checked by ``/readyz``.

    :param servers: by name their ports on 127.0.0.1, with further words of the line ``server``.
    :param mode: "tcp", or "http".
    :param idle: HAProxy closes a connection without traffic after this time.
    :param bind: words of the line ``bind``, if it is not to be 127.0.0.1 and the port alone.
    """
    lines = "\n".join(f"    server {name} 127.0.0.1:{number}" for name, number in servers.items())
    place = bind or f"127.0.0.1:{port}"
    return CONFIG.format(control=CONTROL, mode=mode, idle=idle, bind=place, servers=lines)


class HAProxy:
    """One HAProxy; as a context manager it starts, and at the end is killed if it still runs.

    :param folder: its working directory, with its configuration and log.
    :param config: text of haproxy.cfg, as `balanced` returns it, with a control socket.
    :param port: where the configuration makes it listen, on 127.0.0.1.
    :param prefix: a command that runs a command elsewhere (``nsenter …``).
    """

    def __init__(
        self, folder: Path, config: str, port: int, *, name: str = "haproxy", prefix: Sequence[str] = ()
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.config = folder / f"{name}.cfg"
        self._text = config
        program, env = binary()
        # -C: where its relative paths begin. -db: in the foreground.
        command = (*prefix, str(program), "-db", "-C", str(folder), "-f", str(self.config))
        self.process = Process(name, command, folder, env)

    @classmethod
    def before(
        cls, folder: Path, servers: Mapping[str, int | str], *, mode: str = "tcp", idle: str = "60s"
    ) -> HAProxy:
        """Return an HAProxy on a free port, with the configuration of `balanced`."""
        port = free_port()
        return cls(folder, balanced(servers, mode=mode, port=port, idle=idle), port)

    def __enter__(self) -> HAProxy:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self.process.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(self._text)
        self.process.start(self._accepts)

    def await_states(self, **expected: bool) -> None:
        """Wait until these servers are up or down, as their checks find them."""
        until(
            lambda: {name: self.states().get(name) for name in expected} == expected,
            PATIENCE,
            lambda: f"{expected}, but {self.states()}",
        )

    def states(self) -> dict[str, bool]:
        """Return for each server of all back ends, by name, whether it is up."""
        head, *rows = (line.split(",") for line in self.control("show stat").splitlines() if line)
        named, status = head.index("svname"), head.index("status")
        servers = [row for row in rows if row[named] not in ("FRONTEND", "BACKEND")]
        return {row[named]: row[status].startswith("UP") for row in servers}

    def control(self, command: str) -> str:
        """Run a command of the management guide, such as ``disable server oneshotd/ann``."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE)
            control.connect(str(self.process.folder / CONTROL))
            control.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: control.recv(1 << 16), b"")).decode()

    def _accepts(self) -> bool:
        try:
            return "Uptime" in self.control("show info")
        except OSError:
            return False
