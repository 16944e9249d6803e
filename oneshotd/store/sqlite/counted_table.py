"""A table with a bounded number of rows, of which the oldest are deleted."""

from __future__ import annotations

import sqlite3
from typing import ClassVar


class CountedTable:
    """A table with a column `key`; changes are part of the caller's transaction.

    The rows are counted once after a start or a rollback, and each change adjusts the count: counting a
    million takes SQLite some 20 ms.

    :cvar name: of the table.
    :cvar age: its column of up-time (ms) by which rows expire.
    """

    name: ClassVar[str]
    age: ClassVar[str]

    def __init__(self) -> None:
        self._held: int | None = None

    def load(self, connection: sqlite3.Connection) -> None:
        """Use this connection, and count the rows again: a rollback may have changed their number."""
        self._connection = connection
        self._held = None

    def held(self) -> int:
        """Return the number of rows."""
        if self._held is None:
            self._held = int(self._connection.execute(f"SELECT count(*) FROM {self.name}").fetchone()[0])
        return self._held

    def forget(self, before_up: int, keep: int, most: int) -> bool:
        """Delete expired rows, and the oldest of those beyond the limit.

        :param before_up: up-time (ms) before which rows are expired.
        :param keep: greatest number of rows.
        :param most: greatest number of rows deleted in this call, of each kind.
        :returns: whether there is more to delete.
        """
        old = self._drop(f"SELECT key FROM {self.name} WHERE {self.age} < ? LIMIT ?", before_up, most)
        beyond = self.held() - keep
        if beyond > 0:
            self._drop(f"SELECT key FROM {self.name} ORDER BY {self.age} LIMIT ?", min(beyond, most))
        return old == most or beyond > most

    def _changed(self, rows: int) -> None:
        """Adjust the count."""
        if self._held is not None:
            self._held += rows

    def _drop(self, select: str, *values: int) -> int:
        query = f"DELETE FROM {self.name} WHERE key IN ({select})"
        dropped = self._connection.execute(query, values).rowcount
        self._changed(-dropped)
        return dropped
