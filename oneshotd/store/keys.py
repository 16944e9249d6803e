"""Idempotency keys: what was answered the first time, for as long as the hold.

A key covers a group (``Idempotency-Key``) or one event (``__id__``); both live in one name
space, as a client may say the same key either way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from attrs import frozen

from oneshotd.core.event import NewEvent
from oneshotd.store.interface import Stored


@frozen
class Known:
    """A row of the table `key`."""

    digest: bytes
    stored: int
    duplicates: int
    first: int

    def answer(self) -> Stored:
        """What was said the first time."""
        return Stored(stored=self.stored, duplicates=self.duplicates, first=self.first, again=True)


def digest_of(events: Sequence[NewEvent]) -> bytes:
    """What makes two groups the same: names, labels and values, in order."""
    digest = blake2b(digest_size=16)
    for event in events:
        digest.update(f"{event.series}\n{event.value or ''}\n".encode())
    return digest.digest()


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

    def find(self, key: str, since_up: int) -> Known | None:
        """Return the key's row if it was seen since then (up-time, ms)."""
        row = self._connection.execute(
            "SELECT digest, stored, duplicates, first FROM key WHERE key = ? AND up >= ?", (key, since_up)
        ).fetchone()
        return None if row is None else Known(*row)

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
