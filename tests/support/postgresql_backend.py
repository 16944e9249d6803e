"""The PostgreSQL store as a backend of the contract's tests, on a real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from support.postgresql_server import PostgreSQLServer
from support.store_backends import Backend, SettableClock
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred

from oneshotd.errors import StoreUnavailable
from oneshotd.store.clock import Clock
from oneshotd.store.interface import IStore
from oneshotd.store.postgresql.link import MAX_GAP, present
from oneshotd.store.postgresql.presence import SILENT_AFTER
from oneshotd.store.postgresql.schema import Schema
from oneshotd.store.postgresql.store import PostgreSQLStore

T = TypeVar("T")

#: The time of the tests' database, as the store asks for it.
NOW = "(SELECT ms FROM clock.now)"


class DatabaseClock(SettableClock):
    """The clock of a database, moved by hand.

    The database has no steady clock. Time that passes is what a daemon's heartbeats write every few
    seconds; a step of the wall clock is what they know nothing of.
    """

    #: Whether a step of the wall clock counts as an outage; else as heartbeats just before and after it.
    counts_steps = True

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection = psycopg.connect(address, autocommit=True)
        self._wall = 1_700_000_000.0
        self._monotonic = 5000.0
        self.clock = Clock(wall=lambda: self._wall, monotonic=lambda: self._monotonic)
        self._connection.execute("CREATE SCHEMA clock")
        self._connection.execute("CREATE TABLE clock.now (ms bigint NOT NULL)")
        self._connection.execute("INSERT INTO clock.now VALUES (%s)", (self._ms(),))

    def _ms(self) -> int:
        return int(self._wall * 1000)

    def _set(self, passed: float) -> None:
        """Set the time, and write the up-time as the heartbeats of that time would have done."""
        with self._connection.transaction():
            exists = self._connection.execute("SELECT to_regclass('state') IS NOT NULL").fetchone()
            if (passed > 0 or not self.counts_steps) and exists == (True,):
                self._connection.execute(
                    f"UPDATE state SET up = p.up + %s, touched = %s FROM ({present(NOW)}) p".encode(),
                    (max(0, int(passed * 1000)), self._ms()),
                )
            self._connection.execute("UPDATE clock.now SET ms = %s", (self._ms(),))

    @property
    def wall(self) -> float:
        return self._wall

    @wall.setter
    def wall(self, value: float) -> None:
        self._wall = value
        self._set(0)

    @property
    def monotonic(self) -> float:
        return self._monotonic

    @monotonic.setter
    def monotonic(self, value: float) -> None:
        passed, self._monotonic = value - self._monotonic, value
        self._set(passed)

    def advance(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds
        self._set(seconds)

    def reconnect(self) -> None:
        """Connect again, after the server was restarted."""
        self._connection.close()
        self._connection = psycopg.connect(self._address, autocommit=True)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PostgreSQLBackend(Backend):
    """A database, emptied for each test."""

    #: Ms from the time of one commit to that of the next, while the clock stands still.
    commit_step = 1
    #: Greatest up-time (seconds) that an outage of any length, or a step of the clock, counts as.
    outage_counts = MAX_GAP / 1000

    def __init__(self, server: PostgreSQLServer, database: str) -> None:
        super().__init__()
        self.server, self.database = server, database
        self.address = server.address(database)
        server.execute(
            "DROP SCHEMA IF EXISTS clock CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public", database
        )
        self.time: DatabaseClock = DatabaseClock(self.address)
        self.pump = ThreadPump()

    def get(self, deferred: Deferred[T]) -> T:
        return self.pump.get(deferred)

    def pause(self) -> None:
        """Wait a little before a request is repeated; the number of attempts is the bound."""
        time.sleep(0.3)

    def again(self, ask: Callable[[], Deferred[T]], attempts: int = 60) -> T:
        """Ask the store until there is an answer."""
        for _ in range(attempts):
            try:
                return self.get(ask())
            except StoreUnavailable:
                self.pause()
        raise AssertionError(f"no answer in {attempts} attempts")

    def _open(self) -> IStore:
        return self.another("ann")

    def another(self, name: str | None, schema: Schema | None = None) -> PostgreSQLStore:
        """Open a further store on the database, as another daemon does; the test closes it."""
        return PostgreSQLStore(
            self.address,
            self.pump,
            limits=self.limits,
            name=name,
            now=NOW,
            pause=lambda seconds: None,
            schema=schema,
        )

    def opened_besides(self, store: IStore) -> None:
        """Close this store, too, at the end; `store` stays the one that it was."""
        self._opened.insert(0, store)

    def _die(self) -> None:
        """End the old store, which writes nothing by that: all that it answered is in the database.

        The time in which it becomes silent passes for its heartbeats alone.
        """
        self.kill(self._opened[-1])
        silence = f"UPDATE daemon SET up = up - {int(SILENT_AFTER * 1000)} WHERE name = 'ann'"
        self.server.execute(silence, self.database)

    def kill(self, store: IStore) -> None:
        """End the threads of a store, as a kill does; its connections end with them."""
        assert isinstance(store, PostgreSQLStore)
        for lane in (store._appends, store._others):
            self.get(lane.close())

    def finish(self) -> None:
        super().finish()
        self.time.close()
