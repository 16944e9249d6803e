"""Copy the SQLite store: `IExport` and `IImport` on the tables of the schema.

Both lock the file as a daemon does, so that none runs meanwhile. What a daemon has in memory, and shared
stores keep, is not in the file (`LACKS`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from zope.interface import implementer

from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.segment_columns import unpack
from oneshotd.store.sqlite.connection import Connect, open_database, open_existing, plain_connect, reason_of
from oneshotd.store.transfer import IExport, IImport
from oneshotd.store.transfer_records import (
    DetailRecord,
    KeyedStateRecord,
    KeyRecord,
    LossRecord,
    OwedRecord,
    Record,
    ScraperRecord,
    SegmentRecord,
    ShownRecord,
    StateRecord,
    own_times,
    values_of,
)

#: Fields that a SQLite store does not keep.
LACKS: Mapping[type[Record], frozenset[str]] = {
    StateRecord: frozenset({"corrected_at", "corrected_ms", "corrected_up"}),
    ScraperRecord: frozenset(
        {
            *("timed_up", "shown_end", "delivered", "returned", "revoked", "uncertain", "superseded"),
            "queueing",
        }
    ),
}

#: Table -> its columns in the order of the record's fields. `LEFT_OUT` has the others.
COLUMNS: Mapping[type[Record], tuple[str, str]] = {
    StateRecord: ("state", "pruned, pruned_size, clock_at, now_up"),
    SegmentRecord: ("segment", "first, count, total_size, up, clock_at, series, value, ats"),
    ScraperRecord: (
        "scraper",
        "name, named, timed, answered, cursor, seen_up, seen_at, event_time, floor_at, latest_at",
    ),
    OwedRecord: ("owed", "scraper, seq, at, series, value"),
    ShownRecord: ("shown", "scraper, series, at, up, ahead"),
    KeyRecord: ("key", "key, digest, stored, duplicates, first, up"),
    DetailRecord: ("detail", "seq, detail"),
    KeyedStateRecord: ("keyed_state", "key, value, until_up"),
    LossRecord: ("loss", "scraper, reason, events, up"),
}

#: Columns that are not copied: the target makes its own.
LEFT_OUT = {"state": {"id", "commits"}, "segment": {"latest_at"}, "scraper": {"id"}}

_ORDER: Mapping[type[Record], str] = {
    SegmentRecord: "first",
    ScraperRecord: "name",
    KeyRecord: "key",
    DetailRecord: "seq",
    KeyedStateRecord: "key",
    LossRecord: "scraper, reason",
}
# A daemon deletes the details of deleted events a little later.
_WHERE: Mapping[type[Record], str] = {DetailRecord: " WHERE seq > (SELECT pruned FROM state)"}
# By scraper, so that nothing has to be sorted.
_OF_SCRAPER: Mapping[type[Record], str] = {OwedRecord: "seq", ShownRecord: "series"}

#: Columns that only SQLite has, made by the import.
_MORE: Mapping[type[Record], str] = {SegmentRecord: ", latest_at", ScraperRecord: ", id"}

_USED = (
    "SELECT pruned FROM state WHERE pruned <> 0 UNION ALL SELECT 1 FROM segment UNION ALL"
    " SELECT 1 FROM scraper UNION ALL SELECT 1 FROM key UNION ALL SELECT 1 FROM keyed_state UNION ALL"
    " SELECT 1 FROM loss LIMIT 1"
)


class _File:
    """A store's file: its connection, and the reading of its tables."""

    lacks = LACKS

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._path}: {reason_of(error)}") from error

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    def read(self, table: type[Record]) -> Iterator[Record]:
        with self._reported():
            for row in self._rows(table):
                yield table(*row)

    def _rows(self, table: type[Record]) -> Iterator[Sequence[Any]]:
        name, columns = COLUMNS[table]
        if table in _OF_SCRAPER:
            query = f"SELECT {columns} FROM {name} WHERE scraper = ? ORDER BY {_OF_SCRAPER[table]}"
            scrapers = self._connection.execute("SELECT name, id FROM scraper ORDER BY name").fetchall()
            for scraper, number in scrapers:
                for _, *row in self._connection.execute(query, (number,)):
                    yield (scraper, *row)
            return
        order = f" ORDER BY {_ORDER[table]}" if table in _ORDER else ""
        where = _WHERE.get(table, "")
        for row in self._connection.execute(f"SELECT {columns} FROM {name}{where}{order}"):
            if table is SegmentRecord and row[-1] is not None:
                row = (*row[:-1], own_times(unpack(row[-1]), row[4]))
            yield row

    def close(self) -> None:
        self._connection.close()


@implementer(IExport)
class SQLiteExport(_File):
    """A store's file that is read; see `IExport`.

    :raises StoreInUse: a daemon uses it.
    :raises StoreRefused: it is no store, or corrupt.
    """

    def __init__(self, path: str, connect: Connect = plain_connect) -> None:
        super().__init__(path, open_existing(path, connect))

    def sizes(self) -> Mapping[type[Record], int]:
        with self._reported():
            counts = {
                table: self._number(f"SELECT count(*) FROM {name}") for table, (name, _) in COLUMNS.items()
            }
            return {**counts, SegmentRecord: self._number("SELECT ifnull(sum(count), 0) FROM segment")}

    def _rows(self, table: type[Record]) -> Iterator[Sequence[Any]]:
        rows = super()._rows(table)
        if table is not StateRecord:
            return rows
        # The daemon continues from the later of both, too.
        [(*state, up)] = rows
        return iter([(*state, max(up, self._number("SELECT ifnull(max(up), 0) FROM segment")))])

    def end(self) -> None:
        """Nothing is under way: the file is locked."""


@implementer(IImport)
class SQLiteImport(_File):
    """A store's file that is filled, created if it does not exist; see `IImport`.

    :raises StoreInUse: a daemon uses it.
    :raises StoreRefused: it is no store, or not empty.
    """

    def __init__(self, path: str, connect: Connect = plain_connect) -> None:
        super().__init__(path, open_database(path, connect))
        self._numbers: dict[str, int] = {}
        try:
            with self._reported():
                if self._connection.execute(_USED).fetchone() is not None:
                    raise StoreRefused(f"the store {path} is not empty")
                self._connection.execute("BEGIN IMMEDIATE")
        except BaseException:
            self.close()
            raise

    def write(self, table: type[Record], records: Iterable[Record]) -> None:
        name, columns = COLUMNS[table]
        width = columns.count(",") + 1
        rows: Iterator[Sequence[Any]] = (row[:width] for row in map(values_of(table), records))
        if table is StateRecord:
            update = ", ".join(f"{column} = ?" for column in columns.split(", "))
            query = f"UPDATE {name} SET {update}"
        else:
            more = _MORE.get(table, "")
            marks = ", ".join("?" * (columns + more).count(",")) + ", ?"
            query = f"INSERT INTO {name} ({columns}{more}) VALUES ({marks})"
        if table is SegmentRecord:
            rows = self._with_latest_at(rows)
        elif table is ScraperRecord:
            rows = self._with_number(rows)
        elif table in _OF_SCRAPER:
            rows = ((self._numbers[scraper], *row) for scraper, *row in rows)
        with self._reported():
            self._connection.executemany(query, rows)

    def _with_latest_at(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        latest = 0
        for row in rows:
            latest = max(latest, row[4] if row[-1] is None else max(unpack(row[-1])))
            yield (*row, latest)

    def _with_number(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for number, row in enumerate(rows, 1):
            self._numbers[row[0]] = number
            yield (*row, number)

    def commit(self) -> None:
        with self._reported():
            self._connection.execute("COMMIT")
