"""The table of idempotency keys: what is carried on in memory is what a count would say."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from oneshotd.store.planning import Known
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.idempotency import KeyTable

KNOWN = Known(b"digest", 1, 0, 7)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(str(tmp_path / "oneshotd.sqlite"))
    yield connection
    connection.close()


def counted(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM key").fetchone()[0])


def test_keys_are_counted_without_looking_at_each(connection: sqlite3.Connection) -> None:
    """The bound on keys would be missed: too many are kept, or those that are still needed go."""
    keys = KeyTable()
    keys.load(connection)
    assert keys.held() == 0
    keys.remember({f"k{number}": KNOWN for number in range(10)}, 1000)
    assert keys.held() == counted(connection) == 10
    keys.remember({"k8": Known(b"other", 2, 0, 9), "k9": KNOWN, "new": KNOWN}, 5000)  # two had had their time
    assert keys.held() == counted(connection) == 11
    assert keys.find(["k8", "k7"], 5000) == {"k8": Known(b"other", 2, 0, 9)}
    assert keys.forget(1001, 100, 6)  # eight are old, six go
    assert keys.held() == counted(connection) == 5
    assert not keys.forget(1001, 2, 6)  # two old ones, then the oldest of three
    assert keys.held() == counted(connection) == 2


def test_what_was_undone_is_not_counted(connection: sqlite3.Connection) -> None:
    """A disk that was full for a while would leave a wrong count until the next start."""
    keys = KeyTable()
    keys.load(connection)
    keys.remember({"kept": KNOWN}, 1000)
    assert keys.held() == 1
    connection.execute("BEGIN")
    keys.remember({"undone": KNOWN}, 1000)
    connection.execute("ROLLBACK")
    keys.load(connection)
    assert keys.held() == 1
