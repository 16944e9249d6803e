"""The table of details: rows only for events that have some, and none without an event for long."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from support.sqlite_backend import SQLiteBackend

from oneshotd.core.events import Group, NewEvent
from oneshotd.store.sqlite import details, retention
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.transfer import SQLiteExport
from oneshotd.store.transfer_records import DetailRecord

DETAIL = '{"text":"x"}'
#: Thirty events, each with a detail.
DETAILED = Group(events=[NewEvent("a", detail=DETAIL)] * 30)


def rows(folder: Path) -> list[int]:
    """The seqs that have a row; the store is closed."""
    with closing(sqlite3.connect(folder / "oneshotd.sqlite")) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM detail ORDER BY seq")]


def test_events_without_details_have_no_row(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path)
    backend.append(*["a"] * 1000)
    backend.append_groups(Group(events=[NewEvent("a"), NewEvent("b", detail=DETAIL)]))
    backend.finish()
    assert rows(tmp_path) == [1002]


def test_a_row_of_an_event_that_was_never_stored_is_replaced(tmp_path: Path) -> None:
    """A file that was damaged would refuse every further event."""
    with closing(open_database(str(tmp_path / "oneshotd.sqlite"))) as connection:
        details.write(connection, {1: '{"text":"stray"}', 2: '{"text":"other"}'})
    backend = SQLiteBackend(tmp_path)
    backend.append_groups(Group(events=[NewEvent("a", detail=DETAIL)]))
    assert [event.detail for event in backend.events()] == [DETAIL]
    backend.finish()


@pytest.mark.parametrize("full", [False, True], ids=["expired", "log full"])
def test_many_details_are_deleted_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Appends would wait while hundreds of megabytes are deleted."""
    monkeypatch.setattr(retention, "DETAILS_A_TURN", 7)
    backend = SQLiteBackend(tmp_path)
    if full:
        backend.limits = evolve(backend.limits, max_events=5)
    backend.append_groups(DETAILED)
    if not full:
        backend.time.advance(3601)
    backend.append_groups(Group(events=[NewEvent("b", detail=DETAIL)]))
    backend.prune()
    assert [(event.seq, event.detail) for event in backend.events()] == [(31, DETAIL)]
    backend.finish()
    assert rows(tmp_path) == [31]


def test_a_copy_has_no_details_of_deleted_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that was killed in the middle of it leaves some, and the copy would be refused."""
    monkeypatch.setattr(retention, "DETAILS_A_TURN", 7)
    backend = SQLiteBackend(tmp_path)
    backend.limits = evolve(backend.limits, max_events=5)
    backend.append_groups(DETAILED)
    backend.append_groups(Group(events=[NewEvent("b", detail=DETAIL)]))
    backend.finish()
    assert len(rows(tmp_path)) > 1
    with closing(SQLiteExport(str(tmp_path / "oneshotd.sqlite"))) as export:
        assert list(export.read(DetailRecord)) == [DetailRecord(31, DETAIL)]
