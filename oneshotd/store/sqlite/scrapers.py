"""The tables `scraper`, `owed`, `shown` and `loss`, with a copy of the first in memory.

The copy has at most `MAX_SCRAPERS` rows of some hundred bytes; owed events stay on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import define, field

from oneshotd.core.events import Event
from oneshotd.core.identity import LIVE_AFTER, MAX_SCRAPERS, Visit
from oneshotd.core.sampling.mode import NO_HISTORY, TimestampHistory
from oneshotd.store.soundness import fault_in
from oneshotd.store.sqlite.connection import corrupt


@define(kw_only=True)
class Scraper:
    """A row of the table `scraper`, and the number of its owed events.

    :ivar ahead: series -> time (Unix ms) of its latest sample, if a clock that was ahead gave it.
    """

    id: int
    name: str
    named: bool
    timed: bool
    answered: int
    cursor: int
    seen_up: int
    seen_at: int
    history: TimestampHistory = NO_HISTORY
    owed: int = 0
    ahead: Mapping[str, int] = field(factory=dict)

    @property
    def live(self) -> bool:
        """Whether events are kept for it (docs/semantics.md), until it is unseen for the hold."""
        return self.named or self.answered >= LIVE_AFTER


class ScraperTable:
    """The known scrapers; changes are part of the caller's transaction."""

    def __init__(self) -> None:
        self.by_name: dict[str, Scraper] = {}
        #: Names of the scrapers seen since the daemon's start.
        self.here: set[str] = set()
        self._seen: set[str] = set()
        self._written: set[str] = set()  # names of those whose visits this transaction writes

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the tables again; visits noted in memory survive the rollback of a transaction."""
        self._connection = connection
        self._seen |= self._written
        seen = [self.by_name[name] for name in self._seen & self.by_name.keys()]
        owed = dict(connection.execute("SELECT scraper, count(*) FROM owed GROUP BY scraper"))
        rows = connection.execute(
            "SELECT id, name, named, timed, answered, cursor, seen_up, seen_at,"
            " event_time, floor_at, latest_at FROM scraper"
        ).fetchall()
        if fault := fault_in("", [row[7] for row in rows]):
            raise corrupt(f"the table of scrapers {fault}")
        self.by_name = {
            name: Scraper(
                id=number,
                name=name,
                named=bool(named),
                timed=bool(timed),
                answered=answered,
                cursor=cursor,
                seen_up=seen_up,
                seen_at=seen_at,
                history=TimestampHistory(event_time=bool(event_time), floor=floor, latest=latest),
                owed=owed.get(number, 0),
            )
            for (
                number,
                name,
                named,
                timed,
                answered,
                cursor,
                seen_up,
                seen_at,
                event_time,
                floor,
                latest,
            ) in rows
        }
        self._load_ahead()
        self._seen &= self.by_name.keys()
        for before in seen:
            if before.name in self._seen:
                self.saw(self.by_name[before.name], before.seen_up, before.seen_at)

    def _load_ahead(self) -> None:
        ahead: dict[int, dict[str, int]] = {}
        rows = self._connection.execute("SELECT scraper, series, at FROM shown WHERE ahead = 1")
        for number, series, at in rows:
            ahead.setdefault(number, {})[series] = at
        for scraper in self.by_name.values():
            scraper.ahead = ahead.get(scraper.id, {})

    def show(self, scraper: Scraper, times: Mapping[str, int], up: int, ahead: bool) -> None:
        """Write the times of a scraper's latest samples of some series.

        :param up: up-time, ms.
        :param ahead: the times are ahead of the clock.
        """
        self._connection.executemany(
            "INSERT INTO shown VALUES (?, ?, ?, ?, ?) ON CONFLICT (scraper, series) DO UPDATE"
            " SET at = max(at, excluded.at), up = excluded.up, ahead = max(ahead, excluded.ahead)",
            [(scraper.id, series, at, up, ahead) for series, at in times.items()],
        )
        if ahead:
            latest = {series: max(at, scraper.ahead.get(series, at)) for series, at in times.items()}
            scraper.ahead = {**scraper.ahead, **latest}

    def mark_ahead(self, now: int) -> None:
        """Mark the samples with times beyond this one (Unix ms) as ahead of the clock."""
        self._connection.execute("UPDATE shown SET ahead = 1 WHERE at > ?", (now,))
        self._load_ahead()

    def forget_shown(self, up: int, now: int) -> None:
        """Delete samples noted before this up-time (ms) with a time before this one (Unix ms)."""
        gone = self._connection.execute("DELETE FROM shown WHERE up < ? AND at < ?", (up, now)).rowcount
        if gone and any(scraper.ahead for scraper in self.by_name.values()):
            self._load_ahead()

    def live(self) -> Iterator[Scraper]:
        """Iterate over the scrapers for which events are kept."""
        return (scraper for scraper in self.by_name.values() if scraper.live)

    def make_room(self, visit: Visit, is_reserved: Callable[[str], bool]) -> bool:
        """Return whether a new scraper can be registered; delete a visitor for a named one if need be.

        :param is_reserved: whether a delivery to the scraper of this name is in flight.
        """
        if len(self.by_name) < MAX_SCRAPERS:
            return True
        if not visit.named:
            return False
        visitors = sorted(
            (scraper for scraper in self.by_name.values() if not scraper.live),
            key=lambda scraper: scraper.seen_up,
        )
        longest_unseen = next((visitor for visitor in visitors if not is_reserved(visitor.name)), None)
        if longest_unseen is None:
            return False
        self.delete(longest_unseen)
        return True

    def next_id(self) -> int:
        """Return a free row number."""
        return 1 + max((scraper.id for scraper in self.by_name.values()), default=0)

    def write(self, scraper: Scraper) -> None:
        """Write a row."""
        self.by_name[scraper.name] = scraper
        self._connection.execute(
            "INSERT OR REPLACE INTO scraper VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                scraper.id,
                scraper.name,
                scraper.named,
                scraper.timed,
                scraper.answered,
                scraper.cursor,
                scraper.seen_up,
                scraper.seen_at,
                scraper.history.event_time,
                scraper.history.floor,
                scraper.history.latest,
            ),
        )

    def saw(self, scraper: Scraper, up: int, at: int) -> None:
        """Note a visit in memory; `write_seen` writes it with a transaction that writes anyway."""
        scraper.seen_up, scraper.seen_at = up, at
        self._seen.add(scraper.name)
        self.here.add(scraper.name)

    def write_seen(self) -> None:
        """Write the visits noted so far."""
        for name in self._seen & self.by_name.keys():
            self.write(self.by_name[name])
        self._written |= self._seen
        self._seen.clear()

    def begin(self) -> None:
        """Prepare for a transaction: the visits that the last one wrote are on disk, or noted again."""
        self._written.clear()

    def delete(self, scraper: Scraper) -> None:
        """Delete a scraper and its owed events."""
        self._connection.execute("DELETE FROM owed WHERE scraper = ?", (scraper.id,))
        self._connection.execute("DELETE FROM shown WHERE scraper = ?", (scraper.id,))
        self._connection.execute("DELETE FROM scraper WHERE id = ?", (scraper.id,))
        del self.by_name[scraper.name]
        self.here.discard(scraper.name)

    def owe(self, scraper: Scraper, events: Sequence[Event]) -> None:
        """Copy events that the scraper has yet to get out of the log."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO owed VALUES (?, ?, ?, ?, ?)",
            [(scraper.id, *event[:4]) for event in events],
        )
        self._count(scraper)

    def unowe(self, scraper: Scraper, seqs: Sequence[int]) -> None:
        """Delete such copies."""
        self._connection.executemany(
            "DELETE FROM owed WHERE scraper = ? AND seq = ?", [(scraper.id, seq) for seq in seqs]
        )
        self._count(scraper)

    def _count(self, scraper: Scraper) -> None:
        # Counted again, since a settlement may be repeated after a commit of unknown outcome.
        count = self._connection.execute("SELECT count(*) FROM owed WHERE scraper = ?", (scraper.id,))
        scraper.owed = count.fetchone()[0]

    def lose(self, scraper: str, reason: str, events: int, up: int) -> None:
        """Count events that a scraper will never get.

        :param up: up-time, ms.
        """
        self._connection.execute(
            "INSERT INTO loss VALUES (?, ?, ?, ?) ON CONFLICT (scraper, reason)"
            " DO UPDATE SET events = events + excluded.events, up = excluded.up",
            (scraper, reason, events, up),
        )

    def unlose(self, scraper: str, reason: str, events: int) -> None:
        """Undo `lose`: the events are pending again."""
        key = (scraper, reason)
        self._connection.execute(
            "UPDATE loss SET events = events - ? WHERE scraper = ? AND reason = ?", (events, *key)
        )
        self._connection.execute("DELETE FROM loss WHERE scraper = ? AND reason = ? AND events <= 0", key)

    def owed(self, scraper: Scraper) -> Iterator[Event]:
        """Iterate over the scraper's owed events, ascending by seq.

        :raises sqlite3.DatabaseError: one of them is damaged.
        """
        rows = self._connection.execute(
            "SELECT seq, at, series, value FROM owed WHERE scraper = ? ORDER BY seq", (scraper.id,)
        )
        for row in rows:
            event = Event(*row)
            if fault := fault_in(event.series, (event.at,)):
                raise corrupt(f"what scraper {scraper.name!r} is owed {fault}")
            yield event
