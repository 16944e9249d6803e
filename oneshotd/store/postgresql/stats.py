"""The figures of the cluster, and pages of the log, from one snapshot each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oneshotd.core.filters import Selection
from oneshotd.store.interface import ClockCorrected, LogPage, ScraperStatus, StoreStats
from oneshotd.store.limits import Limits
from oneshotd.store.log_page import collect_page
from oneshotd.store.postgresql.details import DetailsBack
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.scrapers import ALL, LIVE, Present, Row, present, present_query
from oneshotd.store.postgresql.segments import read_back, seq_before

_OLDEST_OWED = """
SELECT DISTINCT ON (scraper) scraper, at FROM owed WHERE gone IS NULL ORDER BY scraper, seq"""
# Of the first event in the log that each scraper has not got: of its segment, or the next one.
_OLDEST_LOGGED = f"""
SELECT s.id, (SELECT clock_at FROM segment WHERE first = coalesce(
  (SELECT first FROM (SELECT first, count FROM segment WHERE first <= s.start ORDER BY first DESC LIMIT 1) l
    WHERE first + count > s.start),
  (SELECT min(first) FROM segment WHERE first > s.start)))
FROM (SELECT id, 1 + CASE WHEN {LIVE} THEN cursor
    ELSE greatest(cursor, (SELECT pruned FROM state WHERE id = 1)) END AS start FROM scraper) s"""
_LOST = "SELECT scraper, reason, events FROM loss"
_CORRECTED = "SELECT corrected_at, corrected_ms, corrected_up FROM state WHERE id = 1"


@contextmanager
def _snapshot(link: Link) -> Iterator[None]:
    link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        link.roll_back()


def stats(link: Link, limits: Limits) -> StoreStats:
    """Return all figures; see `IStore.stats`."""
    try:
        _, [now], losses, owed, logged, rows, [corrected], _ = link.script(
            [
                ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", None),
                (present_query(link), ()),
                (_LOST, ()),
                (_OLDEST_OWED, ()),
                (_OLDEST_LOGGED, ()),
                (ALL, ()),
                (_CORRECTED, ()),
                ("COMMIT", None),
            ]
        )
    except BaseException:
        link.roll_back()
        raise
    at = Present(*now)
    lost = {(scraper, reason): events for scraper, reason, events in losses}
    oldest = {**dict(logged), **dict(owed)}
    statuses = tuple(_status(Row(*row), at, oldest, lost) for row in rows)
    corrected_at, corrected_ms, corrected_up = corrected
    clock = None
    if corrected_up is not None and corrected_up >= at.up - limits.hold * 1000:
        clock = ClockCorrected(at=corrected_at, seconds=corrected_ms / 1000)
    return StoreStats(
        events=at.head - at.pruned,
        size=at.total_size - at.pruned_size,
        head=at.head,
        scrapers=statuses,
        lost=lost,
        clock=clock,
    )


def _status(
    row: Row, at: Present, oldest: dict[int, int | None], lost: dict[tuple[str, str], int]
) -> ScraperStatus:
    pending = at.head - row.start(at.pruned) + row.owed
    return ScraperStatus(
        name=row.name,
        live=row.live,
        cursor=row.cursor,
        pending=pending,
        owed=row.owed,
        seen_at=min(row.seen_at, at.now),
        answered=row.answered,
        timed=row.timed,
        named=row.named,
        in_flight=row.in_flight(at.up),
        counts=row.counts(at.up),
        oldest_at=oldest.get(row.id) if pending else None,
        lost={reason: events for (name, reason), events in lost.items() if name == row.name},
    )


def recent(link: Link, selection: Selection, before: int | None, limit: int) -> LogPage:
    """Read one page; see `IStore.recent`."""
    with _snapshot(link):
        return _recent(link, selection, before, limit)


def _recent(link: Link, selection: Selection, before: int | None, limit: int) -> LogPage:
    at = present(link)
    end = at.head if before is None else min(before - 1, at.head)
    if selection.until is not None:
        end = min(end, seq_before(link, selection.until, at.pruned, "clock_at"))
    # Beyond the first segment whose events ran ahead of the clock, earlier ones may be in the time wanted.
    ran_ahead = None
    if selection.since is not None:
        [ran_ahead] = link.one(
            "SELECT min(first) FROM segment WHERE offsets IS NOT NULL AND latest_at >= %s", (selection.since,)
        )
    return collect_page(
        read_back(link, end),
        selection,
        limit,
        pruned=at.pruned,
        ran_ahead=ran_ahead,
        detail_of=DetailsBack(link).of,
    )
