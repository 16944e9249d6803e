"""Retention in PostgreSQL: delete what `retention_rules` says, a bounded part in each transaction.

Deleting excludes the granting of leases, which protect their events, by an advisory lock. Any daemon may
do it; each reports the losses that it found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from oneshotd.store.interface import Loss
from oneshotd.store.limits import Limits
from oneshotd.store.postgresql.details import DELETE as DELETE_DETAILS
from oneshotd.store.postgresql.details import DETAILS_A_TURN, delete_overdue
from oneshotd.store.postgresql.link import DELETING, Link
from oneshotd.store.postgresql.scrapers import LIVE, Present, all_rows, delete, lose, present, present_query
from oneshotd.store.postgresql.segments import COLUMNS, segment_of
from oneshotd.store.retention_rules import (
    Cut,
    SegmentEnd,
    cut_expired,
    cut_to_bounds,
    fits,
    is_expired,
    loss_of_removal,
    losses_of,
)

#: Segments, keys and keyed states deleted in one transaction at most; see `DETAILS_A_TURN`, too.
SEGMENTS_A_TURN = 500
KEYS_A_TURN = 5000
STATES_A_TURN = 5000

#: Seconds for which the losses of a removed scraper can still be read.
LOSS_KEPT = 86400.0

#: Seconds after which a daemon that was not heard of is forgotten.
DAEMON_KEPT = 7 * 86400

#: Rows of losses kept at most, the newest: clients that invent names must not fill the disk.
MAX_LOSSES = 500

_LOCK = f"SELECT pg_advisory_xact_lock{DELETING}"
_ENDS = """
SELECT first + count - 1, total_size, up FROM segment WHERE first > %s ORDER BY first LIMIT %s"""
_RESERVED = "SELECT min(was_cursor) FROM scraper WHERE state <> 0 AND until_up > %s"
_LIVE = f"SELECT name, cursor FROM scraper WHERE {LIVE} ORDER BY id FOR UPDATE"

# Rows that an append has locked stay. Otherwise a key that it has just renewed would be deleted when it
# commits, or the two would wait in a circle.
_OLD_KEYS = """
DELETE FROM key WHERE key = ANY(ARRAY(
  SELECT key FROM key WHERE up < %s LIMIT %s FOR UPDATE SKIP LOCKED))"""
_KEYS = "SELECT count(*) FROM (SELECT FROM key LIMIT %s) k"
_MANY_KEYS = """
DELETE FROM key WHERE key = ANY(ARRAY(
  SELECT key FROM key ORDER BY up LIMIT %s FOR UPDATE SKIP LOCKED))"""
_OLD_STATES = """
DELETE FROM keyed_state WHERE key = ANY(ARRAY(
  SELECT key FROM keyed_state WHERE until_up < %s LIMIT %s FOR UPDATE SKIP LOCKED))"""
_STATES = "SELECT count(*) FROM (SELECT FROM keyed_state LIMIT %s) s"
_MANY_STATES = """
DELETE FROM keyed_state WHERE key = ANY(ARRAY(
  SELECT key FROM keyed_state ORDER BY until_up LIMIT %s FOR UPDATE SKIP LOCKED))"""

_AHEAD = f"SELECT {COLUMNS} FROM segment WHERE latest_at >= %s"
# Beside an old snapshot the index has all deleted segments still: not to be walked again each time.
# A session in doubt looks for its last batch, which must be found after its segments were deleted.
_DELETE = """
WITH gone AS (DELETE FROM segment WHERE first > %s AND first <= %s RETURNING daemon, batch, first),
top AS (SELECT DISTINCT ON (daemon) daemon, batch, first FROM gone ORDER BY daemon, batch DESC, first)
UPDATE daemon d SET batch_first = CASE WHEN top.batch > d.batch THEN top.first ELSE d.batch_first END,
  batch = greatest(d.batch, top.batch) FROM top WHERE d.number = top.daemon"""
# A lease that has lapsed protects nothing: what comes of it would move a cursor behind the horizon.
_LAPSED = """
UPDATE scraper SET final = CASE WHEN state = 2 THEN token ELSE final END, state = 0, token = NULL
WHERE state <> 0 AND until_up <= %s AND was_cursor < %s
RETURNING id"""
_PRUNED = "UPDATE state SET pruned = %s, pruned_size = %s, at = greatest(at, %s) WHERE id = 1"

_HEARTBEAT = """
UPDATE state SET up = greatest(state.up, p.up), touched = p.now FROM ({present}) p
WHERE id = 1 AND (%s OR abs(p.now - state.touched) > 2000)"""
_ALIVE = "UPDATE daemon SET up = p.up FROM ({present}) p WHERE daemon.id = %s AND daemon.up < p.up - 1000"
_OLD_DAEMONS = """
DELETE FROM daemon WHERE up < %s AND NOT EXISTS (SELECT FROM segment WHERE segment.daemon = daemon.number)"""


def heartbeat(link: Link, forced: bool = False, daemon: str | None = None) -> None:
    """Write the up-time, if it is older than 2 s; so it goes on while no events come."""
    link.execute(_HEARTBEAT.format(present=link.present), (forced,))
    if daemon is not None:
        link.execute(_ALIVE.format(present=link.present), (daemon,))


def prune(link: Link, limits: Limits) -> tuple[list[Loss], bool]:
    """Do one turn of retention.

    :returns: the losses it caused, and whether there is more to do.
    """
    with link.transaction():
        link.execute(_LOCK)
        at = present(link)
        cutoff = at.up - int(limits.hold * 1000)
        losses = _remove_expired_scrapers(link, at, cutoff)
        more = _forget_keys(link, cutoff, limits.max_keys)
        more = _forget_states(link, at.up, limits.max_states) or more
        more = delete_overdue(link, at.pruned) or more
        more = _delete_expired_events(link, at, cutoff) or more
        heartbeat(link, forced=True)
        link.execute(
            "DELETE FROM shown WHERE up < %s AND at < %s", (cutoff, at.now - int(limits.hold * 1000))
        )
        link.execute(
            "DELETE FROM loss WHERE up < %s AND scraper NOT IN (SELECT name FROM scraper)",
            (at.up - int(LOSS_KEPT * 1000),),
        )
        link.execute(
            "DELETE FROM loss WHERE (scraper, reason) NOT IN"
            " (SELECT scraper, reason FROM loss ORDER BY up DESC LIMIT %s)",
            (MAX_LOSSES,),
        )
        link.execute(_OLD_DAEMONS, (at.up - DAEMON_KEPT * 1000,))
    return losses, more


def make_room(link: Link, limits: Limits) -> list[Loss]:
    """Cut the log to its bounds, oldest events first; return what scrapers lost by that."""
    at = present(link)
    if fits(at.head - at.pruned, at.total_size - at.pruned_size, limits):
        return []
    with link.transaction((_LOCK, ()), (present_query(link), ())) as (_, [now]):
        at = Present(*now)
        if fits(at.head - at.pruned, at.total_size - at.pruned_size, limits):
            return []
        ends, [[reserved]], live = link.script(
            [(_ENDS, (at.pruned, SEGMENTS_A_TURN)), (_RESERVED, (at.up,)), (_LIVE, ())]
        )
        cut = cut_to_bounds(
            _segments(link, ends),
            head=at.head,
            total_size=at.total_size,
            reserved=reserved,
            limits=limits,
        )
        losses = losses_of(cut, dict(live)) if cut.horizon else []
        for loss in losses:
            lose(link, loss.scraper, loss.reason, loss.events, at.up)
            link.execute("UPDATE scraper SET cursor = %s WHERE name = %s", (cut.horizon, loss.scraper))
        _delete(link, at, cut)
    return losses


def _segments(link: Link, rows: list[Any]) -> Iterator[SegmentEnd]:
    """Read the ends of the segments, oldest first, given the first rows."""
    while True:
        yield from (SegmentEnd(*row) for row in rows)
        if len(rows) < SEGMENTS_A_TURN:
            return
        rows = link.execute(_ENDS, (rows[-1][0], SEGMENTS_A_TURN)).fetchall()


def _remove_expired_scrapers(link: Link, at: Present, cutoff: int) -> list[Loss]:
    losses = []
    for row in all_rows(link, lock=True):
        if not is_expired(row.seen_up, cutoff, row.in_flight(at.up)):
            continue
        loss = loss_of_removal(row.name, row.live, at.head - row.start(at.pruned) + row.owed)
        if loss is not None:
            lose(link, loss.scraper, loss.reason, loss.events, at.up)
            losses.append(loss)
        delete(link, row.id)
        # The day for which its losses can still be read begins now.
        link.execute("UPDATE loss SET up = %s WHERE scraper = %s", (at.up, row.name))
    return losses


def _forget_keys(link: Link, cutoff: int, keep: int) -> bool:
    old = link.execute(_OLD_KEYS, (cutoff, KEYS_A_TURN)).rowcount
    beyond = link.one(_KEYS, (keep + KEYS_A_TURN + 1,))[0] - keep
    if beyond > 0:
        link.execute(_MANY_KEYS, (min(beyond, KEYS_A_TURN),))
    return bool(old == KEYS_A_TURN or beyond > KEYS_A_TURN)


def _forget_states(link: Link, up: int, keep: int) -> bool:
    old = link.execute(_OLD_STATES, (up, STATES_A_TURN)).rowcount
    beyond = link.one(_STATES, (keep + STATES_A_TURN + 1,))[0] - keep
    if beyond > 0:
        link.execute(_MANY_STATES, (min(beyond, STATES_A_TURN),))
    return bool(old == STATES_A_TURN or beyond > STATES_A_TURN)


def _delete_expired_events(link: Link, at: Present, cutoff: int) -> bool:
    rows = link.execute(_ENDS, (at.pruned, SEGMENTS_A_TURN)).fetchall()
    [reserved] = link.one(_RESERVED, (at.up,))
    cut = cut_expired(
        (SegmentEnd(*row) for row in rows),
        cutoff=cutoff,
        head=at.head,
        cursors=[row.cursor for row in all_rows(link) if row.live],
        reserved=reserved,
    )
    _delete(link, at, cut)
    return cut.segments == SEGMENTS_A_TURN


def _delete(link: Link, at: Present, cut: Cut) -> None:
    if cut.horizon:
        for (number,) in link.execute(_LAPSED, (at.up, cut.horizon)).fetchall():
            link.execute("DELETE FROM owed WHERE scraper = %s AND gone IS NOT NULL", (number,))
        floor = _outlived(link, cut.horizon, max(at.now, at.latest_at))
        link.at_commit(_DELETE, (at.pruned, cut.horizon))
        link.at_commit(DELETE_DETAILS, (at.pruned, cut.horizon, DETAILS_A_TURN))
        link.at_commit(_PRUNED, (cut.horizon, cut.size, floor))


def _outlived(link: Link, horizon: int, now: int) -> int:
    """Return the least time (Unix ms) that no series has whose last event is deleted up to `horizon`.

    It is zero unless the clock stood still, or a burst ran ahead of it, for the whole hold.
    """
    last: dict[str, tuple[int, int]] = {}
    for segment in map(segment_of, link.execute(_AHEAD, (now,)).fetchall()):
        for event in segment.events():
            if event.at >= now:
                last[event.series] = max((event.at, event.seq), last.get(event.series, (0, 0)))
    return max((at for at, seq in last.values() if seq <= horizon), default=-1) + 1
