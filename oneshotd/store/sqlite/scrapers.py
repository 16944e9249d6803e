"""The tables `scraper`, `owed` and `loss`, with a copy of the first in memory.

At most `MAX_SCRAPERS` rows, each some hundred bytes; what a scraper is owed stays on disk.
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
    """A row of the table `scraper`, and how many events it is owed.

    :ivar ahead: series -> time (Unix ms) of its latest sample, where a clock that was ahead gave it.
    """

    id: int
    name: str
    named: bool
    timed: bool
    answered: int
    cursor: int
    seen_up: int
    seen_at: int
    past: TimestampHistory = NO_HISTORY
    owed: int = 0
    ahead: Mapping[str, int] = field(factory=dict)

    @property
    def live(self) -> bool:
        """Whether events are kept for it (docs/semantics.md); it is removed when it is away too long."""
        return self.named or self.answered >= LIVE_AFTER


class ScraperTable:
    """Who scrapes; changes are part of the caller's transaction."""

    def __init__(self) -> None:
        self.by_name: dict[str, Scraper] = {}
        #: Who was seen since the daemon's start.
        self.here: set[str] = set()
        self._seen: set[str] = set()
        self._written: set[str] = set()  # whose visits this transaction brings to disk

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the tables anew; that a scraper was here stays true when a transaction is undone."""
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
                past=TimestampHistory(event_time=bool(event_time), floor=floor, latest=latest),
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
        """Note the times of the latest samples of some series.

        :param up: up-time, ms.
        :param ahead: they are ahead of the clock.
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
        """What was shown beyond this time (Unix ms) is ahead of the clock."""
        self._connection.execute("UPDATE shown SET ahead = 1 WHERE at > ?", (now,))
        self._load_ahead()

    def forget_shown(self, up: int, now: int) -> None:
        """Drop what is older than this up-time and behind the clock since this time (Unix ms)."""
        gone = self._connection.execute("DELETE FROM shown WHERE up < ? AND at < ?", (up, now)).rowcount
        if gone and any(scraper.ahead for scraper in self.by_name.values()):
            self._load_ahead()

    def live(self) -> Iterator[Scraper]:
        """Those whom events wait for."""
        return (scraper for scraper in self.by_name.values() if scraper.live)

    def make_room(self, visit: Visit, is_reserved: Callable[[str], bool]) -> bool:
        """Return whether this newcomer can be registered; for a named one, delete a visitor if need be.

        :param is_reserved: whether a delivery to the scraper of this name is under way.
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
        """A free row number."""
        return 1 + max((scraper.id for scraper in self.by_name.values()), default=0)

    def write(self, scraper: Scraper) -> None:
        """Bring a row to disk."""
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
                scraper.past.event_time,
                scraper.past.floor,
                scraper.past.latest,
            ),
        )

    def saw(self, scraper: Scraper, up: int, at: int) -> None:
        """Note a visit; it comes to disk with `write_seen`, never by a commit of its own."""
        scraper.seen_up, scraper.seen_at = up, at
        self._seen.add(scraper.name)
        self.here.add(scraper.name)

    def write_seen(self) -> None:
        """Bring the visits noted so far to disk."""
        for name in self._seen & self.by_name.keys():
            self.write(self.by_name[name])
        self._written |= self._seen
        self._seen.clear()

    def begin(self) -> None:
        """A transaction begins: what the one before has written is on disk, or noted again."""
        self._written.clear()

    def delete(self, scraper: Scraper) -> None:
        """Forget a scraper and what it is owed."""
        self._connection.execute("DELETE FROM owed WHERE scraper = ?", (scraper.id,))
        self._connection.execute("DELETE FROM shown WHERE scraper = ?", (scraper.id,))
        self._connection.execute("DELETE FROM scraper WHERE id = ?", (scraper.id,))
        del self.by_name[scraper.name]
        self.here.discard(scraper.name)

    def owe(self, scraper: Scraper, events: Sequence[Event]) -> None:
        """Keep copies of events that the scraper has yet to get."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO owed VALUES (?, ?, ?, ?, ?)", [(scraper.id, *event) for event in events]
        )
        self._count(scraper)

    def unowe(self, scraper: Scraper, seqs: Sequence[int]) -> None:
        """Drop such copies."""
        self._connection.executemany(
            "DELETE FROM owed WHERE scraper = ? AND seq = ?", [(scraper.id, seq) for seq in seqs]
        )
        self._count(scraper)

    def _count(self, scraper: Scraper) -> None:
        # Counted anew, since a settlement may be repeated after a commit of unknown outcome.
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
        """What the scraper is owed, ascending by seq.

        :raises sqlite3.DatabaseError: it has rotted.
        """
        rows = self._connection.execute(
            "SELECT seq, at, series, value FROM owed WHERE scraper = ? ORDER BY seq", (scraper.id,)
        )
        for event in map(Event._make, rows):
            if fault := fault_in(event.series, (event.at,)):
                raise corrupt(f"what scraper {scraper.name!r} is owed {fault}")
            yield event
