"""A real PostgreSQL server for tests: Debian's, installed or unpacked into the cache, never as root."""

from __future__ import annotations

import fcntl
import os
import platform
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
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

#: The suite that has each major version, for a system of another suite.
SUITES = {15: "bookworm", 17: "trixie"}

#: The folder of shared libraries below usr/lib.
LIBRARIES = f"{platform.machine()}-linux-gnu"

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "wal_level": "replica",
    "logging_collector": "off",
    "autovacuum_naptime": "5s",
}


def binaries(version: int | None = None) -> Path:
    """Return the folder of a server's programs; skip the test if there is none to be had.

    :param version: 15 or 17; None: the newest that is installed, else that of the system's suite.
    """
    installed = sorted(INSTALLED.glob("*/bin/postgres"), key=lambda path: int(path.parents[1].name))
    for path in reversed(installed):
        if version in (None, int(path.parents[1].name)):
            return path.parent
    if version is None:
        unpacked = fetch_with_libraries("postgresql")
        return next(iter(unpacked.glob("usr/lib/postgresql/*/bin/postgres"))).parent
    unpacked = fetch_with_libraries(f"postgresql-{version}", SUITES[version])
    folder = unpacked / f"usr/lib/postgresql/{version}/bin"
    _wrap(folder, unpacked / "usr/lib" / LIBRARIES)
    return folder


def _wrap(folder: Path, libraries: Path) -> None:
    """Put a script before each program of another suite, which starts it with that suite's loader."""
    loader = next(iter(libraries.glob("ld-linux-*.so.*")))
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("postgres", "initdb", "pg_ctl", "pg_basebackup"):
            program, real = folder / name, folder / f"{name}.real"
            if real.exists():
                continue
            if not program.exists():  # in another package
                continue
            script = folder / f"{name}.new"
            script.write_text(
                f'#!/bin/sh\nexec {loader} --library-path {libraries} --argv0 {program} {real} "$@"\n'
            )
            script.chmod(0o755)
            os.link(program, real)
            script.rename(program)


class PostgreSQLServer:
    """A server with data of its own, on a socket in its folder.

    :param durable: with fsync, for tests that kill it; without, it starts and works faster.
    :param version: see `binaries`.
    :param copy_of: a running server, of which this one is a standby.
    :param variables: more of its environment.
    :param port: in the name of its socket; it listens there on no address, unless `configure` says so.
    :ivar socket: the folder of its socket.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        version: int | None = None,
        copy_of: PostgreSQLServer | None = None,
        variables: Mapping[str, str] | None = None,
        port: int = 5432,
        superuser: str = SUPERUSER,
    ) -> None:
        self._variables = variables or {}
        self._folder = folder
        self.superuser: str = superuser if copy_of is None else copy_of.superuser
        self.port = port
        self._bin = binaries(version)
        self._data = folder / "data"
        self.socket = folder
        self._numbers = count(1)
        self._log = folder / "log"
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        if copy_of is None:
            self._run(
                "initdb",
                "--username",
                superuser,
                "--auth=trust",
                "--no-locale",
                "--encoding=UTF8",
                "--no-sync",
            )
        else:
            source = (
                "--host",
                str(copy_of.socket),
                "--port",
                str(copy_of.port),
                "--username",
                copy_of.superuser,
            )
            self._run("pg_basebackup", *source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        settings = {**_SETTINGS, "unix_socket_directories": str(folder), "fsync": "on" if durable else "off"}
        settings["port"] = str(port)
        self.configure("".join(f"{name} = '{value}'\n" for name, value in settings.items()))

    def configure(self, lines: str, *, hba: str | None = None, alone: bool = False) -> None:
        """Add lines to postgresql.conf, where the last one counts; a start or `reload` reads them.

        :param hba: the text of pg_hba.conf.
        :param alone: forget what pg_basebackup or ALTER SYSTEM has written.
        """
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(lines)
        if hba is not None:
            (self._data / "pg_hba.conf").write_text(hba)
        if alone:
            (self._data / "postgresql.auto.conf").write_text("")

    def own(self, name: str, content: bytes) -> Path:
        """Write a file into its folder that the server alone can read; return its path."""
        file = self._folder / name
        file.write_bytes(content)
        file.chmod(0o600)
        if self._identity:
            os.chown(file, self._identity["user"], self._identity["group"])
        return file

    def reload(self) -> None:
        """Let the server read its configuration again."""
        self._control("reload")

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [str(self._bin / program), "--pgdata", str(self._data), *words],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
            **self._surroundings(),
        )

    def _surroundings(self) -> dict[str, Any]:
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", **self._variables}
        if INSTALLED not in self._bin.parents and not (self._bin / "postgres.real").exists():
            environ["LD_LIBRARY_PATH"] = str(self._bin.parents[4] / "usr/lib" / LIBRARIES)
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

    def promote(self) -> None:
        """Make a standby the primary; return when it takes writes."""
        self._control("promote")

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
        port = "" if self.port == 5432 else f" port={self.port}"
        return f"host={self.socket}{port} user={self.superuser} dbname={database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement that cannot be in a transaction."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def client(self) -> dict[str, str]:
        """Return the environment of the client programs that come with the server, the first of the path."""
        environ: dict[str, str] = self._surroundings()["env"]
        return {**environ, "PATH": f"{self._bin}{os.pathsep}{environ['PATH']}"}

    def new_database(self, template: str = "template0") -> str:
        """Create a database; return its name."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name


@contextmanager
def running_server(
    *,
    durable: bool = False,
    version: int | None = None,
    copy_of: PostgreSQLServer | None = None,
    variables: Mapping[str, str] | None = None,
    port: int = 5432,
    superuser: str = SUPERUSER,
    before: Callable[[PostgreSQLServer], object] = lambda server: None,
) -> Iterator[PostgreSQLServer]:
    """A started server in a folder of its own, gone at the end.

    :param before: called with the server before its start.
    """
    folder = Path(tempfile.mkdtemp(prefix="oneshotd-pg-"))
    try:
        server = PostgreSQLServer(
            folder,
            durable=durable,
            version=version,
            copy_of=copy_of,
            variables=variables,
            port=port,
            superuser=superuser,
        )
        before(server)
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
