"""Correct the times in the store after the wall clock was ahead and was set back.

One transaction does all of it:

* For each scraper that gets the events' own times, it writes down the series whose latest sample is now
  ahead of the clock (`core/sampling/ahead.py`).
* Events in the log and owed events whose `at` is ahead get one from the clock on, a millisecond apart
  within their series. So `at` ascends along the log again, and each series keeps its order.
* It lowers each scraper's floor and latest time to the clock.

A delivery in flight carries the earlier times; `ClockCorrections` corrects them when it ends. The series
that a scraper has got are known as far back as the log is held.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from attrs import evolve, frozen
from twisted.logger import Logger

from oneshotd.core.events import Event
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.store.clock import MAX_CLOCK_AHEAD, Times
from oneshotd.store.interface import ClockCorrected
from oneshotd.store.leases import Lease, Leases
from oneshotd.store.sqlite.scrapers import Scraper, ScraperTable
from oneshotd.store.sqlite.segments import LogWriter, decoded, redate


@frozen(kw_only=True)
class Correction:
    """One correction.

    :param at: Unix ms of the clock from which `at` goes on.
    :param ahead: ms by which it went back.
    :param up: up-time (ms).
    :param token: token of the last reservation before it.
    :param ats: seq -> new `at`, for the events of deliveries in flight.
    """

    at: int
    ahead: int
    up: int
    token: int
    ats: Mapping[int, int]


class ClockCorrections:
    """Corrects the times of a ledger, and of the deliveries in flight."""

    _log = Logger()

    def __init__(self, times: Times, scrapers: ScraperTable, leases: Leases, log: LogWriter) -> None:
        self._times = times
        self._scrapers = scrapers
        self._leases = leases
        self._writer = log
        self._last: Correction | None = None
        self._unsaid = False

    def begin(self, connection: sqlite3.Connection, pruned: int, pruned_size: int) -> None:
        """Prepare for a transaction: start `at` again if it is too far ahead of the clock."""
        if not self._times.is_wrong:
            return
        ahead = self._times.start_again()
        now, up = self._times.at(), self._times.up()
        self._scrapers.mark_ahead(now)
        self._note_shown(connection, now, up)
        for scraper in self._scrapers.by_name.values():
            scraper.history = _lowered(scraper.history, now)
            self._scrapers.write(scraper)
        ats = self._redate(connection, pruned, now)
        connection.execute("UPDATE state SET clock_at = ?", (now,))
        self._writer.load(connection, pruned, pruned_size, now)
        under_way = {seq: ats[seq] for seq, _, _ in self._leases.events() if seq in ats}
        self._last = Correction(at=now, ahead=ahead, up=up, token=self._leases.last, ats=under_way)
        self._unsaid = True

    def committed(self) -> None:
        """Log the correction that the last transaction brought to disk."""
        if self._unsaid and self._last is not None:
            self._unsaid = False
            self._log.warn(
                "the wall clock was ahead by {seconds:.0f} s and was corrected: the times of events start"
                " again at the clock; scrapers with timestamps=event get no earlier sample of a series than"
                " they have",
                seconds=self._last.ahead / 1000,
            )

    def recent(self, since: int) -> ClockCorrected | None:
        """Return the last correction, unless it was before this up-time (ms)."""
        last = self._last
        if last is None or last.up < since:
            return None
        return ClockCorrected(at=last.at, seconds=last.ahead / 1000)

    def events(self, token: int, events: Iterable[Event]) -> list[Event]:
        """Return events of a reservation with their corrected times."""
        last = self._since(token)
        if last is None:
            return list(events)
        return [event._replace(at=last.ats.get(event.seq, event.at)) for event in events]

    def history(self, token: int, history: TimestampHistory) -> TimestampHistory:
        """Return a reservation's timestamp history, corrected."""
        last = self._since(token)
        return history if last is None else _lowered(history, last.at)

    def show(self, scraper: Scraper, history: TimestampHistory) -> TimestampHistory:
        """Write the times to which a delivery moved samples; return the history without them."""
        if not history.moved:
            return history
        self._scrapers.show(scraper, history.moved, self._times.up(), ahead=False)
        return evolve(history, moved={})

    def settled(self, scraper: Scraper, lease: Lease, waiting: set[int]) -> None:
        """Write the times in a delivery that was planned before the last correction.

        :param scraper: its state after the delivery.
        :param waiting: seqs of reserved events that were not in the response.
        """
        last = self._since(lease.token)
        if last is None or not scraper.history.event_time:
            return
        pending = lease.pending
        times = {
            series: at
            for seq, series, at in zip(pending.seqs, pending.series, pending.ats, strict=True)
            if at > last.at and seq not in waiting and seq <= scraper.cursor
        }
        self._scrapers.show(scraper, times, self._times.up(), ahead=True)
        self._scrapers.mark_ahead(last.at)

    def _since(self, token: int) -> Correction | None:
        """Return the correction since this reservation, or None."""
        return self._last if self._last is not None and token <= self._last.token else None

    def _note_shown(self, connection: sqlite3.Connection, now: int, up: int) -> None:
        """Write the series whose latest sample is ahead, for each scraper, from the log behind its cursor."""
        scrapers = [one for one in self._scrapers.by_name.values() if one.history.event_time]
        owed = {one.name: {event.seq for event in self._scrapers.owed(one)} for one in scrapers}
        times: dict[str, dict[str, int]] = {one.name: {} for one in scrapers}
        for segment in decoded(connection, now) if scrapers else ():
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
            self._scrapers.show(scraper, times[scraper.name], up, ahead=True)

    def _redate(self, connection: sqlite3.Connection, pruned: int, now: int) -> Mapping[int, int]:
        """Correct every `at` that is ahead, in the log and in owed events; return seq -> new `at`."""
        owed = connection.execute("SELECT scraper, seq, at, series FROM owed WHERE at > ?", (now,)).fetchall()
        copies = [row[1:] for row in owed]
        # Events deleted from the log are older than the held ones, and so get their times first.
        gone = {seq: series for seq, at, series in [*copies, *self._leases.events()] if at > now}
        last: dict[str, int] = {}
        ats: dict[int, int] = {}
        for seq in sorted(seq for seq in gone if seq <= pruned):
            ats[seq] = last[gone[seq]] = last.get(gone[seq], now) + 1
        ats |= redate(connection, now, last)
        new = [(ats[seq], scraper, seq) for scraper, seq, _, _ in owed]
        connection.executemany("UPDATE owed SET at = ? WHERE scraper = ? AND seq = ?", new)
        return ats


def _lowered(history: TimestampHistory, now: int) -> TimestampHistory:
    """Return a timestamp history whose times are at most the clock's.

    :param now: Unix ms.
    """
    if max(history.floor, history.latest) <= now + MAX_CLOCK_AHEAD * 1000:
        return history
    return evolve(history, floor=min(history.floor, now), latest=min(history.latest, now))
