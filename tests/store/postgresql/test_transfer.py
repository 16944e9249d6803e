"""Stores are moved between SQLite and PostgreSQL: everything, at its age, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from support.postgresql_backend import NOW, PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer
from support.sqlite_backend import SQLiteBackend
from support.store_backends import Backend, group, keyed
from support.transfers import contents, moved
from zope.interface.verify import verifyClass

from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.errors import StoreInUse, StoreRefused, StoreUnavailable
from oneshotd.store.interface import Settled
from oneshotd.store.postgresql import transfer_tables
from oneshotd.store.postgresql.transfer import PostgreSQLExport, PostgreSQLImport
from oneshotd.store.sqlite import transfer as sqlite_transfer
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.transfer import SQLiteExport, SQLiteImport
from oneshotd.store.transfer import (
    TABLES,
    IExport,
    IImport,
    KeyRecord,
    LossRecord,
    OwedRecord,
    Record,
    ScraperRecord,
    SegmentRecord,
    ShownRecord,
    StateRecord,
    copy,
)

NASTY = ["nul\0nul", "\U0001f600", 'a{x="\\\\\\"\\n"}', "é" * 1000]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SQLiteBackend]:
    """A SQLite store, in another folder than the test's files."""
    (tmp_path / "file").mkdir()
    backend = SQLiteBackend(tmp_path / "file")
    yield backend
    backend.finish()


def path_of(file: SQLiteBackend) -> str:
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
    past = TimestampHistory(event_time=True, floor=1, latest=2, moved={"old": 7, NASTY[0]: 9})
    settled = backend.store.settle(by_time.token, True, by_time.pending.end, [], [], past)
    assert backend.get(settled) is Settled.SETTLED
    backend.release(by_time)
    backend.time.wall -= 100.0  # the clock was ahead, and is corrected
    backend.append("after")
    backend.time.advance(2000)
    backend.take("192.0.2.7 Prometheus", limit=4)
    backend.take("named", limit=1)
    backend.append("last")
    backend.time.advance(600)  # the first events and the first key expire
    backend.prune()
    backend.get(backend.store.close())
    backend._opened.clear()


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


def test_the_last_correction_of_the_clock_stays_in_a_database(
    backend: PostgreSQLBackend, server: PostgreSQLServer
) -> None:
    """The status page would not say any more that the clock was ahead."""
    backend.append("a")
    backend.time.wall -= 7200
    backend.append("b")
    clock = backend.census().clock
    assert clock is not None and clock.seconds > 7000
    backend.get(backend.store.close())
    backend.time.wall += 11
    other = server.address(server.new_database())
    now = str(int(backend.time.wall * 1000))
    moved(lambda: PostgreSQLExport(backend.address, NOW), lambda: PostgreSQLImport(other, now))
    [state] = contents(PostgreSQLExport(other, now))[StateRecord]
    assert isinstance(state, StateRecord)
    assert (state.corrected_at, state.corrected_ms) == (clock.at, int(clock.seconds * 1000))


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


# -- refusals


def test_a_source_that_a_daemon_works_on(backend: PostgreSQLBackend, tmp_path: Path) -> None:
    """The copy would lack what the daemon accepts meanwhile."""
    backend.append("a")
    backend.time.wall += 9.9
    with pytest.raises(StoreInUse, match="or did so 10 s ago: stop all daemons, and wait 10 s"):
        PostgreSQLExport(backend.address, NOW)
    backend.time.wall -= 19.8  # a clock that is set back is no sign that nobody works
    with pytest.raises(StoreInUse):
        PostgreSQLExport(backend.address, NOW)
    backend.time.wall += 19.9
    assert contents(PostgreSQLExport(backend.address, NOW))[SegmentRecord]
    backend.time.advance(3)  # a heartbeat of a daemon
    with pytest.raises(StoreInUse):
        PostgreSQLExport(backend.address, NOW)


def test_a_target_that_a_daemon_works_on(backend: PostgreSQLBackend) -> None:
    """The daemon's events and the copied ones would get the same seqs."""
    assert backend.census().events == 0
    with pytest.raises(StoreInUse):
        PostgreSQLImport(backend.address, NOW)
    backend.get(backend.store.close())
    backend.time.wall += 11
    PostgreSQLImport(backend.address, NOW).close()


def test_tables_that_are_locked(backend: PostgreSQLBackend) -> None:
    """The command would wait for a daemon without end."""
    backend.append("a")
    backend.time.wall += 11
    address = f"{backend.address} options='-c lock_timeout=100'"
    with psycopg.connect(backend.address) as daemon:
        daemon.execute("UPDATE scraper SET cursor = 0")
        with pytest.raises(StoreInUse, match="its tables are locked"):
            PostgreSQLExport(address, NOW)


