"""A newer oneshotd takes an older store over, in one step or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.sqlite_backend import SQLiteBackend
from support.store_log import held_events
from support.thread_pump import ThreadPump

from oneshotd.core.events import End, Group, NewEvent, Start
from oneshotd.core.identity import Visit
from oneshotd.errors import StoreRefused
from oneshotd.store.interface import Stored
from oneshotd.store.sqlite import connection as database
from oneshotd.store.sqlite.connection import SCHEMA_VERSION, open_database
from oneshotd.store.sqlite.store import SQLiteStore

#: Scripts of layouts to come.
NEXT, AFTER_NEXT = f"{SCHEMA_VERSION + 1}.sql", f"{SCHEMA_VERSION + 2}.sql"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "oneshotd.sqlite"


@pytest.fixture
def filled(tmp_path: Path, path: Path) -> Path:
    """A store closed in good order."""
    backend = SQLiteBackend(tmp_path)
    backend.append(*["m"] * 1000)
    backend.finish()
    return path


@pytest.fixture
def schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for two further layouts; the first ones are ours."""
    schema = tmp_path / "package" / "schema"
    schema.mkdir(parents=True)
    for script in (Path(database.__file__).parent / "schema").iterdir():
        (schema / script.name).write_text(script.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(database, "files", lambda package: schema.parent)
    monkeypatch.setattr(database, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    return schema


def test_each_step_is_taken_once_and_the_data_stay(filled: Path, schema: Path) -> None:
    (schema / NEXT).write_text("ALTER TABLE state ADD COLUMN b; -- a; comment\nUPDATE state SET b = 1;")
    (schema / AFTER_NEXT).write_text("UPDATE state SET b = b + 1;")
    for _ in range(2):
        with closing(open_database(str(filled))) as connection:
            assert connection.execute("SELECT b FROM state").fetchone()[0] == 2
            assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION + 2
            assert connection.execute("SELECT sum(count) FROM segment").fetchone()[0] == 1000


def test_a_new_store_takes_all_steps(path: Path, schema: Path) -> None:
    (schema / NEXT).write_text("ALTER TABLE state ADD COLUMN b;")
    (schema / AFTER_NEXT).write_text("UPDATE state SET b = 'x;y';")
    with closing(open_database(str(path))) as connection:
        assert connection.execute("SELECT b FROM state").fetchone()[0] == "x;y"


def test_a_step_that_fails_is_undone_and_can_be_taken_again(filled: Path, schema: Path) -> None:
    (schema / NEXT).write_text("ALTER TABLE state ADD COLUMN b;")
    (schema / AFTER_NEXT).write_text("CREATE TABLE c (d); UPDATE nonsense SET b = 1;")
    with pytest.raises(StoreRefused, match="no such table: nonsense"):
        open_database(str(filled))
    with closing(sqlite3.connect(filled)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION + 1
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert "c" not in tables
    (schema / AFTER_NEXT).write_text("UPDATE state SET b = 3;")
    with closing(open_database(str(filled))) as connection:
        assert connection.execute("SELECT b FROM state").fetchone()[0] == 3


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_store_of_an_earlier_layout_is_used_as_if_it_were_new(
    path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade of the package would lose what is pending, or fail with the first event of a new kind."""
    pump = ThreadPump()
    with monkeypatch.context() as older:
        older.setattr(database, "SCHEMA_VERSION", version)
        store = SQLiteStore(str(path), pump)
        pump.get(store.append([Group(events=[NewEvent("old", "1", "k")])]))
        pump.get(store.reserve(Visit(name="p", named=True), 60.0, 10))
        pump.get(store.close())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == version
    store = SQLiteStore(str(path), pump)
    beginning = Group(
        events=[NewEvent("new", None, None, '{"text":"x"}')],
        states=[Start(event=0, key="s", seconds=60.0)],
    )
    end = Group(events=[NewEvent("end")], states=[End(event=0, key="s")])
    assert pump.get(store.append([Group(events=[NewEvent("old", "1", "k")])]))[0] == Stored(
        stored=0, duplicates=1
    )
    pump.get(store.append([beginning]))
    pump.get(store.append([end]))
    reserved = pump.get(store.reserve(Visit(name="p", named=True), 60.0, 10))
    assert list(reserved.pending.series) == ["old", "new", "end"]
    assert reserved.pending.values[0] == "1" and reserved.pending.values[2] is not None
    assert [event.detail for event in pump.get(held_events(store))] == ["", '{"text":"x"}', ""]
    pump.get(store.close())
    open_database(str(path), thorough=True).close()
