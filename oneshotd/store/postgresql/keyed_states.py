"""Resolve the keyed states of a batch in the transaction that appends it.

A batch claims its states in the order of their keys, after its idempotency keys and before the end of the
log, as every daemon does: so transactions wait for each other, and never in a circle. A claim locks a row
until COMMIT, and inserts one where there is none, so that a batch of another daemon with the same key waits
for the outcome of this one. Values and time are read behind the locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, frozen

from oneshotd.core.events import Group
from oneshotd.store.planning import State, states_of
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.scrapers import Present, present_query
from oneshotd.store.postgresql.statements import Values

#: `until_up` of a row that was inserted to lock its key.
_CLAIMED = -1

# An update that changes nothing: without one, a row that another transaction has just deleted or inserted
# would be neither locked nor returned.
_CLAIM = f"""
INSERT INTO keyed_state (key, value, until_up)
SELECT k, 0, {_CLAIMED} FROM unnest(%(keys)s::bytea[]) AS k ORDER BY k
ON CONFLICT (key) DO UPDATE SET value = keyed_state.value RETURNING key, value, until_up"""
_KEEP = """
UPDATE keyed_state SET value = r.value, until_up = r.until_up
FROM unnest(%(keys)s::bytea[], %(values)s::bigint[], %(untils)s::bigint[]) AS r(key, value, until_up)
WHERE keyed_state.key = r.key"""
_FORGET = "DELETE FROM keyed_state WHERE key = ANY(%s::bytea[])"


@frozen(kw_only=True)
class Claim:
    """The states that a transaction has locked.

    :param values: of those that are kept; the planning changes them.
    :param empty: keys whose rows go unless the plan keeps a state there: inserted ones, and expired ones.
    :param up: up-time (ms), and `now` the database's time (Unix ms), behind the locks.
    """

    values: dict[str, int] = field(factory=dict)
    empty: frozenset[str] = frozenset()
    up: int = 0
    now: int = 0

    def writes(self, changes: Mapping[str, State | None]) -> list[tuple[str, Values]]:
        """Return the statements that write a plan's changes; see `AppendPlan.states`."""
        kept = {key: state for key, state in changes.items() if state is not None}
        gone = {*self.empty, *changes} - kept.keys()
        statements: list[tuple[str, Values]] = []
        if kept:
            columns = {
                "keys": [key.encode() for key in kept],
                "values": [state.value for state in kept.values()],
                "untils": [state.until(self.up) for state in kept.values()],
            }
            statements.append((_KEEP, columns))
        if gone:
            statements.append((_FORGET, (sorted(key.encode() for key in gone),)))
        return statements


def keys_of_states(groups: Iterable[Group]) -> list[bytes]:
    """Return the keys of the states that the groups need, in order."""
    return sorted({key.encode() for group in groups if group.states for key in states_of(group)})


def claim(link: Link, keys: list[bytes]) -> Claim:
    """Lock the states with these keys, in a transaction."""
    rows, [row] = link.script([(_CLAIM, {"keys": keys}), (present_query(link), ())])
    at = Present(*row)
    values = {key.decode(): value for key, value, until_up in rows if until_up >= at.up}
    empty = frozenset(key.decode() for key in keys) - values.keys()
    return Claim(values=values, empty=empty, up=at.up, now=at.now)
