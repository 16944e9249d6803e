"""The table of idempotency keys: each key's first answer, kept for the hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oneshotd.store.planning import Known
from oneshotd.store.sqlite.counted_table import CountedTable


class KeyTable(CountedTable):
    """The table `key`."""

    name = "key"
    age = "up"

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
        self._changed(new)
