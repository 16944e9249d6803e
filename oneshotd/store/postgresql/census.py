"""The figures of the cluster, and pages of the log, from one snapshot each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oneshotd.core.filters import Selection
from oneshotd.store.interface import ClockCorrected, LogPage, ScraperStatus, StoreStats
from oneshotd.store.limits import Limits
from oneshotd.store.log_page import collect_page
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.scrapers import Present, Row, all_rows, present
from oneshotd.store.postgresql.segments import read_back, seq_before

_OLDEST_OWED = "SELECT scraper, min(seq) FROM owed WHERE gone IS NULL GROUP BY scraper"
_OWED_AT = "SELECT at FROM owed WHERE scraper = %s AND seq = %s"
_ACCEPTED_AT = """
SELECT clock_at FROM segment WHERE first = coalesce(
  (SELECT first FROM (SELECT first, count FROM segment WHERE first <= %(seq)s ORDER BY first DESC LIMIT 1) s
    WHERE first + count > %(seq)s),
  (SELECT min(first) FROM segment WHERE first > %(seq)s))"""
_CORRECTED = "SELECT corrected_at, corrected_ms, corrected_up FROM state WHERE id = 1"


@contextmanager
def _snapshot(link: Link) -> Iterator[None]:
    link.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        link.roll_back()


def census(link: Link, limits: Limits) -> StoreStats:
    """Return all figures; see `IStore.census`."""
    with _snapshot(link):
        at = present(link)
        lost = {
            (scraper, reason): events
            for scraper, reason, events in link.execute("SELECT scraper, reason, events FROM loss").fetchall()
        }
        owed = dict(link.execute(_OLDEST_OWED).fetchall())
        statuses = tuple(_status(link, row, at, owed.get(row.id), lost) for row in all_rows(link))
        corrected_at, corrected_ms, corrected_up = link.one(_CORRECTED)
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
    link: Link, row: Row, at: Present, owed: int | None, lost: dict[tuple[str, str], int]
) -> ScraperStatus:
    start = row.start(at.pruned)
    pending = at.head - start + row.owed
    oldest = None
    if pending:
        found = (
            link.one(_ACCEPTED_AT, {"seq": start + 1}) if owed is None else link.one(_OWED_AT, (row.id, owed))
        )
        oldest = None if found is None else found[0]
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
        oldest_at=oldest,
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
    return collect_page(read_back(link, end), selection, limit, pruned=at.pruned, ran_ahead=ran_ahead)
