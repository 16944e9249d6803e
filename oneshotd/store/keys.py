"""Idempotency keys: what was answered the first time, for as long as the hold.

A key covers a group (``Idempotency-Key``) or one event (``__id__``); both live in one name
space, as a client may say the same key either way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
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


def find(connection: sqlite3.Connection, key: str, since_up: int) -> Known | None:
    """The key, if it was seen since then (up-time, ms)."""
    row = connection.execute(
        "SELECT digest, stored, duplicates, first FROM key WHERE key = ? AND up >= ?", (key, since_up)
    ).fetchone()
    return None if row is None else Known(*row)


def remember(connection: sqlite3.Connection, keys: dict[str, Known], up: int) -> None:
    """Keep keys; one that has had its time is taken over."""
    connection.executemany(
        "INSERT OR REPLACE INTO key VALUES (?, ?, ?, ?, ?, ?)",
        [(key, known.digest, known.stored, known.duplicates, known.first, up) for key, known in keys.items()],
    )


def forget(connection: sqlite3.Connection, before_up: int, keep: int, most: int) -> bool:
    """Drop those that have had their time, and the oldest of more than are to be kept.

    :param most: to drop in this call, of either.
    :returns: whether there is more to do.
    """
    old = connection.execute(
        "DELETE FROM key WHERE key IN (SELECT key FROM key WHERE up < ? LIMIT ?)", (before_up, most)
    ).rowcount
    beyond = connection.execute("SELECT count(*) FROM key").fetchone()[0] - keep
    connection.execute(
        "DELETE FROM key WHERE key IN (SELECT key FROM key ORDER BY up LIMIT ?)",
        (max(0, min(beyond, most)),),
    )
    return old == most or beyond > most
