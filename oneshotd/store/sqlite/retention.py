"""Retention in SQLite: delete what `retention_rules` says, a bounded part in each transaction."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from oneshotd.store.interface import Loss
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
from oneshotd.store.sqlite import details
from oneshotd.store.sqlite.ledger import Ledger

#: Segments and rows of other tables deleted in one transaction at most, so that appends need not wait long.
SEGMENTS_A_TURN = 500
KEYS_A_TURN = 5000
DETAILS_A_TURN = 5000

#: Pages given back to the file system in one transaction at most (4 KiB each).
PAGES_A_TURN = 500

#: Seconds for which the losses of a removed scraper can still be read.
LOSS_KEPT = 86400.0

#: Rows of losses kept at most, the newest: clients that invent names must not fill the disk.
MAX_LOSSES = 500


def prune(ledger: Ledger) -> tuple[list[Loss], bool]:
    """Do one turn of retention, inside a transaction.

    :returns: the losses it caused, and whether there is more to do.
    """
    ledger.flush()
    losses = _remove_expired_scrapers(ledger)
    connection, cutoff = ledger.connection, ledger.uptime_cutoff(ledger.limits.hold)
    more = ledger.keys.forget(cutoff, ledger.limits.max_keys, KEYS_A_TURN)
    more = ledger.states.forget(ledger.times.up(), ledger.limits.max_states, KEYS_A_TURN) or more
    more = _delete_expired_events(ledger, cutoff) or more
    more = details.delete(connection, ledger.pruned, DETAILS_A_TURN) or more
    ledger.write_final_state()
    ledger.scrapers.forget_shown(cutoff, ledger.times.at() - int(ledger.limits.hold * 1000))
    connection.execute(
        "DELETE FROM loss WHERE up < ? AND scraper NOT IN (SELECT name FROM scraper)",
        (ledger.uptime_cutoff(LOSS_KEPT),),
    )
    connection.execute(
        "DELETE FROM loss WHERE (scraper, reason) NOT IN"
        " (SELECT scraper, reason FROM loss ORDER BY up DESC LIMIT ?)",
        (MAX_LOSSES,),
    )
    # One by one: the sqlite3 module ends this statement after its first page, whatever it is told.
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    for _ in range(min(free, PAGES_A_TURN)):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return losses, more


def make_room(ledger: Ledger) -> list[Loss]:
    """Cut the log to its bounds, oldest events first; return what scrapers lost by that."""
    if fits(ledger.held_events, ledger.held_bytes, ledger.limits):
        return []
    ledger.flush()
    with closing(_segments(ledger)) as segments:
        cut = cut_to_bounds(
            segments,
            head=ledger.head,
            total_size=ledger.log.total_size,
            reserved=ledger.leases.lowest(ledger.monotonic()),
            limits=ledger.limits,
        )
    losses = losses_of(cut, {scraper.name: scraper.cursor for scraper in ledger.scrapers.live()})
    for loss in losses:
        _count(ledger, loss)
        scraper = ledger.scrapers.by_name[loss.scraper]
        scraper.cursor = cut.horizon
        ledger.scrapers.write(scraper)
    _delete(ledger, cut)
    return losses


def _segments(ledger: Ledger, limit: int = -1) -> Generator[SegmentEnd, None, None]:
    """Read the ends of the segments, oldest first; the caller closes the reading before it writes."""
    with closing(
        ledger.connection.execute(
            "SELECT first + count - 1, total_size, up FROM segment ORDER BY first LIMIT ?", (limit,)
        )
    ) as rows:
        for row in rows:
            yield SegmentEnd(*row)


def _remove_expired_scrapers(ledger: Ledger) -> list[Loss]:
    cutoff, now = ledger.uptime_cutoff(ledger.limits.hold), ledger.monotonic()
    losses = []
    for scraper in list(ledger.scrapers.by_name.values()):
        if not is_expired(scraper.seen_up, cutoff, ledger.leases.of(scraper.name, now) is not None):
            continue
        loss = loss_of_removal(scraper.name, scraper.live, ledger.pending_count(scraper))
        if loss is not None:
            _count(ledger, loss)
            losses.append(loss)
        ledger.scrapers.delete(scraper)
        # The day for which its losses can still be read begins now.
        ledger.connection.execute(
            "UPDATE loss SET up = ? WHERE scraper = ?", (ledger.times.up(), scraper.name)
        )
    return losses


def _delete_expired_events(ledger: Ledger, cutoff: int) -> bool:
    """Delete expired segments; return whether there may be more of them."""
    with closing(_segments(ledger, SEGMENTS_A_TURN)) as segments:
        cut = cut_expired(
            segments,
            cutoff=cutoff,
            head=ledger.head,
            cursors=[scraper.cursor for scraper in ledger.scrapers.live()],
            reserved=ledger.leases.lowest(ledger.monotonic()),
        )
    _delete(ledger, cut)
    return cut.segments == SEGMENTS_A_TURN


def _delete(ledger: Ledger, cut: Cut) -> None:
    if cut.horizon:
        floor = ledger.log.outlived(ledger.connection, cut.horizon, ledger.times.at())
        ledger.connection.execute("DELETE FROM segment WHERE first <= ?", (cut.horizon,))
        ledger.connection.execute(
            "UPDATE state SET pruned = ?, pruned_size = ?, clock_at = max(clock_at, ?)",
            (cut.horizon, cut.size, floor),
        )
        details.delete(ledger.connection, cut.horizon, DETAILS_A_TURN)
        ledger.write_time()
        ledger.pruned, ledger.pruned_size = cut.horizon, cut.size


def _count(ledger: Ledger, loss: Loss) -> None:
    ledger.scrapers.lose(loss.scraper, loss.reason, loss.events, ledger.times.up())
