"""The table of idempotency keys: what was answered the first time, for as long as the hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from oneshotd.store.planning import Known


class KeyTable:
    """The table `key`; changes are part of the caller's transaction.

    How many keys there are is counted once after a start (or a rollback) and carried on from there:
    counting a million takes SQLite some 20 ms.
    """

    def __init__(self) -> None:
        self._held: int | None = None

    def load(self, connection: sqlite3.Connection) -> None:
        """Use this connection; what was counted before may have been undone."""
        self._connection = connection
        self._held = None

    def held(self) -> int:
        """How many keys are kept."""
        if self._held is None:
            self._held = int(self._connection.execute("SELECT count(*) FROM key").fetchone()[0])
        return self._held

    def find(self, keys: Sequence[str], since_up: int) -> dict[str, Known]:
        """Return the rows of those keys that were seen since then (up-time, ms)."""
        found = {}
        for key in keys:
            row = self._connection.execute(
                "SELECT digest, stored, duplicates, first FROM key WHERE key = ? AND up >= ?", (key, since_up)
            ).fetchone()
            if row is not None:
                found[key] = Known(*row)
        return found

    def remember(self, keys: Mapping[str, Known], up: int) -> None:
        """Keep keys; one that has had its time is taken over."""
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
        """Drop those that have had their time, and the oldest of more than are to be kept.

        :param most: to drop in this call, of either.
        :returns: whether there is more to do.
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
