"""The rows of scrapers: what is read of one, and how a new one is registered."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from oneshotd.core.identity import LIVE_AFTER, MAX_SCRAPERS, Visit
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.core.visits import KEPT_VISITS, OVERLAPS, habit_lasts, interval, is_shared
from oneshotd.store.interface import ScraperCounts
from oneshotd.store.limits import Limits
from oneshotd.store.postgresql.link import NEWCOMERS, Link
from oneshotd.store.postgresql.segments import seq_before

#: Whether events are kept for a scraper, in SQL.
LIVE = f"(named OR answered >= {LIVE_AFTER})"

_COLUMNS = (
    "id, name, named, timed, answered, cursor, owed, seen_up, seen_at, event_time, floor_at, latest_at,"
    " token, state, until_up, delivered, returned, revoked, uncertain, superseded, queueing, visit_ups,"
    " overlap_ups, holder, timed_up, shown_end"
)
#: Ms in which a scrape that waits for another daemon's delivery asks again.
ASKS_AGAIN = 2000

#: Assignments that note a scrape, and one that met a delivery in flight, once for each delivery: one lease
#: that a dead daemon has left behind is no second scraper. A scrape that asks again is one scrape.
VISITED = f"""
  visit_ups = CASE WHEN overlap_token = token
      AND visit_ups[cardinality(visit_ups)] > %(up)s::bigint - {ASKS_AGAIN} THEN visit_ups
    ELSE (visit_ups || %(up)s::bigint)[greatest(cardinality(visit_ups) + 2 - {KEPT_VISITS}, 1):] END"""
OVERLAPPED = f"""
  overlap_ups = CASE WHEN overlap_token IS NOT DISTINCT FROM token THEN overlap_ups
    ELSE (overlap_ups || %(up)s::bigint)[greatest(cardinality(overlap_ups) + 2 - {OVERLAPS}, 1):] END,
  overlap_token = token"""

#: Finds a scraper by its name.
FIND = f"SELECT {_COLUMNS} FROM scraper WHERE name = %s"
#: Reads all of them.
ALL = f"SELECT {_COLUMNS} FROM scraper ORDER BY id"
_INSERT = f"""
INSERT INTO scraper (name, named, cursor, seen_up, seen_at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (name) DO NOTHING RETURNING {_COLUMNS}"""
_VISITOR = f"""
SELECT id FROM scraper WHERE NOT {LIVE} AND NOT (state <> 0 AND until_up > %s)
ORDER BY seen_up, id LIMIT 1 FOR UPDATE"""


@frozen
class Present:
    """The head of the log and the present time.

    :param now: Unix ms by the database's clock.
    :param up: up-time (ms) of the service.
    :param latest_at: no event gets an earlier time.
    """

    now: int
    up: int
    head: int
    pruned: int
    total_size: int
    pruned_size: int
    latest_at: int


@frozen
class Row:
    """The row of a scraper."""

    id: int
    name: str
    named: bool
    timed: bool
    answered: int
    cursor: int
    owed: int
    seen_up: int
    seen_at: int
    event_time: bool
    floor_at: int
    latest_at: int
    token: int | None = None
    state: int = 0
    until_up: int = 0
    delivered: int = 0
    returned: int = 0
    revoked: int = 0
    uncertain: int = 0
    superseded: int = 0
    queueing: int = 0
    visit_ups: tuple[int, ...] = field(default=(), converter=tuple)
    overlap_ups: tuple[int, ...] = field(default=(), converter=tuple)
    holder: str | None = None
    timed_up: int = -1
    shown_end: int = 0

    @property
    def live(self) -> bool:
        """Whether events are kept for it."""
        return self.named or self.answered >= LIVE_AFTER

    @property
    def history(self) -> TimestampHistory:
        """The timestamps of the samples that it got."""
        return TimestampHistory(event_time=self.event_time, floor=self.floor_at, latest=self.latest_at)

    def counts(self, up: int) -> ScraperCounts:
        """Return its figures.

        :param up: the present up-time (ms).
        """
        return ScraperCounts(
            delivered=self.delivered,
            returned=self.returned,
            revoked=self.revoked,
            uncertain=self.uncertain,
            superseded=self.superseded,
            queueing=self.queueing,
            interval=self.interval,
            shared=is_shared([each / 1000 for each in self.overlap_ups], up / 1000),
        )

    def start(self, pruned: int) -> int:
        """Return the seq behind which it reads the log; events are not kept for a visitor."""
        return self.cursor if self.live else max(self.cursor, pruned)

    @property
    def interval(self) -> float | None:
        """The seconds between its scrapes, whichever daemon they reach."""
        return interval([each / 1000 for each in self.visit_ups])

    def expects_header(self, up: int) -> bool:
        """Return whether a request without the timeout header is not from this scraper."""
        lasts = habit_lasts(self.interval) * 1000
        return self.timed and self.timed_up >= 0 and up - self.timed_up < lasts

    def read_to(self, head: int) -> int:
        """Return the seq up to which its next response may read the log.

        It may have read a count that was returned or revoked. The next response must not show that count
        with further events: 2 and then 3 would add up to 5 for 3 events.
        """
        return min(head, self.shown_end) if self.shown_end > self.cursor else head

    def in_flight(self, up: int) -> bool:
        """Return whether a delivery to it is in flight, or can still be revoked."""
        return self.state != 0 and self.until_up > up


def present_query(link: Link) -> str:
    """Return the query of a `Present`."""
    return (
        "SELECT now, up, head, pruned, total_size, pruned_size, greatest(clock_at, floor_at)"
        f" FROM ({link.present}) p"
    )


def present(link: Link) -> Present:
    """Read the present."""
    return Present(*link.one(present_query(link)))


def find(link: Link, name: str, lock: bool = False) -> Row | None:
    """Return a scraper's row, locked until the end of the transaction if so wanted."""
    row = link.one(FIND + (" FOR UPDATE" if lock else ""), (name,))
    return None if row is None else Row(*row)


def all_rows(link: Link, lock: bool = False) -> list[Row]:
    """Return all scrapers, by id."""
    return [Row(*row) for row in link.execute(ALL + (" FOR UPDATE" if lock else "")).fetchall()]


def newcomer(visit: Visit, at: Present, cursor: int) -> Row:
    """Return the row that a new scraper gets."""
    history = (False, 0, 0)
    return Row(0, visit.name, visit.named, False, 0, cursor, 0, at.up, at.now, *history)


def first_cursor(link: Link, limits: Limits, at: Present) -> int:
    """Return the cursor of a new scraper: behind the events older than the newcomers' window."""
    window = int(min(limits.newcomers, limits.hold) * 1000)
    return min(seq_before(link, at.up - window, at.pruned), at.head)


def register(link: Link, visit: Visit, limits: Limits, at: Present) -> Row | None:
    """Insert a new scraper, in the caller's transaction; None if there are too many."""
    link.execute(f"SELECT pg_advisory_xact_lock{NEWCOMERS}")
    found = find(link, visit.name, lock=True)
    if found is not None:
        return found
    if link.one("SELECT count(*) FROM scraper")[0] >= MAX_SCRAPERS:
        visitor = link.one(_VISITOR, (at.up,)) if visit.named else None
        if visitor is None:
            return None
        delete(link, visitor[0])
    values = (visit.name, visit.named, first_cursor(link, limits, at), at.up, at.now)
    row: Any = link.one(_INSERT, values)
    return None if row is None else Row(*row)


def delete(link: Link, number: int) -> None:
    """Delete a scraper and its owed events."""
    link.execute("DELETE FROM owed WHERE scraper = %s", (number,))
    link.execute("DELETE FROM shown WHERE scraper = %s", (number,))
    link.execute("DELETE FROM scraper WHERE id = %s", (number,))


def lose(link: Link, scraper: str, reason: str, events: int, up: int) -> None:
    """Count events that a scraper will never get; with a negative number, take that back."""
    link.execute(
        "INSERT INTO loss VALUES (%s, %s, %s, %s) ON CONFLICT (scraper, reason)"
        " DO UPDATE SET events = loss.events + excluded.events, up = excluded.up",
        (scraper, reason, events, up),
    )
    if events < 0:
        link.execute("DELETE FROM loss WHERE scraper = %s AND reason = %s AND events <= 0", (scraper, reason))
