"""The table of idempotency keys: each key's first answer, kept for the hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from oneshotd.store.planning import Known


class KeyTable:
    """The table `key`; changes are part of the caller's transaction.

    The keys are counted once after a start or a rollback, and each change adjusts the count: counting a
    million takes SQLite some 20 ms.
    """

    def __init__(self) -> None:
        self._held: int | None = None

    def load(self, connection: sqlite3.Connection) -> None:
        """Use this connection, and count the keys again: a rollback may have changed their number."""
        self._connection = connection
        self._held = None

    def held(self) -> int:
        """Return the number of keys."""
        if self._held is None:
            self._held = int(self._connection.execute("SELECT count(*) FROM key").fetchone()[0])
        return self._held

    def find(self, keys: Sequence[str], since_up: int) -> dict[str, Known]:
        """Return the rows of those keys that were used since this up-time (ms)."""
        found = {}
        for key in keys:
            row = self._connection.execute(
                "SELECT digest, stored, duplicates, first FROM key WHERE key = ? AND up >= ?", (key, since_up)
            ).fetchone()
            if row is not None:
                found[key] = Known(*row)
        return found

    def remember(self, keys: Mapping[str, Known], up: int) -> None:
        """Write keys; an expired row of the same key is replaced."""
        rows = [
            (key, known.digest, known.stored, known.duplicates, known.first, up)
            for key, known in keys.items()
        ]
        new = self._connection.executemany(
            "INSERT OR IGNORE INTO key VALUES (?, ?, ?, ?, ?, ?)", rows
        ).rowcount
        if new < len(rows):
            self._connection.executemany("REPLACE INTO key VALUES (?, ?, ?, ?, ?, ?)", rows)
        if self._held is not None:
            self._held += new

    def forget(self, before_up: int, keep: int, most: int) -> bool:
        """Delete expired keys, and the oldest of those beyond the limit.

        :param before_up: up-time (ms) before which keys are expired.
        :param keep: greatest number of keys.
        :param most: greatest number of keys deleted in this call, of each kind.
        :returns: whether there is more to delete.
        """
        old = self._drop("SELECT key FROM key WHERE up < ? LIMIT ?", before_up, most)
        beyond = self.held() - keep
        if beyond > 0:
            self._drop("SELECT key FROM key ORDER BY up LIMIT ?", min(beyond, most))
        return old == most or beyond > most

    def _drop(self, select: str, *values: int) -> int:
        dropped = self._connection.execute(f"DELETE FROM key WHERE key IN ({select})", values).rowcount
        if self._held is not None:
            self._held -= dropped
        return dropped
