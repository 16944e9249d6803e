"""Open, recognise and upgrade the SQLite file, or refuse it with the reason.

There is one connection, which locks the file before it turns WAL on: a second daemon is refused, and the
WAL-reset bug of SQLite 3.7.0-3.51.2 (it needs two connections) cannot occur.
"""

from __future__ import annotations

import os
import re
import sqlite3
from array import array
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from sys import byteorder

from twisted.logger import Logger

from oneshotd.errors import StoreInUse, StoreRefused
from oneshotd.store.soundness import fault_in, fault_in_detail

#: "1sht", at offset 68 of the file: identifies a store of oneshotd.
APPLICATION_ID = 0x31736874

#: The newest layout, which is the number of scripts in `schema/`.
SCHEMA_VERSION = 2

#: Errors after which a store of oneshotd is moved aside and a new one created.
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

#: Greatest length of SQLite's error texts in log and answers.
MAX_REASON = 200

_log = Logger()

Connect = Callable[[str], sqlite3.Connection]


def plain_connect(path: str) -> sqlite3.Connection:
    """Open a connection for one thread at a time, without implicit transactions."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)


def open_database(path: str, connect: Connect = plain_connect, thorough: bool = False) -> sqlite3.Connection:
    """Open the file, or create it.

    :param thorough: check every page, because something in the file could not be read.
    :raises StoreRefused: it is no store of oneshotd, of a newer version, in use, or cannot be opened.
    """
    try:
        return _open(path, connect, thorough)
    except sqlite3.DatabaseError as error:
        if not (is_corrupt(error) and _is_ours(path)):
            raise _refusal(path, error) from error
        try:
            aside = _move_aside(path)
        except OSError as trouble:
            raise StoreRefused(
                f"the store {path} is corrupt ({error}) and cannot be moved aside: {trouble.strerror}"
            ) from error
        _log.critical(
            "the store {path} is corrupt ({error}); it was moved to {aside} and a new one is begun:"
            " events that were held and not yet delivered are only in there",
            path=path,
            error=reason_of(error),
            aside=aside,
        )
    except OSError as error:
        raise StoreRefused(f"cannot open the store {path}: {error.strerror or error}") from error
    try:
        return _open(path, connect, thorough=False)
    except sqlite3.DatabaseError as error:
        raise _refusal(path, error) from error
    except OSError as error:
        raise StoreRefused(f"cannot open the store {path}: {error.strerror or error}") from error


def open_existing(path: str, connect: Connect = plain_connect) -> sqlite3.Connection:
    """Open a file that exists, after a look at every page; a corrupt one is left where it is.

    :raises StoreRefused: there is no store, or it cannot be used.
    """
    try:
        if os.path.getsize(path) == 0:
            raise StoreRefused(f"the file {path} is empty")
        return _open(path, connect, thorough=True)
    except sqlite3.DatabaseError as error:
        if is_corrupt(error) and _is_ours(path):
            raise StoreRefused(f"the store {path} is corrupt: {reason_of(error)}") from error
        raise _refusal(path, error) from error
    except OSError as error:
        raise StoreRefused(f"cannot open the store {path}: {error.strerror or error}") from error


def _open(path: str, connect: Connect, thorough: bool) -> sqlite3.Connection:
    fresh = not os.path.exists(path) or os.path.getsize(path) == 0
    if fresh:
        # Events may contain private data.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o640))
    connection = connect(path)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        if fresh:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        elif not (_has_our_id(connection) or _is_empty(connection)):
            raise StoreRefused(f"the file {path} is a SQLite database, but not one of oneshotd: left alone")
        _check_version(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _upgrade(connection)
        _check_schema(connection)
        if thorough:
            _look_at_every_page(connection)
        # Touches every table's root, the newest of the log, and takes the lock for good.
        connection.execute("BEGIN IMMEDIATE")
        for table in _tables(connection):
            connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()
        connection.execute("SELECT * FROM segment ORDER BY first DESC LIMIT 1").fetchone()
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [name for (name,) in rows]


def _has_our_id(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether it has no tables: a daemon was killed after it had created the file."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and connection.execute("PRAGMA application_id").fetchone()[0] == 0


def _look_at_every_page(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise corrupt(found)
    # SQLite has no checksums. Damaged text shows if it is no UTF-8 any more, or if a line end is gone.
    for table in _tables(connection):
        for _ in connection.execute(f"SELECT * FROM {table}"):
            pass
    # In bytes: the length of a text ends at its first NUL, which an event may have.
    lines = "1 + length(CAST({0} AS BLOB)) - length(CAST(replace({0}, char(10), '') AS BLOB))"
    odd = f"{lines.format('series')} <> count OR {lines.format('value')} <> count OR length(ats) <> 8 * count"
    if connection.execute(f"SELECT 1 FROM segment WHERE {odd}").fetchone():
        raise corrupt("the columns of a segment differ in length")
    rows = connection.execute("SELECT first, series, clock_at, ats FROM segment")
    for first, series, clock_at, packed in rows:
        ats = array("q", packed or b"")
        if byteorder == "big":
            ats.byteswap()
        if fault := fault_in(series, [clock_at, *ats]):
            raise corrupt(f"segment {first} {fault}")
    for series, at in connection.execute("SELECT series, at FROM owed"):
        if fault := fault_in(series, (at,)):
            raise corrupt(f"what a scraper is owed {fault}")
    for seq, detail in connection.execute("SELECT seq, detail FROM detail"):
        if fault := fault_in_detail(detail):
            raise corrupt(f"the detail of event {seq} {fault}")
    odd = "typeof(value) <> 'integer' OR typeof(until_up) <> 'integer'"
    if connection.execute(f"SELECT 1 FROM keyed_state WHERE {odd}").fetchone():
        raise corrupt("a keyed state is nonsense")
    if fault := fault_in("", [at for (at,) in connection.execute("SELECT seen_at FROM scraper")]):
        raise corrupt(f"the table of scrapers {fault}")


def _check_version(connection: sqlite3.Connection, path: str) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"the store {path} has layout {version}, this oneshotd knows {SCHEMA_VERSION}:"
            " it was written by a newer version"
        )


def _upgrade(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number in range(version + 1, SCHEMA_VERSION + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _script(number):
                connection.execute(statement)
            if number == 1:
                connection.execute("INSERT INTO state VALUES (1, 0, 0, 0, 0, 0)")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    if version < SCHEMA_VERSION:
        # The application id has to be in the file itself, not only in its WAL.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _check_schema(connection: sqlite3.Connection) -> None:
    """Compare the schema: SQLite accepts a damaged one, in which a flipped bit hides a column."""
    if not _wanted_schema(SCHEMA_VERSION) <= _schema(connection):
        raise corrupt("its schema is another")


@cache
def _wanted_schema(version: int) -> set[tuple[str, ...]]:
    """Return the schema of the package at the first opening; an upgrade may replace the package since."""
    with closing(sqlite3.connect(":memory:")) as model:
        for number in range(1, version + 1):
            for statement in _script(number):
                model.execute(statement)
        return _schema(model)


def _schema(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Return tables and indexes without comments, whose wording may differ between versions."""
    rows = connection.execute("SELECT name, tbl_name, ifnull(sql, '') FROM sqlite_master").fetchall()
    return {(name, table, *re.sub(r"--.*", "", sql).split()) for name, table, sql in rows}


