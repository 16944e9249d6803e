"""What goes, and when: the hold, the bounds of the log, scrapers that stay away.

The log is only ever cut at its old end. Owed events are copies and are not touched by it.
"""

from __future__ import annotations

from oneshotd.store.interface import Loss
from oneshotd.store.sqlite.ledger import Ledger

#: Segments and keys that go in one transaction at most, so that appends need not wait long.
SEGMENTS_A_TURN = 500
KEYS_A_TURN = 5000

#: Pages given back to the file system in one transaction at most (4 KiB each).
PAGES_A_TURN = 500

#: Seconds for which the losses of a retired scraper can still be read.
LOSS_KEPT = 86400.0

#: Rows of losses kept at most, the newest: clients that invent names must not fill the disk.
MAX_LOSSES = 500

AWAY = "away"
LOG_FULL = "log full"


def prune(ledger: Ledger) -> tuple[list[Loss], bool]:
    """One turn of upkeep, inside a transaction.

    :returns: the losses it found, and whether there is more to do.
    """
    ledger.flush()
    losses = _retire(ledger)
    connection, cutoff = ledger.connection, ledger.uptime_cutoff(ledger.limits.hold)
    more = ledger.keys.forget(cutoff, ledger.limits.max_keys, KEYS_A_TURN)
    more = _drop_held_long_enough(ledger, cutoff) or more
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
    """Cut the log to its bounds, oldest first; who had not got what goes has lost it.

    What is reserved stays, so that the log may be over its bounds while a delivery is under
    way: by what comes in during one lease at most.
    """
    limits = ledger.limits
    if ledger.held_events <= limits.max_events and ledger.held_bytes <= limits.max_bytes:
        return []
    ledger.flush()
    reserved = ledger.leases.lowest(ledger.monotonic())
    rows = ledger.connection.execute("SELECT first + count - 1, total_size FROM segment ORDER BY first")
    horizon = size = 0
    for last, total_size in rows:
        if reserved is not None and last > reserved:
            break
        horizon, size = last, total_size
        fits = ledger.head - last <= limits.max_events and ledger.log.total_size - size <= limits.max_bytes
        if fits:
            break
    rows.close()
    losses = []
    for scraper in ledger.scrapers.live():
        if scraper.cursor < horizon:
            losses.append(_lose(ledger, scraper.name, LOG_FULL, horizon - scraper.cursor))
            scraper.cursor = horizon
            ledger.scrapers.write(scraper)
    _drop(ledger, horizon, size)
    return losses


def _retire(ledger: Ledger) -> list[Loss]:
    """Forget who was not seen for a hold; a live one has missed what it had to come."""
    cutoff, now = ledger.uptime_cutoff(ledger.limits.hold), ledger.monotonic()
    losses = []
    for scraper in list(ledger.scrapers.by_name.values()):
        if scraper.seen_up >= cutoff or ledger.leases.of(scraper.name, now) is not None:
            continue
        missed = ledger.pending_count(scraper)
        if scraper.live and missed:
            losses.append(_lose(ledger, scraper.name, AWAY, missed))
        ledger.scrapers.delete(scraper)
        # Now begins the day for which its losses can still be read.
        ledger.connection.execute(
            "UPDATE loss SET up = ? WHERE scraper = ?", (ledger.times.up(), scraper.name)
        )
    return losses


def _drop_held_long_enough(ledger: Ledger, cutoff: int) -> bool:
    """Drop segments older than the hold that nobody waits for; whether there may be more."""
    needed = [scraper.cursor for scraper in ledger.scrapers.live()]
    reserved = ledger.leases.lowest(ledger.monotonic())
    bound = min([ledger.head, *needed, *([] if reserved is None else [reserved])])
    rows = ledger.connection.execute(
        "SELECT first + count - 1, total_size, up FROM segment ORDER BY first LIMIT ?", (SEGMENTS_A_TURN,)
    )
    horizon = size = seen = 0
    for last, total_size, up in rows:
        if up >= cutoff or last > bound:
            break
        horizon, size, seen = last, total_size, seen + 1
    rows.close()
    _drop(ledger, horizon, size)
    return seen == SEGMENTS_A_TURN


def _drop(ledger: Ledger, horizon: int, size: int) -> None:
    if horizon:
        floor = ledger.log.outlived(ledger.connection, horizon, ledger.times.at())
        ledger.connection.execute("DELETE FROM segment WHERE first <= ?", (horizon,))
        ledger.connection.execute(
            "UPDATE state SET pruned = ?, pruned_size = ?, clock_at = max(clock_at, ?)",
            (horizon, size, floor),
        )
        ledger.write_time()
        ledger.pruned, ledger.pruned_size = horizon, size


def _lose(ledger: Ledger, scraper: str, reason: str, events: int) -> Loss:
    ledger.scrapers.lose(scraper, reason, events, ledger.times.up())
    return Loss(scraper=scraper, reason=reason, events=events)
