"""The wall clock was ahead and was corrected: `at` starts again, and what is dated ahead is set right.

One transaction does all of it:

* For each scraper that gets the events' own times: the series of which it has a sample that is ahead of
  the clock now are noted (`core/ahead.py`).
* Events in the log, and owed ones, with an `at` that is ahead get one from the clock on, a millisecond
  apart within their series. So `at` ascends along the log again, and each series keeps its order.
* A scraper's floor and latest time are lowered to the clock.

A delivery that is under way carries what was before; `late` and `lowered` set that right when it ends.
Which series a scraper was shown is known as far back as the log is held.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from twisted.logger import Logger

from oneshotd.core.event import Event
from oneshotd.core.timeline import Past
from oneshotd.store.clock import MAX_CLOCK_AHEAD
from oneshotd.store.interface import ClockCorrected
from oneshotd.store.leases import Lease
from oneshotd.store.scrapers import Scraper
from oneshotd.store.segments import decoded, redate

if TYPE_CHECKING:
    from oneshotd.store.ledger import Ledger

_log = Logger()


@frozen(kw_only=True)
class Correction:
    """One correction.

    :param at: Unix ms of the clock from which `at` goes on.
    :param ahead: ms by which it went back.
    :param up: up-time (ms).
    :param token: of the last reservation before it.
    """

    at: int
    ahead: int
    up: int
    token: int

    @property
    def shown(self) -> ClockCorrected:
        """As the page shows it."""
        return ClockCorrected(at=self.at, seconds=self.ahead / 1000)

    def log(self) -> None:
        """Say it."""
        _log.warn(
            "the wall clock was ahead by {seconds:.0f} s and was corrected: the times of events start again"
            " at the clock; scrapers with timestamps=event get no earlier sample of a series than they have",
            seconds=self.ahead / 1000,
        )


def correct(ledger: Ledger) -> Correction:
    """Let `at` start again; inside a transaction, before anything else in it."""
    ahead = ledger.times.start_again()
    now, up = ledger.times.at(), ledger.times.up()
    ledger.scrapers.mark_ahead(now)
    _note_shown(ledger, now, up)
    for scraper in ledger.scrapers.by_name.values():
        scraper.past = lowered(scraper.past, now)
        ledger.scrapers.write(scraper)
    ats = redate(ledger.connection, now)
    _redate_owed(ledger.connection, ats, now)
    ledger.connection.execute("UPDATE state SET clock_at = ?", (now,))
    ledger.log.load(ledger.connection, ledger.pruned, ledger.pruned_size, now)
    return Correction(at=now, ahead=ahead, up=up, token=ledger.leases.last)


def lowered(past: Past, now: int) -> Past:
    """What a scraper has been shown, as far as it binds the next response.

    :param now: Unix ms.
    """
    if max(past.floor, past.latest) <= now + MAX_CLOCK_AHEAD * 1000:
        return past
    return evolve(past, floor=min(past.floor, now), latest=min(past.latest, now))


def _note_shown(ledger: Ledger, now: int, up: int) -> None:
    """Note of which series each scraper has a sample that is ahead, by the log behind its cursor."""
    scrapers = [scraper for scraper in ledger.scrapers.by_name.values() if scraper.past.event_time]
    owed = {scraper.name: {event.seq for event in ledger.scrapers.owed(scraper)} for scraper in scrapers}
    times: dict[str, dict[str, int]] = {scraper.name: {} for scraper in scrapers}
    for segment in decoded(ledger.connection, now) if scrapers else ():
        events = [event for event in segment.events() if event.at > now]
        for scraper in scrapers:
            if not events or scraper.cursor < events[0].seq:
                continue
            mine, waits = times[scraper.name], owed[scraper.name]
            mine.update(
                (event.series, event.at)
                for event in events
                if event.seq <= scraper.cursor and event.seq not in waits
            )
    for scraper in scrapers:
        if times[scraper.name]:
            ledger.scrapers.show(scraper, times[scraper.name], up, ahead=True)


def _redate_owed(connection: sqlite3.Connection, ats: Mapping[int, int], now: int) -> None:
    rows = connection.execute(
        "SELECT scraper, seq, series FROM owed WHERE at > ? ORDER BY scraper, seq", (now,)
    ).fetchall()
    latest: dict[tuple[int, str], int] = {}
    new = []
    for scraper, seq, series in rows:
        at = max(ats.get(seq, 0), latest.get((scraper, series), now) + 1)
        latest[scraper, series] = at
        new.append((at, scraper, seq))
    connection.executemany("UPDATE owed SET at = ? WHERE scraper = ? AND seq = ?", new)


def late(ledger: Ledger, correction: Correction, scraper: Scraper, lease: Lease, waiting: set[int]) -> None:
    """Note what a delivery has shown that was planned before the correction.

    :param waiting: seqs of its events that did not go out.
    """
    pending = lease.pending
    times = {
        series: at
        for seq, series, at in zip(pending.seqs, pending.series, pending.ats, strict=True)
        if at > correction.at and seq not in waiting and seq <= scraper.cursor
    }
    if times and scraper.past.event_time:
        ledger.scrapers.show(scraper, times, ledger.times.up(), ahead=True)


def redated(events: list[Event], correction: Correction) -> list[Event]:
    """Events that were read before the correction, as they are to be kept."""
    latest: dict[str, int] = {}
    kept = []
    for event in events:
        at = event.at
        if at > correction.at:
            at = latest.get(event.series, correction.at) + 1
        latest[event.series] = at
        kept.append(event._replace(at=at))
    return kept
