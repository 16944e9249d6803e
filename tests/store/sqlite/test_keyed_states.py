"""The table of keyed states, and the count of its rows that is carried on in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from oneshotd.store.planning import State
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.keyed_states import KeyedStateTable


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(str(tmp_path / "oneshotd.sqlite"))
    yield connection
    connection.close()


def counted(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM keyed_state").fetchone()[0])


def test_states_are_counted_without_looking_at_each(connection: sqlite3.Connection) -> None:
    """The bound on states would be missed: too many are kept, or those that are still needed go."""
    states = KeyedStateTable()
    states.load(connection)
    assert states.held() == 0
    states.write({f"s{number}": State(number, 5.0 + number) for number in range(10)}, 1000)
    assert states.held() == counted(connection) == 10
    states.write({"s0": State(7, 50.0), "s1": None, "none": None, "new": State(8, 50.0)}, 2000)
    assert states.held() == counted(connection) == 10
    assert states.find(["s0", "s1", "s2", "new"], 3000) == {"s0": 7, "s2": 2, "new": 8}
    assert states.find(["s2"], 8000) == {"s2": 2} and states.find(["s2"], 8001) == {}
    assert states.forget(12_000, 100, 3)  # s2 to s5 have expired, three go
    assert states.held() == counted(connection) == 7
    assert not states.forget(12_000, 2, 5)  # the fourth, then those of the rest that expire first
    assert states.held() == counted(connection) == 2
    assert states.find(["s0", "new"], 12_000) == {"s0": 7, "new": 8}


def test_what_was_undone_is_not_counted(connection: sqlite3.Connection) -> None:
    """A disk that was full for a while would leave a wrong count until the next start."""
    states = KeyedStateTable()
    states.load(connection)
    states.write({"kept": State(1, 60.0)}, 1000)
    assert states.held() == 1
    connection.execute("BEGIN")
    states.write({"undone": State(1, 60.0), "kept": None}, 1000)
    connection.execute("ROLLBACK")
    states.load(connection)
    assert states.held() == counted(connection) == 1


def test_a_value_that_is_no_number_is_damage(connection: sqlite3.Connection) -> None:
    """Arithmetic with it would fail in the store's thread."""
    states = KeyedStateTable()
    states.load(connection)
    connection.execute("INSERT INTO keyed_state VALUES ('s', 'x', 5000)")
    with pytest.raises(sqlite3.DatabaseError, match="a keyed state is nonsense"):
        states.find(["s"], 1000)
