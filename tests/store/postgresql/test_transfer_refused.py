"""A move that is refused or fails leaves the target empty, and daemons are not disturbed by it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from support.postgresql_backend import NOW, PostgreSQLBackend
from support.sqlite_backend import SQLiteBackend
from support.transfers import contents, fill, moved, path_of

from oneshotd.errors import StoreInUse, StoreRefused, StoreUnavailable
from oneshotd.store.postgresql.transfer import PostgreSQLExport, PostgreSQLImport
from oneshotd.store.sqlite.transfer import SQLiteExport
from oneshotd.store.transfer import copy
from oneshotd.store.transfer_records import KeyRecord, Record, SegmentRecord


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
    assert backend.stats().events == 0
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
    [
        *("INSERT INTO loss VALUES ('p', 'away', 1, 1)", "INSERT INTO keyed_state VALUES ('s', 1, 1)"),
        *("INSERT INTO detail VALUES (1, '{}')", "UPDATE state SET pruned = 5", "an event", "a scraper"),
    ],
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
        with pytest.raises(StoreRefused, match=r"this oneshotctl knows \d+: use the newer one"):
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
        for name in ("segment", "scraper", "owed", "shown", "key", "detail", "keyed_state", "loss"):
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
