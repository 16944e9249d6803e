"""Queries for the API and the status page: held events and known scrapers, without consuming any.

No query takes an event from a scraper or registers a scraper. Each one is bounded in what it reads of
the log and holds in memory, and queries of the log run one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from oneshotd.admission import AdmissionQueue
from oneshotd.core.events import Event, details_of, labels_of, metric_of
from oneshotd.core.filters import Selection
from oneshotd.core.way import Way
from oneshotd.errors import StoreUnavailable
from oneshotd.metrics.looks import OnlyLooks
from oneshotd.metrics.receivers import ReceiverUse
from oneshotd.metrics.registry import Telemetry
from oneshotd.metrics.tally import Tally
from oneshotd.store.interface import ClockCorrected, IStore, ScraperStatus

T = TypeVar("T")

#: The largest number of events in a page.
MAX_PAGE = 1000

#: Events that one call examines, approximately; a million take five to ten calls.
MAX_EXAMINED = 200_000

#: Characters of series text and details after which a page ends: a thousand large events are 250 MB.
MAX_PAGE_TEXT = 1 << 20

#: Seconds that the store has for each request, and that a look waits for its turn.
STORE_TIMEOUT = 5.0


@frozen(kw_only=True)
class EventSeen:
    """One held event.

    :param seq: its place in the log.
    :param at: acceptance time, Unix ms.
    :param series: canonical text, ``name{a="x"}``.
    :param metric: the metric name in it.
    :param labels: the labels in it.
    :param value: text as exposed; None: one occurrence.
    :param detail: texts beside it (``detail.*``), by their names.
    """

    seq: int
    at: int
    series: str
    metric: str
    labels: Mapping[str, str]
    value: str | None
    detail: Mapping[str, str] = {}


@frozen(kw_only=True)
class EventsPage:
    """Events, newest first.

    :param next: `before` of the next page; None after the last one. An empty page may have a next one:
        then no event of the examined part matched.
    """

    events: tuple[EventSeen, ...]
    next: int | None


@frozen(kw_only=True)
class ScraperSeen:
    """One scraper. Counters are of events; they start at the daemon's start, except `lost`, or where several
    daemons share the store, when it was registered.

    :param named: it sends its name (``?scraper=``).
    :param live: events wait for it; scrapers that are not live are visitors.
    :param last_seen: Unix ms of its last scrape.
    :param interval: the median of the seconds between its scrapes; None before the third.
    :param answered: scrapes delivered to it, ever.
    :param cursor: seq up to which it has every event, except owed ones.
    :param pending: events that are not delivered to it, the owed ones included.
    :param owed: pending events behind the cursor.
    :param oldest_pending: `at` (Unix ms) of the oldest pending event, or None.
    :param queueing: series whose events wait behind each other.
    :param in_flight: a delivery to it has not ended, or may still be revoked.
    :param delivered: arrival acknowledged.
    :param returned: sent and not arrived; they go out again.
    :param revoked: arrived, and the scraper reset the connection before reading; they go out again.
    :param uncertain: returned or revoked events that the scraper may have read.
    :param shared: several scrapers seem to use this identity.
    :param own_beyond: its limits that the daemon's own metrics alone exceed.
    :param receiver: it does not scrape: this daemon sends to it; None: it does.
    :param same_store: receivers that may be the store of this scraper, which has each event twice then.
    :param way: how it gets its events; None: this daemon has not answered it since its start.
    :param lost: reason ("away", "log full", …) -> events it will never get, also before the start.
    :param longest_lag: the longest seconds from `at` of an event to its delivery; None before the first, or
        where several daemons share the store.
    :param lag_since: Unix ms of the first delivery that it covers.
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
    longest_lag: float | None = None
    lag_since: int | None = None
    receiver: ReceiverUse | None = None
    way: Way | None = None
    same_store: tuple[str, ...] = ()


@frozen(kw_only=True)
class ScraperOverview:
    """All scrapers at one moment.

    :param scrapers: all known scrapers, by name.
    :param lost: scraper -> reason -> lost events; for a day also of scrapers that were removed.
    :param only_looks: identities, known or not, that get only looks.
    :param clock: the last correction of a clock that was ahead, for one hold after it.
    """

    scrapers: list[ScraperSeen]
    lost: Mapping[str, Mapping[str, int]]
    only_looks: Sequence[OnlyLooks] = ()
    clock: ClockCorrected | None = None


