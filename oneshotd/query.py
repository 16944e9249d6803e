"""Looking without taking: held events and known scrapers, for the API and the page.

Nothing here consumes an event or makes a scraper known. A look is bounded in what it reads of the
log and in what it holds in memory, and looks through the log take turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from oneshotd.admission import AdmissionQueue
from oneshotd.core.events import Event, labels_of, metric_of
from oneshotd.core.filters import Selection
from oneshotd.errors import StoreUnavailable
from oneshotd.metrics.looks import OnlyLooks
from oneshotd.metrics.registry import Tally, Telemetry
from oneshotd.store.interface import ClockCorrected, IStore, ScraperStatus

T = TypeVar("T")

#: Events of one page at most.
MAX_PAGE = 1000

#: Events that one call looks at, about; a million take it five to ten calls.
MAX_LOOKED = 200_000

#: Characters of series text beyond which a page ends: a thousand large events are 250 MB.
MAX_PAGE_TEXT = 1 << 20

#: Seconds that the store has for each step, and that a look waits for its turn.
PATIENCE = 5.0


@frozen(kw_only=True)
class EventSeen:
    """One held event.

    :param seq: its place in the log.
    :param at: acceptance time, Unix ms.
    :param series: canonical text, ``name{a="x"}``.
    :param metric: the metric name in it.
    :param labels: the labels in it.
    :param value: text as exposed; None: one occurrence.
    """

    seq: int
    at: int
    series: str
    metric: str
    labels: Mapping[str, str]
    value: str | None


@frozen(kw_only=True)
class EventsPage:
    """Events, newest first.

    :param next: the seq before which to go on; None where there is nothing more. A page may be
        empty and have a next one: then nothing was found in the part that was looked at.
    """

    events: tuple[EventSeen, ...]
    next: int | None


@frozen(kw_only=True)
class ScraperSeen:
    """One scraper. Counters are of events, and run since the daemon's start but for `lost`.

    :param named: it says its name itself.
    :param live: events wait for it; others are visitors.
    :param last_seen: Unix ms of its last scrape.
    :param interval: seconds between its scrapes, as a rule; None before there were three.
    :param answered: scrapes delivered to it, ever.
    :param cursor: seq up to which it has every event, except those it is owed.
    :param pending: events to come, owed ones among them.
    :param owed: events behind the cursor that it has yet to get.
    :param oldest_pending: `at` (Unix ms) of the oldest one to come, or None.
    :param queueing: series whose events wait behind each other.
    :param in_flight: a delivery to it is under way, or may still be revoked.
    :param delivered: arrival acknowledged.
    :param returned: sent and not arrived; they go out again.
    :param revoked: arrived and thrown away unread; they go out again.
    :param uncertain: returned ones that may have arrived.
    :param shared: several connections seem to scrape under this identity.
    :param own_beyond: its limits into which the daemon's own metrics alone do not fit.
    :param lost: reason ("away", "log full", …) -> events it will never get, also before the start.
    """

    name: str
    named: bool
    live: bool
    last_seen: int
    interval: float | None
    answered: int
    cursor: int
    pending: int
    owed: int
    oldest_pending: int | None
    queueing: int
    in_flight: bool
    delivered: int
    returned: int
    revoked: int
    uncertain: int
    lost: Mapping[str, int]
    shared: bool = False
    own_beyond: tuple[str, ...] = ()


@frozen(kw_only=True)
class ScraperOverview:
    """Who reads, as of one look.

    :param scrapers: everyone who is known, by name.
    :param lost: scraper -> reason -> events missed; for a day also of those that are no longer known.
    :param only_looks: identities, known or not, that get only looks.
    :param clock: the last correction of a clock that was ahead, for a hold after it.
    """

    scrapers: list[ScraperSeen]
    lost: Mapping[str, Mapping[str, int]]
    only_looks: Sequence[OnlyLooks] = ()
    clock: ClockCorrected | None = None


class EventQueries:
    """What can be seen from outside."""

    def __init__(self, store: IStore, telemetry: Telemetry, clock: IReactorTime) -> None:
        self._store = store
        self._telemetry = telemetry
        self._clock = clock
        self._lane = AdmissionQueue(clock)

    async def events(
        self,
        filters: Mapping[str, str],
        since: int | None = None,
        until: int | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> EventsPage:
        """A page of the held events that match, newest first.

        Going on with ``before=page.next`` gives each event once, whatever comes in meanwhile.

        :param filters: label -> value, "" where the label must be absent; ``__name__`` is the
            metric name. Names are legal label names.
        :param since: Unix ms of the earliest.
        :param until: Unix ms before which they are.
        :param limit: from 1 to `MAX_PAGE`.
        :param before: only events below this seq.
        :raises Refused: too many look at the same time (503).
        :raises StoreUnavailable: the store has no answer.
        :raises ValueError: `limit` is out of its bounds.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit: expected 1 to {MAX_PAGE}, got {limit}")
        selection = Selection(where=dict(filters), since=since, until=until)
        async with self._lane.look(self._clock.seconds() + PATIENCE):
            return await self._look_back(selection, before, limit)

    async def _look_back(self, selection: Selection, before: int | None, limit: int) -> EventsPage:
        found: list[Event] = []
        looked = size = 0
        while True:
            stretch = await self._patiently(self._store.recent(selection, before, limit - len(found)))
            found += stretch.events
            before = stretch.next
            looked += stretch.looked
            size += sum(len(event.series) for event in stretch.events)
            if before is None or len(found) >= limit or looked >= MAX_LOOKED or size >= MAX_PAGE_TEXT:
                return EventsPage(events=tuple(map(_seen, found)), next=before)

    async def scrapers(self) -> list[ScraperSeen]:
        """Everyone who is known, by name.

        :raises StoreUnavailable: the store has no answer.
        """
        return (await self.survey()).scrapers

    async def survey(self) -> ScraperOverview:
        """Everyone who is known, and what was missed.

        :raises StoreUnavailable: the store has no answer.
        """
        census = await self._patiently(self._store.census())
        known = sorted(census.scrapers, key=lambda status: status.name)
        now = self._clock.seconds()
        lost: dict[str, dict[str, int]] = {}
        for (scraper, reason), events in census.lost.items():
            lost.setdefault(scraper, {})[reason] = events
        return ScraperOverview(
            scrapers=[_scraper(status, self._telemetry.tally(status.name), now) for status in known],
            lost=lost,
            only_looks=self._telemetry.looks.only(now),
            clock=census.clock,
        )

    async def _patiently(self, asked: Deferred[T]) -> T:
        try:
            return await asked.addTimeout(PATIENCE, self._clock)
        except TimeoutError:
            raise StoreUnavailable(f"no answer in {PATIENCE:g} s") from None


def _seen(event: Event) -> EventSeen:
    return EventSeen(
        seq=event.seq,
        at=event.at,
        series=event.series,
        metric=metric_of(event.series),
        labels=labels_of(event.series),
        value=event.value,
    )


def _scraper(status: ScraperStatus, tally: Tally, now: float) -> ScraperSeen:
    return ScraperSeen(
        name=status.name,
        named=status.named,
        live=status.live,
        last_seen=status.seen_at,
        interval=tally.interval,
        answered=status.answered,
        cursor=status.cursor,
        pending=status.pending,
        owed=status.owed,
        oldest_pending=status.oldest_at,
        queueing=tally.queueing,
        in_flight=status.in_flight,
        delivered=tally.delivered,
        returned=tally.returned,
        revoked=tally.revoked,
        uncertain=tally.uncertain,
        lost=dict(status.lost),
        shared=tally.is_shared(now),
        own_beyond=tally.own_beyond,
    )