def _script(number: int) -> list[str]:
    """Return the statements that make this layout from the one before; `executescript` commits first."""
    script = (files("oneshotd.store.sqlite") / "schema" / f"{number}.sql").read_text("utf-8")
    statements, start = [], 0
    for end, char in enumerate(script, 1):
        if char == ";" and sqlite3.complete_statement(script[start:end]):
            statements.append(script[start:end])
            start = end
    return statements


def primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code of an error; 0 if Python's module raised it."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_corrupt(error: sqlite3.Error) -> bool:
    """Return whether the error says that the file is damaged."""
    return primary_code(error) in _CORRUPT or str(error).startswith("Could not decode to UTF-8")


def reason_of(error: sqlite3.Error) -> str:
    """Return its text in one bounded line; SQLite quotes text that is no UTF-8 in full."""
    return str(error)[:MAX_REASON].replace("\n", " ")


def corrupt(text: str) -> sqlite3.DatabaseError:
    """Return an error for damage that SQLite itself does not notice."""
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _refusal(path: str, error: sqlite3.Error) -> StoreRefused:
    if primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreInUse(f"the store {path} is in use by another process")
    if primary_code(error) == sqlite3.SQLITE_NOTADB:
        return StoreRefused(f"the file {path} is not a database of oneshotd: left alone")
    return StoreRefused(f"cannot open the store {path}: {error}")


def _is_ours(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            header = file.read(72)
    except OSError:
        return False
    return header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def _move_aside(path: str) -> str:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    aside = f"{path}.corrupt-{stamp}"
    number = 0
    while os.path.exists(aside):
        number += 1
        aside = f"{path}.corrupt-{stamp}-{number}"
    os.rename(path, aside)
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.rename(path + suffix, aside + suffix)
    return aside
