"""A real PgBouncer before a PostgreSQL server: Debian's, installed or unpacked into the cache."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.debian_packages import fetch_with_libraries
from support.postgresql_server import LIBRARIES, SUPERUSER, PostgreSQLServer
from support.processes import until

_SOCKET = ".s.PGSQL.5432"


@contextmanager
def pgbouncer(server: PostgreSQLServer, mode: str, *settings: str) -> Iterator[Path]:
    """Run one; gives the folder of its socket.

    :param mode: "session" or "transaction".
    :param settings: further lines of its configuration.
    """
    installed = shutil.which("pgbouncer")
    environ = {"PATH": os.environ["PATH"]}
    program = installed
    if program is None:
        tree = fetch_with_libraries("pgbouncer")
        program = str(tree / "usr/sbin/pgbouncer")
        environ["LD_LIBRARY_PATH"] = str(tree / "usr/lib" / LIBRARIES)
    folder = Path(tempfile.mkdtemp(prefix="oneshotd-pgbouncer-"))
    users = folder / "users"
    users.write_text(f'"{SUPERUSER}" ""\n')
    lines = (
        "[databases]",
        f"* = host={server.socket}",
        "[pgbouncer]",
        "listen_port = 5432",
        f"unix_socket_dir = {folder}",
        "auth_type = trust",
        f"auth_file = {users}",
        f"pool_mode = {mode}",
        *settings,
    )
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    identity = {}
    if os.geteuid() == 0:  # it refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid}
    process = subprocess.Popen(
        [program, "--quiet", str(folder / "pgbouncer.ini")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environ,
        **identity,  # type: ignore[call-overload]
    )
    try:
        until((folder / _SOCKET).exists, 20, "PgBouncer listens")
        yield folder
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder)
