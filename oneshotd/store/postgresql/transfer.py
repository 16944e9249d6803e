"""Copy a PostgreSQL store: `IExport` and `IImport`, by COPY in binary form.

A daemon writes every few seconds when the store was last touched; a store that was touched within
`TOUCHED_WITHIN` seconds is refused. Then the transaction locks the end of the log and all tables, so that
whatever a daemon still has under way waits for its end; the new epoch of each daemon makes an append that
waited change nothing.

Rows of daemons, and leases, are not copied. An event that a delivery has in flight is pending again, and
one that a settled delivery has got is not owed any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from zope.interface import implementer

from oneshotd.errors import OutcomeUnknown, StoreInUse, StoreRefused, StoreUnavailable
from oneshotd.store.postgresql.connecting import library, reason_of
from oneshotd.store.postgresql.link import DELETING, END_OF_LOG, NOW, CommitUnknown, Link
from oneshotd.store.postgresql.schema import prepare, shipped
from oneshotd.store.postgresql.transfer_tables import COLUMNS, LACKS, Table, from_row, to_row
from oneshotd.store.transfer import IExport, IImport
from oneshotd.store.transfer_records import (
    LossRecord,
    OwedRecord,
    Record,
    ScraperRecord,
    SegmentRecord,
    StateRecord,
)

#: Seconds within which a store was touched if a daemon works on it.
TOUCHED_WITHIN = 10

_TABLES = "state, daemon, segment, scraper, owed, shown, key, detail, keyed_state, loss"
_FIRST = (
    # A table may take longer than any statement of a daemon, and one side may wait for the other.
    ("SET LOCAL statement_timeout = 0", None),
    ("SET LOCAL idle_in_transaction_session_timeout = 0", None),
)
_LOCK = (
    (f"SELECT pg_advisory_xact_lock{DELETING}", None),
    (f"SELECT pg_advisory_xact_lock{END_OF_LOG}", None),
    (f"LOCK TABLE {_TABLES} IN SHARE ROW EXCLUSIVE MODE", None),
)
_EXISTS = "SELECT to_regclass('state') IS NOT NULL"
# The time that was written last, as in `link.present`. A store without daemons is a copy.
_TOUCHED = """
SELECT abs({now} - CASE WHEN l.up > st.up THEN l.touched ELSE st.touched END)
FROM state st LEFT JOIN LATERAL (SELECT up, touched FROM segment ORDER BY first DESC LIMIT 1) l ON true
WHERE EXISTS (SELECT FROM daemon)"""
_SHUT_OUT = "UPDATE daemon SET epoch = epoch + 1"
_USED = """
SELECT EXISTS (SELECT FROM state WHERE pruned <> 0) OR EXISTS (SELECT FROM segment)
  OR EXISTS (SELECT FROM scraper) OR EXISTS (SELECT FROM key) OR EXISTS (SELECT FROM loss)
  OR EXISTS (SELECT FROM detail) OR EXISTS (SELECT FROM keyed_state)"""
_COUNT_OWED = "UPDATE scraper s SET owed = (SELECT count(*) FROM owed WHERE scraper = s.id)"


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except CommitUnknown as error:
        raise OutcomeUnknown(str(error)) from error
    except library().OperationalError as error:
        raise StoreUnavailable(f"PostgreSQL: {reason_of(error)}") from error
    except library().Error as error:
        raise StoreRefused(f"PostgreSQL: {reason_of(error)}") from error


class _Database:
    """A connection with a transaction that has locked all tables, and the reading of them.

    :param now: SQL expression of the time, Unix ms; tests set their own.
    """

    lacks = LACKS

    def __init__(self, address: str, now: str) -> None:
        with _reported():
            self._link = Link(address, now)
        try:
            with _reported():
                self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        raise NotImplementedError

    def _lock(self) -> None:
        """Begin a transaction, and lock everything; `_check` is called before and after that.

        :raises StoreInUse: a daemon works on the store.
        """
        link = self._link
        link.script([("BEGIN ISOLATION LEVEL READ COMMITTED", None), *_FIRST])
        self._check()
        errors = library().errors
        try:
            link.script(_LOCK)
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            raise StoreInUse("a daemon works on this database: its tables are locked") from error
        self._check()

    def _check_layout(self) -> None:
        """Refuse a newer layout, even one that this version may work on: its new columns would be lost."""
        [layout] = self._link.one("SELECT layout FROM state WHERE id = 1")
        known = shipped().layout
        if layout > known:
            raise StoreRefused(
                f"the database has layout {layout}, this oneshotctl knows {known}: use the newer one"
            )

    def _check(self) -> None:
        touched = self._link.one(_TOUCHED.format(now=self._link.now))
        if touched is not None and touched[0] < TOUCHED_WITHIN * 1000:
            raise StoreInUse(
                f"a daemon works on this database, or did so {touched[0] / 1000:.0f} s ago: stop all daemons,"
                f" and wait {TOUCHED_WITHIN} s"
            )

    def read(self, table: type[Record]) -> Iterator[Record]:
        about = COLUMNS[table]
        copy = f"COPY ({self._query(about)}) TO STDOUT (FORMAT binary)"
        with (
            _reported(),
            self._link.connection.cursor() as cursor,
            cursor.copy(copy.encode()) as rows,
        ):
            rows.set_types(list(about.columns.values()))
            yield from map(from_row(table), rows.rows())

    def _query(self, about: Table) -> str:
        return about.query()

    def close(self) -> None:
        self._link.close()


@implementer(IExport)
class PostgreSQLExport(_Database):
    """A database that is read; see `IExport`.

    :raises StoreInUse: a daemon works on it.
    :raises StoreRefused: it has no store, or a newer one.
    :raises StoreUnavailable: there is no connection.
    """

    def __init__(self, address: str, now: str = NOW) -> None:
        super().__init__(address, now)

    def _begin(self) -> None:
        if not self._link.one(_EXISTS)[0]:
            raise StoreRefused("there is no store in this database")
        prepare(self._link)
        self._check_layout()
        self._lock()

    def _query(self, about: Table) -> str:
        if about.name != "state":
            return about.query()
        columns = ", ".join("p.up" if column == "up" else f"st.{column}" for column in about.columns)
        return f"SELECT {columns} FROM state st, ({self._link.present}) p"

    def sizes(self) -> Mapping[type[Record], int]:
        with _reported():
            return {
                table: self._link.one(
                    "SELECT coalesce(sum(count), 0)::bigint FROM segment"
                    if table is SegmentRecord
                    else f"SELECT count(*) FROM {about.source or about.name}"
                )[0]
                for table, about in COLUMNS.items()
            }

    def end(self) -> None:
        link = self._link
        with _reported(), link.committing():
            link.script([(_SHUT_OUT, None), ("COMMIT", None)])


@implementer(IImport)
class PostgreSQLImport(_Database):
    """A database that is filled; the tables are created if there are none. See `IImport`.

    :raises StoreInUse: a daemon works on it.
    :raises StoreRefused: it is not empty, or has a newer layout.
    :raises StoreUnavailable: there is no connection.
    """

    def __init__(self, address: str, now: str = NOW) -> None:
        self._numbers: dict[str, int] = {}
        super().__init__(address, now)

    def _begin(self) -> None:
        prepare(self._link)
        self._check_layout()
        self._lock()

    def _check(self) -> None:
        if self._link.one(_USED)[0]:
            raise StoreRefused("the database is not empty")
        super()._check()

    def write(self, table: type[Record], records: Iterable[Record]) -> None:
        rows = map(to_row(table), records)
        with _reported():
            if table is StateRecord:
                self._write_state(*rows)
            elif table is ScraperRecord:
                self._write_scrapers(rows)
            elif table is SegmentRecord:
                now = self._link.one(f"SELECT {self._link.now}")[0]
                more = {"latest_at": "int8", "touched": "int8", "daemon": "int4", "batch": "int8"}
                # No daemon has the number 0, so none takes these for its own.
                self._copy(table, ((*row, latest, now, 0, 0) for *row, latest in rows), more)
            elif "scraper" in COLUMNS[table].columns and table is not LossRecord:
                self._copy(table, ((self._numbers[name], *row) for name, *row in rows), {"scraper": "int8"})
                if table is OwedRecord:
                    self._link.execute(_COUNT_OWED)
            else:
                self._copy(table, rows)

    def _write_state(self, row: Sequence[Any]) -> None:
        columns = COLUMNS[StateRecord].columns
        update = ", ".join(f"{column} = %s" for column in columns)
        self._link.execute(f"UPDATE state SET {update}, touched = {self._link.now}", row)

    def _write_scrapers(self, rows: Iterable[Sequence[Any]]) -> None:
        columns = COLUMNS[ScraperRecord].columns
        marks = ", ".join(["%s"] * len(columns))
        insert = f"INSERT INTO scraper ({', '.join(columns)}) VALUES ({marks}) RETURNING id"
        for row in rows:
            [self._numbers[row[0]]] = self._link.one(insert, row)

    def _copy(
        self, table: type[Record], rows: Iterable[Sequence[Any]], more: Mapping[str, str] | None = None
    ) -> None:
        """Write rows; `more` has types of columns that differ from those of the table, or are behind them."""
        about = COLUMNS[table]
        types = {**about.columns, **(more or {})}
        copy = f"COPY {about.name} ({', '.join(types)}) FROM STDIN (FORMAT binary)"
        with self._link.connection.cursor() as cursor, cursor.copy(copy.encode()) as into:
            into.set_types(list(types.values()))
            for row in rows:
                into.write_row(row)

    def commit(self) -> None:
        with _reported(), self._link.committing():
            self._link.script([("COMMIT", None)])
