"""The table of keyed states: what a later message of a sender needs of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oneshotd.store.planning import State
from oneshotd.store.sqlite.connection import corrupt
from oneshotd.store.sqlite.counted_table import CountedTable


class KeyedStateTable(CountedTable):
    """The table `keyed_state`."""

    name = "keyed_state"
    age = "until_up"

    def find(self, keys: Sequence[str], up: int) -> dict[str, int]:
        """Return the values of those states that are kept at this up-time (ms).

        :raises sqlite3.DatabaseError: one of them is damaged.
        """
        found = {}
        for key in keys:
            row = self._connection.execute(
                "SELECT value FROM keyed_state WHERE key = ? AND until_up >= ?", (key, up)
            ).fetchone()
            if row is None:
                continue
            if type(row[0]) is not int:  # SQLite gives back whatever type it finds
                raise corrupt("a keyed state is nonsense")
            found[key] = row[0]
        return found

    def write(self, states: Mapping[str, State | None], up: int) -> None:
        """Write states, and delete those that are None.

        :param up: the present up-time, ms.
        """
        gone = [(key,) for key, state in states.items() if state is None]
        rows = [(key, state.value, state.until(up)) for key, state in states.items() if state is not None]
        if gone:
            deleted = self._connection.executemany("DELETE FROM keyed_state WHERE key = ?", gone).rowcount
            self._changed(-deleted)
        if not rows:
            return
        new = self._connection.executemany("INSERT OR IGNORE INTO keyed_state VALUES (?, ?, ?)", rows)
        if new.rowcount < len(rows):
            self._connection.executemany("REPLACE INTO keyed_state VALUES (?, ?, ?)", rows)
        self._changed(new.rowcount)
