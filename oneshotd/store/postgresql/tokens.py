"""Find a lease by its token, or how it has ended: so each statement of a delivery can be repeated.

The token is random, made by the daemon, and stays in the scraper's row when the lease has ended. The row
keeps the one before in `ended`, those that were returned or revoked in `undone`, and in `final` that of the
last delivery that its lapse has made final.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from oneshotd.store.interface import Settled
from oneshotd.store.postgresql.link import Link

FREE, RESERVED, DELIVERED = 0, 1, 2

#: Deliveries that were returned or revoked, for which a late repetition of that finds that it was done.
MAX_UNDONE = 32

#: Finds the row of a lease, for `lease_of`.
LEASE = """
SELECT id, state, token = %(token)s, visit_timed, owed, name FROM scraper
WHERE token = %(token)s OR ended = %(token)s ORDER BY id LIMIT 1 FOR UPDATE"""
#: Finds a delivery that its lapse has made final.
IS_FINAL = "SELECT 1 FROM scraper WHERE final = %s"
#: Sets `undone`: while the outcome of a statement is not known, other daemons deliver more than once.
UNDONE = f"undone = (token || undone)[1:{MAX_UNDONE}]"
_WAS_UNDONE = "SELECT 1 FROM scraper WHERE %s = ANY(undone)"


def new_token() -> int:
    """Return a random token: a counter would give the same twice after a failover."""
    return secrets.randbits(62) | 1


def lease_of(link: Link, token: int, rows: Sequence[Any]) -> tuple[Any, ...] | Settled:
    """Return the scraper's row with this lease, or how it has ended."""
    if not rows:
        return Settled.ALREADY if link.one(_WAS_UNDONE, (token,)) else Settled.SUPERSEDED
    [row] = rows
    if not row[2] or row[1] == FREE:
        return Settled.ALREADY
    return tuple(row)


def repeated(found: tuple[Any, ...] | Settled, in_doubt: bool) -> Settled:
    """Return the answer to a statement that changed nothing; `in_doubt`: it may have been the first."""
    if found is Settled.SUPERSEDED:
        return Settled.SUPERSEDED
    return Settled.SETTLED if in_doubt else Settled.ALREADY
