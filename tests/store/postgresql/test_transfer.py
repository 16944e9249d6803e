"""Stores are moved between SQLite and PostgreSQL: everything, at its age, or nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from support.postgresql_backend import NOW, PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer
from support.sqlite_backend import SQLiteBackend
from support.transfers import contents, fill, moved, path_of
from zope.interface.verify import verifyClass

from oneshotd.store.interface import Settled
from oneshotd.store.postgresql import transfer_tables
from oneshotd.store.postgresql.transfer import PostgreSQLExport, PostgreSQLImport
from oneshotd.store.sqlite import transfer as sqlite_transfer
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.transfer import LACKS, SQLiteExport, SQLiteImport
from oneshotd.store.transfer import IExport, IImport
from oneshotd.store.transfer_records import (
    TABLES,
    KeyRecord,
    LossRecord,
    OwedRecord,
    ScraperRecord,
    SegmentRecord,
    ShownRecord,
    StateRecord,
)


def test_the_back_ends_keep_the_interface() -> None:
    """The command would fail in the middle."""
    verifyClass(IExport, PostgreSQLExport, tentative=True)
    verifyClass(IImport, PostgreSQLImport, tentative=True)


def test_every_column_is_copied_or_left_out_by_name(backend: PostgreSQLBackend, file: SQLiteBackend) -> None:
    """A column that is added later would be lost by a move. Add it to `COLUMNS`, and to the record of its
    table with a default, or to `LEFT_OUT` if it is of no use to another store.
    """
    assert backend.store, "created"
    with psycopg.connect(backend.address) as connection:
        rows = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name <> 'daemon'"
        ).fetchall()
    listed = {(t.name, column) for t in transfer_tables.COLUMNS.values() for column in t.columns}
    left_out = {(name, column) for name, columns in transfer_tables.LEFT_OUT.items() for column in columns}
    assert set(rows) == listed | left_out and not listed & left_out

    with closing(open_database(path_of(file))) as opened:
        tables = [t for (t,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {(t, row[1]) for t in tables for row in opened.execute(f"PRAGMA table_info({t})")}
    listed = {(name, c) for name, columns in sqlite_transfer.COLUMNS.values() for c in columns.split(", ")}
    left_out = {(name, column) for name, columns in sqlite_transfer.LEFT_OUT.items() for column in columns}
    assert found == listed | left_out and not listed & left_out


def test_a_store_goes_to_postgresql_and_back(
    backend: PostgreSQLBackend, file: SQLiteBackend, tmp_path: Path
) -> None:
    """A move would lose, change or age something."""
    fill(file)
    before = contents(SQLiteExport(path_of(file)))
    for table in TABLES:
        assert before[table], f"the test lacks {table}"
    text = repr(before)
    assert "nul\\x00nul" in text and "own\\x00key" in text and "\U0001f600" in text
    assert any(
        segment.ats is not None for segment in before[SegmentRecord] if isinstance(segment, SegmentRecord)
    )
    assert any(shown.ahead for shown in before[ShownRecord] if isinstance(shown, ShownRecord))

    figures = moved(lambda: SQLiteExport(path_of(file)), lambda: PostgreSQLImport(backend.address, NOW))
    back = str(tmp_path / "back")
    again = moved(lambda: PostgreSQLExport(backend.address, NOW), lambda: SQLiteImport(back))
    assert again == figures
    assert contents(SQLiteExport(back)) == before


def test_a_database_goes_to_sqlite_and_back(
    backend: PostgreSQLBackend, server: PostgreSQLServer, tmp_path: Path
) -> None:
    """A move would lose, change or age something."""
    fill(backend)
    backend.time.wall += 11.0
    other = server.address(server.new_database())
    before = contents(PostgreSQLExport(backend.address, NOW))
    now = str(int(backend.time.wall * 1000))
    there = str(tmp_path / "there")
    moved(lambda: PostgreSQLExport(backend.address, NOW), lambda: SQLiteImport(there))
    moved(lambda: SQLiteExport(there), lambda: PostgreSQLImport(other, now))
    after = contents(PostgreSQLExport(other, now))
    [state], [copied] = before[StateRecord], after[StateRecord]
    assert isinstance(state, StateRecord) and isinstance(copied, StateRecord)
    assert (state.pruned, state.pruned_size, state.at, state.up) == (
        *(copied.pruned, copied.pruned_size, copied.at, copied.up),
    )
    assert {**after, StateRecord: ()} == {**before, StateRecord: ()}
    for table in (SegmentRecord, ScraperRecord, OwedRecord, KeyRecord, LossRecord):
        assert before[table], f"the test lacks {table}"


def test_what_only_a_database_keeps_goes_to_another_one(
    backend: PostgreSQLBackend, server: PostgreSQLServer
) -> None:
    """The status page would not say any more that the clock was ahead, and counters would begin at 0."""
    backend.append("a")
    backend.reserve("p")
    backend.time.wall -= 7200
    backend.append("b")
    clock = backend.stats().clock
    assert clock is not None and clock.seconds > 7000
    backend.get(backend.store.close())
    backend.time.wall += 11
    kept = sorted(LACKS[ScraperRecord])
    with psycopg.connect(backend.address, autocommit=True) as connection:
        connection.execute(
            f"UPDATE scraper SET {', '.join(f'{each} = {n}' for n, each in enumerate(kept, 7))}".encode()
        )
    other = server.address(server.new_database())
    now = str(int(backend.time.wall * 1000))
    moved(lambda: PostgreSQLExport(backend.address, NOW), lambda: PostgreSQLImport(other, now))
    after = contents(PostgreSQLExport(other, now))
    [state], [scraper] = after[StateRecord], after[ScraperRecord]
    assert isinstance(state, StateRecord)
    assert (state.corrected_at, state.corrected_ms) == (clock.at, int(clock.seconds * 1000))
    assert [getattr(scraper, each) for each in kept] == [*range(7, 7 + len(kept))]


# -- ages


def test_an_event_keeps_its_age(backend: PostgreSQLBackend, file: SQLiteBackend, tmp_path: Path) -> None:
    """An event would be deleted before its hold is over, or be delivered long after."""
    file.append("old")
    file.time.advance(3000)
    file.append("young")
    file.get(file.store.close())
    backend.time.wall = file.time.wall + 5 * 3600  # the move takes its time; the store does not age by that
    moved(lambda: SQLiteExport(path_of(file)), lambda: PostgreSQLImport(backend.address, NOW))
    assert backend.logged() == ["old", "young"]
    backend.time.advance(590)
    backend.prune()
    assert backend.logged() == ["old", "young"]
    backend.get(backend.store.close())

    backend.time.wall += 7200
    there = tmp_path / "there"
    moved(lambda: PostgreSQLExport(backend.address, NOW), lambda: SQLiteImport(str(there)))
    file._path, file.time.wall = there, backend.time.wall
    file.open_anew()
    file.prune()
    assert file.logged() == ["old", "young"]
    file.time.advance(11)  # an outage counts some seconds in a database
    file.prune()
    assert file.logged() == ["young"]
    file.time.advance(2980)
    file.prune()
    assert file.logged() == ["young"]
    file.time.advance(25)
    file.prune()
    assert file.logged() == []


# -- leases


@pytest.mark.parametrize("end", ["reserved", "delivered", "revoked", "released"])
def test_a_lease_ends_with_the_move(backend: PostgreSQLBackend, tmp_path: Path, end: str) -> None:
    """Reserved events would stay reserved for nobody, or delivered ones be delivered again."""
    backend.append("a", "b", "c")
    first = backend.reserve("p", limit=2)
    backend.settle(first, newly_owed=[1])
    backend.release(first)
    assert backend.status("p").pending == 2
    lease = backend.reserve("p", lease=600.0)
    if end != "reserved":
        assert backend.settle(lease) is Settled.SETTLED
    if end == "revoked":
        backend.revoke(lease)
    elif end == "released":
        backend.release(lease)
    backend.get(backend.store.close())
    backend.time.wall += 11
    there = tmp_path / "there"
    moved(lambda: PostgreSQLExport(backend.address, NOW), lambda: SQLiteImport(str(there)))
    (tmp_path / "x").mkdir()
    file = SQLiteBackend(tmp_path / "x")
    file._path, file.time.wall = there, backend.time.wall
    try:
        expected = [] if end in ("delivered", "released") else ["a", "c"]
        assert file.status("p").pending == len(expected)
        assert file.take("p") == expected
    finally:
        file.finish()