def test_nobody_writes_during_a_move_and_late_sessions_are_shut_out(
    backend: PostgreSQLBackend, tmp_path: Path
) -> None:
    """An append that was under way would be answered with success, and not be in the copy."""
    backend.append("a")
    backend.time.wall += 11
    with psycopg.connect(backend.address, autocommit=True) as daemon:
        epoch = daemon.execute("SELECT epoch FROM daemon").fetchone()
        assert epoch is not None
        daemon.execute("SET lock_timeout = 100")
        with closing(PostgreSQLExport(backend.address, NOW)) as source:
            for change in ("UPDATE scraper SET cursor = 0", "DELETE FROM segment", "UPDATE state SET up = 0"):
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    daemon.execute(change.encode())
            with pytest.raises(psycopg.errors.LockNotAvailable):
                daemon.execute("SELECT pg_advisory_xact_lock(7, 1)")
            source.end()
        assert daemon.execute("SELECT epoch FROM daemon").fetchone() == (epoch[0] + 1,)


@pytest.mark.parametrize(
    "use",
    ["INSERT INTO loss VALUES ('p', 'away', 1, 1)", "UPDATE state SET pruned = 5", "an event", "a scraper"],
)
def test_a_target_that_was_used(backend: PostgreSQLBackend, use: str) -> None:
    """Seqs would be given twice, or scrapers get what they have."""
    if use == "an event":
        backend.append("a")
    elif use == "a scraper":
        backend.reserve("p")
    else:
        assert backend.store
        with psycopg.connect(backend.address) as connection:
            connection.execute(use.encode())
    backend.get(backend.store.close())
    backend.time.wall += 11
    with pytest.raises(StoreRefused, match="the database is not empty"):
        PostgreSQLImport(backend.address, NOW)


def change(backend: PostgreSQLBackend, statement: str) -> None:
    with psycopg.connect(backend.address, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_a_database_without_a_store(backend: PostgreSQLBackend) -> None:
    """A mistyped name would create tables where none belong, and look like an empty store."""
    with pytest.raises(StoreRefused, match="there is no store in this database"):
        PostgreSQLExport(backend.address)
    change(backend, "CREATE TABLE theirs (x int)")
    for opened in (PostgreSQLExport, PostgreSQLImport):
        with pytest.raises(StoreRefused):
            opened(backend.address)
    with psycopg.connect(backend.address) as connection:
        assert connection.execute("SELECT to_regclass('state')").fetchone() == (None,)


def test_a_newer_layout(backend: PostgreSQLBackend) -> None:
    """What a newer version added would be lost."""
    assert backend.store
    backend.get(backend.store.close())
    change(backend, "UPDATE state SET layout = 99")
    for opened in (PostgreSQLExport, PostgreSQLImport):
        with pytest.raises(StoreRefused, match="it was written by a newer version"):
            opened(backend.address)


def test_a_malformed_address() -> None:
    """The operator would be told to try again later."""
    with pytest.raises(StoreRefused, match="PostgreSQL: "):
        PostgreSQLExport("no=such keyword='")


# -- failures in the middle

Failing = Callable[[str, type[Record]], None]


def fails(backend: PostgreSQLBackend, file: SQLiteBackend, at: Failing, error: type[Exception]) -> str:
    """Move until `at` fails; then the database is as empty as before. Return the reason."""

    def report(what: str, table: type[Record], done: int, total: int) -> None:
        at(what, table)

    with (
        closing(SQLiteExport(path_of(file))) as source,
        closing(PostgreSQLImport(backend.address, NOW)) as target,
        pytest.raises(error) as raised,
    ):
        copy(source, target, report)
    with psycopg.connect(backend.address) as connection:
        for name in ("segment", "scraper", "owed", "shown", "key", "loss"):
            assert connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchone() == (0,)
    return str(raised.value)


@pytest.mark.parametrize(("what", "table"), [("copied", SegmentRecord), ("checked", KeyRecord)])
def test_a_connection_that_is_lost_leaves_the_target_empty(
    backend: PostgreSQLBackend, file: SQLiteBackend, what: str, table: type[Record]
) -> None:
    """A half store would look like a whole one, or the second attempt be refused."""
    fill(file)

    def at(done: str, which: type[Record]) -> None:
        if (done, which) == (what, table):
            change(
                backend,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oneshotd'",
            )

    assert "PostgreSQL: " in fails(backend, file, at, StoreUnavailable)
    moved(lambda: SQLiteExport(path_of(file)), lambda: PostgreSQLImport(backend.address, NOW))


def test_a_target_that_changes_what_is_written(backend: PostgreSQLBackend, file: SQLiteBackend) -> None:
    """The operator would start daemons on a copy that is none."""
    fill(file)
    assert backend.store
    backend.get(backend.store.close())
    backend._opened.clear()
    backend.time.wall += 11
    change(
        backend,
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.first := NEW.first + 1; RETURN NEW; END $$;"
        "CREATE TRIGGER meddle BEFORE INSERT ON key FOR EACH ROW EXECUTE FUNCTION meddle()",
    )
    reason = fails(backend, file, lambda what, table: None, StoreRefused)
    assert re.match(r"the copy is not equal: \d+ rows of idempotency keys were written", reason)
