"""The database of a cluster campaign: a primary and its synchronous standby, and the daemons' lines to them.

After a promotion the other server is thrown away, and a standby is made from the new primary, so that the
next promotion is possible.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from soak.actor import Bag
from support.cut_line import CutLine
from support.faketime import WallClock
from support.postgresql_server import SUPERUSER, PostgreSQLServer
from support.processes import until

DATABASE = "soak"

#: Seconds until a new standby has all that the primary has; and until a killed server's processes are gone.
SYNCHRONOUS_WITHIN, GONE_WITHIN = 90.0, 20.0

_SETTINGS = (
    "max_connections = 60\nwal_keep_size = 256\nlog_checkpoints = off\nwal_retrieve_retry_interval = 200\n"
)
_STANDBY = """
SELECT sync_state = 'sync' AND flush_lsn >= %s::pg_lsn FROM pg_stat_replication WHERE state = 'streaming'"""


class Node(PostgreSQLServer):
    """One server of the two; all its processes can be stopped and killed at once.

    :param ahead: seconds that its clock is ahead.
    """

    def __init__(self, folder: Path, *, copy_of: PostgreSQLServer | None = None, ahead: float = 0.0) -> None:
        self._clock: dict[str, str] = {}
        if ahead:
            self._clock = {**WallClock(folder).variables, "FAKETIME": f"{ahead:+g}s"}
            # Its offset stays, and reading a file each time would make it slow.
            for name in ("FAKETIME_TIMESTAMP_FILE", "FAKETIME_NO_CACHE"):
                del self._clock[name]
        super().__init__(folder, copy_of=copy_of)

    def _surroundings(self) -> dict[str, Any]:
        found = super()._surroundings()
        return {**found, "env": {**found["env"], **self._clock}}

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def override(self, text: str) -> None:
        """Add settings, which override earlier ones, for the next start or `reload`."""
        with (self._data / "postgresql.auto.conf").open("a") as file:
            file.write(text)

    def reload(self) -> None:
        """Read the settings again."""
        os.kill(self.pid, signal.SIGHUP)

    def signal_all(self, number: int) -> list[int]:
        """Send a signal to the server and to all its processes; return their ids."""
        pids = [self.pid, *children(self.pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def kill_all(self) -> None:
        """``kill -9`` of all processes; return when they are gone."""
        pids = self.signal_all(signal.SIGKILL)
        until(lambda: not any(map(_runs, pids)), GONE_WITHIN, "the killed server is gone")
        # A process of this number may be there for a while, as a zombie.
        for left in (self._data / "postmaster.pid", *self.socket.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)

    def ask(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Ask the server directly, as its superuser."""
        with psycopg.connect(self.address(DATABASE), autocommit=True, connect_timeout=5) as connection:
            return connection.execute(query.encode(), values).fetchall()


class Database:
    """Both servers.

    :param folder: every user may enter it, as PostgreSQL does not run as root.
    :param daemons: names of the daemons, each of which gets lines of its own.
    :param clocks: seconds that the clock of each new server is ahead; None: their clocks are right.
    """

    def __init__(self, folder: Path, daemons: Sequence[str], clocks: Bag[float] | None = None) -> None:
        self._clocks = clocks
        self._folder = folder
        self._made = 0
        self._keep_still = threading.RLock()
        self.primary = self._new_node(None)
        self.primary.start()
        self.primary.execute(f"CREATE DATABASE {DATABASE}")
        self._slots: list[Node | None] = [self.primary, None]
        self.lines = {name: [CutLine(self.primary.socket), CutLine(folder)] for name in daemons}
        self.renew_standby()

    @property
    def standby(self) -> Node:
        """The server that is not the primary."""
        [found] = [node for node in self._slots if node is not None and node is not self.primary]
        return found

    def address(self, daemon: str) -> str:
        """Return the connection string of a daemon, which names both servers."""
        ports = ",".join(str(line.port) for line in self.lines[daemon])
        return (
            f"host=127.0.0.1,127.0.0.1 port={ports} user={SUPERUSER} dbname={DATABASE}"
            " target_session_attrs=read-write"
        )

    def close(self) -> None:
        """End all that runs."""
        for lines in self.lines.values():
            for line in lines:
                line.close()
        for node in self._slots:
            if node is not None:
                with suppress(FileNotFoundError, AssertionError):
                    node.kill_all()

    def _new_node(self, source: Node | None) -> Node:
        self._made += 1
        folder = self._folder / str(self._made)
        folder.mkdir()
        # Not durable: what a killed process has written is in the kernel's cache.
        node = Node(folder, copy_of=source, ahead=self._clocks.draw() if self._clocks else 0.0)
        node.override(_SETTINGS)
        return node

    # -- faults

    def crash_primary(self) -> None:
        """Kill the primary and start it again."""
        self.primary.kill_all()
        self.primary.start()

    def promote(self, *, relaxed: bool) -> Node:
        """Make the standby the primary; return the old one, which may still run.

        :param relaxed: until it has a standby, the new primary waits for none.
        """
        old, new = self.primary, self.standby
        if relaxed:
            new.override("synchronous_standby_names = ''\n")
            new.reload()
        new.promote()
        self.primary = new
        return old

    def replace(self, old: Node) -> None:
        """Throw the old primary away, if it is still there, and make a standby in its place."""
        with suppress(FileNotFoundError):
            old.kill_all()
        self._slots[self._slots.index(old)] = None
        shutil.rmtree(old.socket, ignore_errors=True)
        self.renew_standby()

    def renew_standby(self) -> None:
        """Make a standby from the primary; return when the primary waits for it and it has everything."""
        node = self._new_node(self.primary)
        node.start()
        slot = self._slots.index(None)
        self._slots[slot] = node
        for lines in self.lines.values():
            lines[slot].lead_to(node.socket)
        self.primary.override("synchronous_standby_names = '*'\n")
        self.primary.reload()
        until(lambda: self._names() == ["*"], SYNCHRONOUS_WITHIN, "the primary waits for its standby")
        [[end]] = self.primary.ask("SELECT pg_current_wal_flush_lsn()::text")
        until(
            lambda: self.primary.ask(_STANDBY, end) == [(True,)],
            SYNCHRONOUS_WITHIN,
            lambda: f"the standby has everything: {self.primary.ask('SELECT * FROM pg_stat_replication')}",
        )

    def _names(self) -> list[object]:
        return [name for (name,) in self.primary.ask("SELECT current_setting('synchronous_standby_names')")]

    def cancel_waits(self) -> int:
        """Cancel what waits for the standby, as an operator may; return how many."""
        return len(
            self.primary.ask(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
        )

    def terminate_backends(self) -> int:
        """End all sessions of the daemons; return how many."""
        return len(
            self.primary.ask(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )

    def backends(self) -> list[int]:
        """Return the process ids of the daemons' sessions."""
        return [
            int(str(pid))
            for (pid,) in self.primary.ask(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid"
            )
        ]

    def await_waiting(self, seconds: float) -> None:
        """Wait until a session waits for the standby, or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.primary.ask(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        ):
            time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
