"""The figures of the log and of every scraper, for the metrics and the status page."""

from __future__ import annotations

from collections.abc import Mapping

from oneshotd.store.interface import ScraperStatus, StoreStats
from oneshotd.store.sqlite.ledger import Ledger
from oneshotd.store.sqlite.scrapers import Scraper
from oneshotd.store.sqlite.segments import accepted_at


def stats(ledger: Ledger) -> StoreStats:
    """Return all figures; see `IStore.stats`."""
    ledger.flush()
    rows = ledger.connection.execute("SELECT scraper, reason, events FROM loss").fetchall()
    lost = {(scraper, reason): events for scraper, reason, events in rows}
    by_scraper: dict[str, dict[str, int]] = {}
    for scraper, reason, events in rows:
        by_scraper.setdefault(scraper, {})[reason] = events
    return StoreStats(
        events=ledger.held_events,
        size=ledger.held_bytes,
        head=ledger.head,
        lost=lost,
        scrapers=tuple(
            _status(ledger, each, by_scraper.get(each.name, {})) for each in ledger.scrapers.by_name.values()
        ),
        clock=ledger.corrections.recent(ledger.uptime_cutoff(ledger.limits.hold)),
    )


def _status(ledger: Ledger, scraper: Scraper, lost: Mapping[str, int]) -> ScraperStatus:
    pending = ledger.pending_count(scraper)
    return ScraperStatus(
        name=scraper.name,
        live=scraper.live,
        cursor=scraper.cursor,
        pending=pending,
        owed=scraper.owed,
        seen_at=_seen_at(ledger, scraper),
        answered=scraper.answered,
        timed=scraper.timed,
        named=scraper.named,
        in_flight=ledger.leases.holds(scraper.name, ledger.monotonic()),
        oldest_at=_oldest_at(ledger, scraper) if pending else None,
        lost=lost,
    )


def _seen_at(ledger: Ledger, scraper: Scraper) -> int:
    # From the up-time if it was seen by this daemon, as the wall clock may have been set since.
    if scraper.name in ledger.scrapers.here:
        return ledger.times.ago(scraper.seen_up)
    return ledger.times.past(scraper.seen_at)


def _oldest_at(ledger: Ledger, scraper: Scraper) -> int | None:
    owed = ledger.scrapers.owed(scraper) if scraper.owed else iter(())
    first = next(owed, None)
    if first is not None:
        return first.at
    return accepted_at(ledger.connection, ledger.start(scraper) + 1)
