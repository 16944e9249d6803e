"""A real PostgreSQL server for tests: Debian's, installed or unpacked into the cache, never as root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from support.debian_packages import fetch_with_libraries

#: Seconds for initdb, a start or a stop; each takes about one.
PATIENCE = 60.0

#: Where Debian installs servers, one folder for each major version.
INSTALLED = Path("/usr/lib/postgresql")

SUPERUSER = "oneshotd"

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "wal_level": "replica",
    "logging_collector": "off",
    "autovacuum_naptime": "5s",
}


def binaries() -> Path:
    """Return the folder of the newest server; skip the test if there is none to be had."""
    installed = sorted(INSTALLED.glob("*/bin/postgres"), key=lambda path: int(path.parents[1].name))
    if installed:
        return installed[-1].parent
    unpacked = fetch_with_libraries("postgresql")
    return next(iter(unpacked.glob("usr/lib/postgresql/*/bin/postgres"))).parent


class PostgreSQLServer:
    """A server with data of its own, on a socket in its folder.

    :param durable: with fsync, for tests that kill it; without, it starts and works faster.
    :ivar socket: the folder of its socket.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder = folder
        self._bin = binaries()
        self._data = folder / "data"
        self.socket = folder
        self._numbers = count(1)
        self._log = folder / "log"
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        subprocess.run(
            [
                str(self._bin / "initdb"),
                *("--pgdata", str(self._data), "--username", SUPERUSER, "--auth=trust"),
                *("--no-locale", "--encoding=UTF8", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
            **self._surroundings(),
        )
        settings = {**_SETTINGS, "unix_socket_directories": str(folder), "fsync": "on" if durable else "off"}
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _surroundings(self) -> dict[str, Any]:
        libraries = self._bin.parents[4] / "usr/lib/x86_64-linux-gnu"
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
        if INSTALLED not in self._bin.parents:
            environ["LD_LIBRARY_PATH"] = str(libraries)
        return {"env": environ, "cwd": self._folder, **self._identity}

    def start(self) -> None:
        """Start the server; return when it takes connections."""
        self._control("start", "--log", str(self._log))

    def stop(self, mode: str = "fast") -> None:
        """Stop it in order ("fast"), or as a crash does ("immediate")."""
        self._control("stop", "--mode", mode)

    def restart(self, mode: str = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the server process; its sessions end when they notice."""
        os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def _control(self, action: str, *words: str) -> None:
        # Its output goes to files: the server inherits them, and a pipe would not end before it does.
        done = subprocess.run(
            [str(self._bin / "pg_ctl"), "--pgdata", str(self._data), "--wait", "--silent", action, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
            **self._surroundings(),
        )
        if done.returncode != 0:
            log = self._log.read_text(errors="replace") if self._log.exists() else "no log"
            raise AssertionError(f"pg_ctl {action} failed: {log[-2000:]}")

    def address(self, database: str) -> str:
        """Return the connection string of a database."""
        return f"host={self.socket} user={SUPERUSER} dbname={database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement that cannot be in a transaction."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def new_database(self, template: str = "template0") -> str:
        """Create a database; return its name."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[PostgreSQLServer]:
    """A started server in a folder of its own, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="oneshotd-pg-"))
    try:
        server = PostgreSQLServer(folder, durable=durable)
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settings_of(address: str) -> Mapping[str, str]:
    """Return all settings that a new session of the database has."""
    with psycopg.connect(address) as connection:
        return dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
