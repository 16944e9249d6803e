"""The table of the texts beside events (`NewEvent.detail`). Most events have none, and no row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from oneshotd.store.soundness import fault_in_detail
from oneshotd.store.sqlite.connection import corrupt


def write(connection: sqlite3.Connection, details: Mapping[int, str]) -> None:
    """Write the details of new events, by their seqs."""
    # A row of an event that was never stored would make every further append fail.
    connection.executemany("REPLACE INTO detail VALUES (?, ?)", details.items())


def delete(connection: sqlite3.Connection, horizon: int, most: int) -> bool:
    """Delete the details of events up to this seq; return whether there may be more of them.

    :param most: greatest number of rows deleted in this call.
    """
    gone = connection.execute(
        "DELETE FROM detail WHERE seq IN (SELECT seq FROM detail WHERE seq <= ? ORDER BY seq LIMIT ?)",
        (horizon, most),
    )
    return gone.rowcount == most


def reader(connection: sqlite3.Connection, end: int) -> Callable[[int], str]:
    """Return a function that returns the detail of an event up to this seq.

    It raises `sqlite3.DatabaseError` if the detail is damaged.
    """
    newest = connection.execute("SELECT max(seq) FROM detail WHERE seq <= ?", (end,)).fetchone()[0] or 0

    def detail_of(seq: int) -> str:
        if seq > newest:
            return ""
        row = connection.execute("SELECT detail FROM detail WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            return ""
        if fault := fault_in_detail(row[0]):
            raise corrupt(f"the detail of event {seq} {fault}")
        return str(row[0])

    return detail_of
