"""Copies of stores: what is in one, and back ends that are moved to the other kind at each restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from support.calm_postgresql import CalmPostgreSQL
from support.failing_connection import FrailSQLite
from support.postgresql_server import PostgreSQLServer
from support.sqlite_backend import SQLiteBackend
from support.store_backends import Backend, group, keyed

from oneshotd.core.events import Count, Group, NewEvent, Start, detail_text
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.store.interface import IStore, Settled
from oneshotd.store.postgresql.transfer import PostgreSQLExport, PostgreSQLImport
from oneshotd.store.sqlite.transfer import SQLiteExport, SQLiteImport
from oneshotd.store.transfer import IExport, IImport, copy
from oneshotd.store.transfer_records import TABLES, Record

#: What a dialect reports: details, and states of which one has an odd key.
REPORTED = Group(
    events=[
        NewEvent("begun", None, None, detail_text({"text": "nul\0nul, 😀", "link": "https://a.b/"})),
        NewEvent("counted"),
    ],
    states=[
        Start(event=0, key="nul\0nul", seconds=86400.0),
        Count(event=1, key="🔑", count=7, unknown=1, seconds=600.0),
    ],
    keys_decide=True,
)
NASTY = ["nul\0nul", "\U0001f600", 'a{x="\\\\\\"\\n"}', "é" * 1000]

Contents = Mapping[type[Record], list[Record]]


def contents(source: IExport) -> Contents:
    """Return everything in a store, and close it."""
    with closing(source):
        return {table: list(source.read(table)) for table in TABLES}


def moved(source: Callable[[], IExport], target: Callable[[], IImport]) -> Mapping[type[Record], int]:
    """Copy a store into an empty one, and close both; return the figures."""
    with ExitStack() as stack:
        export = stack.enter_context(closing(source()))
        into = stack.enter_context(closing(target()))
        figures = copy(export, into, lambda what, table, done, total: None)
        into.commit()
        export.end()
        return figures


def emptied(server: PostgreSQLServer, database: str) -> str:
    """Drop the tables of a database; return its address."""
    server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database)
    return server.address(database)


class MovedSQLite(FrailSQLite):
    """A SQLite store that is moved to PostgreSQL and back whenever its daemon begins anew."""

    def __init__(self, folder: Path, server: PostgreSQLServer, database: str) -> None:
        super().__init__(folder)
        self._server, self._database = server, database
        self._moves = 0

    def _open(self) -> IStore:
        if self._path.exists():
            self._moves += 1
            address, now = emptied(self._server, self._database), str(int(self.time.wall * 1000))
            back = self._path.with_name(f"back-{self._moves}.sqlite")
            before = contents(SQLiteExport(str(self._path)))
            moved(lambda: SQLiteExport(str(self._path)), lambda: PostgreSQLImport(address, now))
            moved(lambda: PostgreSQLExport(address, now), lambda: SQLiteImport(str(back)))
            assert contents(SQLiteExport(str(back))) == before
            self._path = back
        return super()._open()


class MovedPostgreSQL(CalmPostgreSQL):
    """A PostgreSQL store that is moved to SQLite and back whenever its daemon begins anew.

    The caller sets `TOUCHED_WITHIN` to 0: the time of the tests' database stands still.
    """

    def __init__(self, folder: Path, server: PostgreSQLServer, database: str) -> None:
        super().__init__(server, database)
        self._folder, self._server, self._database = folder, server, database
        self._moves = 0

    def open_anew(self) -> None:
        self._moves += 1
        now = str(int(self.time.wall * 1000))
        file = str(self._folder / f"moved-{self._moves}.sqlite")
        moved(lambda: PostgreSQLExport(self.address, now), lambda: SQLiteImport(file))
        emptied(self._server, self._database)
        moved(lambda: SQLiteExport(file), lambda: PostgreSQLImport(self.address, now))
        super().open_anew()


def path_of(file: SQLiteBackend) -> str:
    """Return the path of the store's file."""
    return str(file._path)


def fill(backend: Backend) -> None:
    """Put something of every kind into a store, and stop its daemon."""
    backend.append("old", ("old", "1"), key="a group")
    backend.time.advance(1200)
    backend.append_groups(keyed(("own\0key", "keyed"), ("\U0001f511", "keyed")), group(*NASTY))
    backend.append(*["burst"] * 50)  # its times run ahead of the clock
    first = backend.reserve("named", limit=5, timed=True)
    backend.settle(first, newly_owed=[4, 5], lost={"label_limit": [3]})
    backend.release(first)
    for _ in range(3):
        backend.take("192.0.2.7 Prometheus", limit=4)
    backend.take("192.0.2.8 curl", limit=1)
    by_time = backend.reserve("by time", limit=3)
    assert by_time.token is not None
    history = TimestampHistory(event_time=True, floor=1, latest=2, moved={"old": 7, NASTY[0]: 9})
    settled = backend.store.settle(by_time.token, True, by_time.pending.end, [], [], history)
    assert backend.get(settled) is Settled.SETTLED
    backend.release(by_time)
    backend.time.wall -= 100.0  # the clock was ahead, and is corrected
    backend.append("after")
    backend.time.advance(2000)
    backend.take("192.0.2.7 Prometheus", limit=4)
    backend.take("named", limit=1)
    backend.append_groups(REPORTED)
    backend.append("last")
    backend.time.advance(600)  # the first events and the first key expire
    backend.prune()
    backend.get(backend.store.close())
    backend._opened.clear()
