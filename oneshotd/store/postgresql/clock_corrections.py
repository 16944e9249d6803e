"""Correct the times in the database after its clock was ahead and was set back.

One transaction does all of it, in whichever daemon finds it first:

* For each scraper that gets the events' own times, it writes down the series whose latest sample is now
  ahead of the clock (`core/sampling/ahead.py`).
* Events in the log and owed events whose `at` is ahead get one from the clock on, a millisecond apart
  within their series. So `at` ascends along the log again, and each series keeps its order.
* It lowers each scraper's floor and latest time to the clock.

A delivery in flight carries the earlier times; its settlement corrects them.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve
from twisted.logger import Logger

from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.store.postgresql.link import DELETING, END_OF_LOG, MAX_AHEAD, Link
from oneshotd.store.postgresql.scrapers import Present, Row, all_rows, present
from oneshotd.store.postgresql.segments import COLUMNS, segment_of
from oneshotd.store.segment_columns import pack

_log = Logger()

_SHOW = """
INSERT INTO shown VALUES (%s, %s, %s, %s, %s) ON CONFLICT (scraper, series) DO UPDATE
SET at = greatest(shown.at, excluded.at), up = excluded.up, ahead = shown.ahead OR excluded.ahead"""
_MARK = "UPDATE shown SET ahead = true WHERE at > %s AND NOT ahead"
_LOWER = """
UPDATE scraper SET floor_at = least(floor_at, %(now)s), latest_at = least(latest_at, %(now)s)
WHERE greatest(floor_at, latest_at) > %(limit)s"""
_LOWER_WAS = """
UPDATE scraper SET was_floor_at = least(was_floor_at, %(now)s), was_latest_at = least(was_latest_at, %(now)s)
WHERE greatest(was_floor_at, was_latest_at) > %(limit)s"""
_AHEAD = f"SELECT {COLUMNS} FROM segment WHERE latest_at > %s ORDER BY first"
_REDATE = "UPDATE segment SET clock_at = %s, latest_at = %s, offsets = %s WHERE first = %s"
#: When the clock was last corrected (Unix ms); 0 if it never was.
CORRECTED_AT = "SELECT coalesce(corrected_at, 0) FROM state WHERE id = 1"

_STATE = """
UPDATE state SET at = least(at, %(now)s), corrected_at = %(now)s, corrected_ms = %(ahead)s,
  corrected_up = %(up)s WHERE id = 1"""


def is_ahead(at: Present) -> bool:
    """Return whether the times of the log are too far ahead of the clock to wait for it."""
    return at.latest_at - at.now > MAX_AHEAD


def watch_clock(link: Link) -> None:
    """Correct the times, if a reading says that they are ahead."""
    if is_ahead(present(link)):
        correct(link)


def correct(link: Link) -> None:
    """Correct the times, if they are ahead."""
    with link.transaction():
        link.execute(f"SELECT pg_advisory_xact_lock{DELETING}")
        rows = all_rows(link, lock=True)
        link.execute(f"SELECT pg_advisory_xact_lock{END_OF_LOG}")
        at = present(link)
        if not is_ahead(at):
            return
        link.execute(_MARK, (at.now,))
        _note_shown(link, rows, at)
        for lower in (_LOWER, _LOWER_WAS):
            link.execute(lower, {"now": at.now, "limit": at.now + MAX_AHEAD})
        _redate(link, at)
        link.execute(_STATE, {"now": at.now, "ahead": at.latest_at - at.now, "up": at.up})
    _log.warn(
        "the wall clock was ahead by {seconds:.0f} s and was corrected: the times of events start"
        " again at the clock; scrapers with timestamps=event get no earlier sample of a series than"
        " they have",
        seconds=(at.latest_at - at.now) / 1000,
    )


def show(link: Link, scraper: int, times: Mapping[str, int], up: int, ahead: bool) -> None:
    """Write the times of a scraper's latest samples of some series."""
    link.many(_SHOW, [(scraper, series.encode(), at, up, ahead) for series, at in times.items()])


def mark_ahead(link: Link, now: int) -> None:
    """Mark the samples with times beyond this one (Unix ms) as ahead of the clock."""
    link.execute(_MARK, (now,))


def lowered(history: TimestampHistory, now: int) -> TimestampHistory:
    """Return a timestamp history whose times are at most the clock's (Unix ms)."""
    if max(history.floor, history.latest) <= now + MAX_AHEAD:
        return history
    return evolve(history, floor=min(history.floor, now), latest=min(history.latest, now))


def _note_shown(link: Link, rows: list[Row], at: Present) -> None:
    """Write the series whose latest sample is ahead, for each scraper, from the log behind its cursor."""
    for row in rows:
        if not row.event_time:
            continue
        waits = {
            seq
            for (seq,) in link.execute(
                "SELECT seq FROM owed WHERE scraper = %s AND gone IS NULL", (row.id,)
            ).fetchall()
        }
        times: dict[str, int] = {}
        for segment in map(segment_of, link.execute(_AHEAD, (at.now,)).fetchall()):
            times.update(
                (event.series, event.at)
                for event in segment.events()
                if event.at > at.now and event.seq <= row.cursor and event.seq not in waits
            )
        show(link, row.id, times, at.up, ahead=True)


def _redate(link: Link, at: Present) -> None:
    """Correct every `at` that is ahead, in the log and in owed events."""
    now = at.now
    owed = link.execute("SELECT scraper, seq, series FROM owed WHERE at > %s ORDER BY seq", (now,)).fetchall()
    last: dict[str, int] = {}
    ats: dict[int, int] = {}
    # Events deleted from the log are older than the held ones, and so get their times first.
    for _, seq, series in owed:
        if seq <= at.pruned and seq not in ats:
            text = bytes(series).decode()
            ats[seq] = last[text] = last.get(text, now) + 1
    firsts = link.execute("SELECT first FROM segment WHERE latest_at > %s ORDER BY first", (now,)).fetchall()
    for (first,) in firsts:
        row = link.one(f"SELECT {COLUMNS} FROM segment WHERE first = %s", (first,))
        new = []
        for event in segment_of(row).events():
            time = event.at
            if time > now:
                time = last[event.series] = last.get(event.series, now) + 1
                ats[event.seq] = time
            new.append(time)
        # Before the clock, so that the next commit is at the clock.
        base = min(row[2], now - 1)
        link.execute(_REDATE, (base, max(new), pack([time - base for time in new]), first))
    link.many(
        "UPDATE owed SET at = %s WHERE scraper = %s AND seq = %s",
        [(ats[seq], scraper, seq) for scraper, seq, _ in owed if seq in ats],
    )