class EventQueries:
    """Answers questions about held events and known scrapers."""

    def __init__(self, store: IStore, telemetry: Telemetry, clock: IReactorTime) -> None:
        self._store = store
        self._telemetry = telemetry
        self._clock = clock
        self._admission = AdmissionQueue(clock)

    async def events(
        self,
        filters: Mapping[str, str],
        since: int | None = None,
        until: int | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> EventsPage:
        """Return a page of the held events that match, newest first.

        Paging with ``before=page.next`` gives each event once, also while new events arrive.

        :param filters: label -> value, "" if the label must be absent; ``__name__`` is the
            metric name. Names are legal label names.
        :param since: Unix ms of the earliest event.
        :param until: Unix ms; all events are earlier.
        :param limit: from 1 to `MAX_PAGE`.
        :param before: only events below this seq.
        :raises Refused: too many looks are waiting (503).
        :raises StoreUnavailable: the store has no answer.
        :raises ValueError: `limit` is out of its bounds.
        """
        selection = Selection(where=dict(filters), since=since, until=until)
        return await self.select(selection, limit=limit, before=before)

    async def select(self, selection: Selection, *, limit: int, before: int | None) -> EventsPage:
        """Return a page of the held events that are selected, newest first; see `events`."""
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit: expected 1 to {MAX_PAGE}, got {limit}")
        async with self._admission.look(self._clock.seconds() + STORE_TIMEOUT):
            return await self._look_back(selection, before, limit)

    async def _look_back(self, selection: Selection, before: int | None, limit: int) -> EventsPage:
        events: list[Event] = []
        examined = size = 0
        while True:
            found = await self._in_time(self._store.recent(selection, before, limit - len(events)))
            events += found.events
            before = found.next
            examined += found.looked
            size += sum(len(event.series) + len(event.detail) for event in found.events)
            if before is None or len(events) >= limit or examined >= MAX_EXAMINED or size >= MAX_PAGE_TEXT:
                return EventsPage(events=tuple(map(_seen, events)), next=before)

    async def scrapers(self) -> list[ScraperSeen]:
        """Return all known scrapers, by name.

        :raises StoreUnavailable: the store has no answer.
        """
        return (await self.survey()).scrapers

    async def survey(self) -> ScraperOverview:
        """Return all known scrapers, and the losses by scraper and reason.

        :raises StoreUnavailable: the store has no answer.
        """
        stats = await self._in_time(self._store.stats())
        known = sorted(stats.scrapers, key=lambda status: status.name)
        now = self._clock.seconds()
        lost: dict[str, dict[str, int]] = {}
        for (scraper, reason), events in stats.lost.items():
            lost.setdefault(scraper, {})[reason] = events
        receivers = {use.name: use for use in self._telemetry.receivers.report()}
        return ScraperOverview(
            scrapers=[
                _scraper(status, self._telemetry.tally(status.name), now, receivers) for status in known
            ],
            lost=lost,
            only_looks=self._telemetry.looks.only(now),
            clock=stats.clock,
        )

    async def _in_time(self, asked: Deferred[T]) -> T:
        try:
            return await asked.addTimeout(STORE_TIMEOUT, self._clock)
        except TimeoutError:
            raise StoreUnavailable(f"no answer in {STORE_TIMEOUT:g} s") from None


def _seen(event: Event) -> EventSeen:
    return EventSeen(
        seq=event.seq,
        at=event.at,
        series=event.series,
        metric=metric_of(event.series),
        labels=labels_of(event.series),
        value=event.value,
        detail=details_of(event.detail),
    )


def _scraper(
    status: ScraperStatus, tally: Tally, now: float, receivers: Mapping[str, ReceiverUse]
) -> ScraperSeen:
    counts = status.counts or tally.counts(now)
    receiver = receivers.get(status.name)
    hosts = {use.name: use.host for use in receivers.values()}
    return ScraperSeen(
        name=status.name,
        named=status.named,
        live=status.live,
        last_seen=status.seen_at,
        interval=counts.interval,
        answered=status.answered,
        cursor=status.cursor,
        pending=status.pending,
        owed=status.owed,
        oldest_pending=status.oldest_at,
        queueing=counts.queueing,
        in_flight=status.in_flight,
        delivered=counts.delivered,
        returned=counts.returned,
        revoked=counts.revoked,
        uncertain=counts.uncertain,
        lost=dict(status.lost),
        shared=counts.shared,
        own_beyond=tally.own_beyond,
        longest_lag=counts.longest_lag,
        lag_since=counts.lag_since,
        receiver=receiver,
        same_store=tally.same_store(hosts, now) if hosts and receiver is None else (),
        way=tally.way if receiver is None else Way.PUSH,
    )
