"""Counts the events of each type in each minute of the last hour.

An update reads the events that are new since the last update, and some older ones, until the whole
hour is counted. So neither its work nor its memory grows with the number of events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import define, field, frozen

from oneshotd.query import EventQueries, EventSeen

MINUTE = 60_000  # ms
MINUTES = 60

#: Events of one page, and pages of one update.
STEP = 1000
STEPS = 3

#: Types with a count of their own; events of further types count as `OTHER`.
MAX_TYPES = 500
OTHER = ""


def type_of(event: EventSeen) -> str:
    """Return the type of an event: its label ``type``, else the name of its metric."""
    return event.labels.get("type") or event.metric


@frozen(kw_only=True)
class Hour:
    """The events of the last hour by minutes; the last minute is not over yet.

    :param start: Unix ms at which its first minute begins.
    :param counts: pairs of a type and its events in each of the 60 minutes; most events first.
    :param since: Unix ms from which on all events are counted; `start` if all of the hour are.
    """

    start: int
    counts: tuple[tuple[str, tuple[int, ...]], ...] = ()
    since: int

    @property
    def events(self) -> int:
        """The number of all counted events."""
        return sum(sum(row) for _, row in self.counts)


@define(eq=False)
class LastHour:
    """Follows the log of events.

    :ivar latest: the newest events at the last update.
    """

    _queries: EventQueries
    _keep: int
    latest: Sequence[EventSeen] = ()
    _minutes: dict[int, Counter[str]] = field(factory=dict, init=False)
    _types: set[str] = field(factory=set, init=False)
    _newest: int = field(default=0, init=False)
    _oldest: int | None = field(default=None, init=False)
    _since: int = field(default=0, init=False)
    _whole: bool = field(default=False, init=False)
    _now: int = field(default=0, init=False)

    async def update(self, now: int) -> Hour:
        """Count new events, drop minutes that are over an hour old, and return the counts.

        :param now: Unix ms.
        :raises OneshotError: the store could not be read; the counts stay.
        """
        start = (now // MINUTE - MINUTES + 1) * MINUTE
        if now < self._now - MINUTE:
            self._reset()  # the clock was set back, and events may have other times now
        self._now = now
        pages = await self._take_new(start)
        if pages == 1 and not self._whole:
            await self._take_older(start)
        return self._hour(start)

    def _reset(self) -> None:
        self._minutes.clear()
        self._types.clear()
        self._newest, self._oldest, self._since, self._whole = 0, None, 0, False

    async def _take_new(self, start: int) -> int:
        """Count the events since the last update; return the number of pages read."""
        fresh: list[EventSeen] = []
        before: int | None = None
        pages, joined = 0, False
        while not joined and pages < (STEPS if self._newest else 1):
            # Usually there are few new events.
            limit = self._keep if self._newest and not pages else STEP
            page = await self._queries.events({}, limit=limit, before=before)
            if before is None:
                latest = page.events[: self._keep]
            new = [event for event in page.events if event.seq > self._newest and event.at >= start]
            fresh += new
            before = page.next
            joined = before is None or len(new) < len(page.events)
            pages += 1
        self.latest = latest
        if not joined:  # the first update, or more new events than one update reads
            self._minutes.clear()
            self._types.clear()
        if not joined or not self._newest:
            self._oldest = before
            self._whole = joined
            self._since = min((event.at for event in fresh), default=start)
        self._add(fresh)
        self._newest = max((event.seq for event in fresh), default=self._newest)
        return pages

    async def _take_older(self, start: int) -> None:
        page = await self._queries.events({}, limit=STEP, before=self._oldest)
        inside = [event for event in page.events if event.at >= start]
        self._add(inside)
        self._oldest = page.next
        self._whole = page.next is None or len(inside) < len(page.events)
        self._since = min([self._since, *(event.at for event in inside)])

    def _add(self, events: Sequence[EventSeen]) -> None:
        for event in events:
            kind = type_of(event)
            if kind not in self._types:
                if len(self._types) >= MAX_TYPES:
                    kind = OTHER
                self._types.add(kind)
            self._minutes.setdefault(event.at // MINUTE, Counter())[kind] += 1

    def _hour(self, start: int) -> Hour:
        first = start // MINUTE
        for old in [minute for minute in self._minutes if minute < first]:
            del self._minutes[old]
        totals: Counter[str] = Counter()
        for minute in self._minutes.values():
            totals.update(minute)
        self._types = set(totals)
        empty: Counter[str] = Counter()
        minutes = [self._minutes.get(first + n, empty) for n in range(MINUTES)]
        ranked = sorted(totals, key=lambda kind: (-totals[kind], kind))
        rows = tuple((kind, tuple(minute[kind] for minute in minutes)) for kind in ranked)
        return Hour(start=start, counts=rows, since=start if self._whole else max(start, self._since))
