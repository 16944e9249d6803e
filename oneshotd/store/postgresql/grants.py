"""Grant a lease to a scraper, in one message to the server, or note a visit that met a delivery."""

from __future__ import annotations

from typing import Any

from oneshotd.core.events import Pending
from oneshotd.core.identity import Visit
from oneshotd.store.interface import Holder, Reservation
from oneshotd.store.postgresql.clock_corrections import CORRECTED_AT
from oneshotd.store.postgresql.link import DELETING, MAX_AHEAD, Link
from oneshotd.store.postgresql.pending import AHEAD
from oneshotd.store.postgresql.presence import is_silent
from oneshotd.store.postgresql.scrapers import (
    FIND,
    LIVE,
    OVERLAPPED,
    VISITED,
    Present,
    Row,
    present_query,
)
from oneshotd.store.postgresql.sessions import IS_OPEN, Session

#: Excludes deleting.
LOCK = f"SELECT pg_advisory_xact_lock_shared{DELETING}"
# The server may get it much later, over a connection that was lost, when later visits were noted.
_SEEN = f"""
UPDATE scraper SET seen_up = greatest(seen_up, %(up)s),
  seen_at = CASE WHEN seen_up <= %(up)s THEN %(now)s ELSE seen_at END,
  timed_up = CASE WHEN seen_up <= %(up)s THEN %(timed_up)s ELSE timed_up END, {VISITED}, {OVERLAPPED}
WHERE id = %(id)s"""
# Only if no delivery is in flight; what `grant` reads in the same message says whether, and why not.
_GRANT = f"""
UPDATE scraper SET token = %(token)s, ended = CASE WHEN state = 0 THEN token ELSE ended END, state = 1,
  final = CASE WHEN state = 2 THEN token ELSE final END, until_up = p.up + %(lease)s,
  holder = %(holder)s, visit_timed = %(timed)s, cursor = c.cursor,
  seen_up = p.up, seen_at = p.now, timed_up = CASE WHEN %(timed)s THEN p.up ELSE -1 END,
  {VISITED.replace("%(up)s", "p.up")},
  was_cursor = c.cursor, was_answered = answered, was_owed = owed,
  was_event_time = event_time, was_floor_at = scraper.floor_at, was_latest_at = latest_at,
  was_shown_end = shown_end, was_lost = '{{{{}}}}'
FROM ({{present}}) p, LATERAL (SELECT CASE WHEN {LIVE} THEN r.cursor ELSE greatest(r.cursor, p.pruned) END
  AS cursor FROM scraper r WHERE r.name = %(name)s) c
WHERE name = %(name)s AND token IS DISTINCT FROM %(token)s AND (state = 0 OR until_up <= p.up)
  AND (%(is_sure)s OR %(timed)s OR NOT timed) AND {IS_OPEN}
  AND greatest(coalesce(p.clock_at, 0), p.floor_at) <= p.now + {MAX_AHEAD} RETURNING id"""
_FINAL = """
DELETE FROM owed USING scraper
WHERE name = %(name)s AND token = %(token)s AND scraper.id = owed.scraper AND gone <> %(token)s"""


def grant(
    link: Link, visit: Visit, lease: float, token: int, session: Session, is_sure: bool
) -> tuple[bool, Row | None, Present, int, list[Any]]:
    """Grant a lease, if that is possible.

    :param is_sure: a visit without the timeout header is known to be this scraper's.
    :returns: whether it was granted, the row as it was before, the present, when the clock was last
        corrected (Unix ms), and the rows of `AHEAD`.
    :raises CommitUnknown: it may have been granted.
    """
    values = {
        "name": visit.name,
        "token": token,
        "lease": int(lease * 1000),
        "holder": session.holder,
        "session": session.number,
        "timed": visit.timed,
        "is_sure": is_sure,
    }
    with link.committing():
        _, found, [now], [[corrected]], ahead, granted, _, [[is_open]] = link.script(
            [
                (LOCK, ()),
                (f"{FIND} FOR UPDATE", (visit.name,)),
                (present_query(link), ()),
                (CORRECTED_AT, ()),
                (AHEAD, (visit.name,)),
                (_GRANT.format(present=link.present), values),
                (_FINAL, values),
                (f"SELECT {IS_OPEN}", values),
            ]
        )
    session.check(link, is_open)
    row = Row(*found[0]) if found else None
    return bool(granted), row, Present(*now), corrected, ahead


def refuse(link: Link, visit: Visit, row: Row, at: Present, holder: str) -> Reservation:
    """Note a visit that met a delivery in flight."""
    values = {"up": at.up, "now": at.now, "timed_up": at.up if visit.timed else -1, "id": row.id}
    with link.transaction():
        link.at_commit(_SEEN, values)
        other = _holder_of(link, row, at, holder)
    return Reservation(token=None, pending=Pending(), busy="in flight", holder=other)


def _holder_of(link: Link, row: Row, at: Present, holder: str) -> Holder:
    if row.holder == holder:
        return Holder.HERE
    return Holder.SILENT if is_silent(link, row.holder, at.up) else Holder.ELSEWHERE
