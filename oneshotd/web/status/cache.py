"""Caches the status of the daemon for the status page: read and rendered at most once a second.

Concurrent requests share one query of the store. It does not run in the coroutine of a request:
Klein cancels that when its client hangs up (klein#840), and the other requests still need the status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from oneshotd.access.usage import RuleUse
from oneshotd.errors import OneshotError, Refused
from oneshotd.metrics.doors import DoorUse
from oneshotd.metrics.looks import OnlyLooks
from oneshotd.query import EventQueries, EventSeen, ScraperSeen
from oneshotd.web.status.hour import MINUTE, Hour, LastHour
from oneshotd.web.status.wording import StatusWarning, warnings

#: Seconds for which a status is used.
MAX_AGE = 1.0

#: Events, scrapers, rules and doors in the tables.
MAX_EVENTS = 20
MAX_SCRAPERS_SHOWN = 50
MAX_RULES_SHOWN = 50
MAX_DOORS_SHOWN = 100


@frozen(kw_only=True)
class Status:
    """The contents of the status page.

    :param now: Unix ms of the query.
    :param scrapers: live ones first; None if the store could not be read.
    :param unlisted: number of the scrapers that are not in `scrapers`.
    :param events: newest first; None if the store could not be read.
    :param hour: None if the store could not be read.
    :param rules: of the access file, in their order; empty: there is none.
    :param unlisted_rules: number of the rules that are not in `rules`.
    :param daemon: the name of this daemon among those that share the store; None: there are no others.
    :param durability: where an event is that was answered with 200; empty if that is plain.
    :param doors: by which events arrive.
    """

    now: int
    problem: str | None
    warnings: tuple[StatusWarning, ...]
    scrapers: tuple[ScraperSeen, ...] | None
    unlisted: int
    events: tuple[EventSeen, ...] | None
    hour: Hour | None
    rules: tuple[RuleUse, ...] = ()
    unlisted_rules: int = 0
    daemon: str | None = None
    durability: str = ""
    doors: tuple[DoorUse, ...] = ()

    @property
    def live(self) -> tuple[ScraperSeen, ...]:
        """The live scrapers among `scrapers`."""
        return tuple(scraper for scraper in self.scrapers or () if scraper.live)

    @property
    def etag(self) -> bytes:
        """The ETag of the page; it changes if anything on the page but an age changes."""
        shown = (
            self.problem,
            self.warnings,
            self.scrapers,
            self.unlisted,
            self.events,
            self.hour,
            self.rules,
            self.daemon,
            self.durability,
            self.doors,
        )
        digest = blake2b(repr((self.now // MINUTE, shown)).encode("utf-8", "replace"), digest_size=12)
        return b'W/"' + digest.hexdigest().encode("ascii") + b'"'


@define(kw_only=True, eq=False)
class StatusCache:
    """Returns a status that is at most a second old.

    :param problem: returns why the daemon cannot work now, or None.
    :param now_ms: returns Unix ms.
    :param hold: seconds for which events are kept.
    :param render: renders a status as HTML; called at most once for each.
    :param rules: returns what the rules of the access file have used.
    :param notes: returns the warnings of /readyz.
    :param daemon: see `Status`.
    :param durability: returns where an event is that was answered with 200; empty if that is plain.
    :param doors: returns the doors by which events arrive.
    """

    queries: EventQueries
    problem: Callable[[], Awaitable[str | None]]
    clock: IReactorTime
    now_ms: Callable[[], int]
    hold: float
    render: Callable[[Status], Awaitable[bytes]]
    rules: Callable[[], Sequence[RuleUse]] = tuple
    notes: Callable[[], Sequence[str]] = tuple
    daemon: str | None = None
    durability: Callable[[], str] = str
    doors: Callable[[], Sequence[DoorUse]] = tuple
    _hour: LastHour = field(init=False)
    _read_at: float = field(default=0.0, init=False)
    _status: Status | None = field(default=None, init=False)
    _waiting: list[Deferred[Status]] = field(factory=list, init=False)
    _rendered: tuple[Status | None, bytes] = field(default=(None, b""), init=False)

    def __attrs_post_init__(self) -> None:
        self._hour = LastHour(self.queries, MAX_EVENTS)

    def status(self) -> Deferred[Status]:
        """Return the status; fails only by a bug."""
        if self._status is not None and self.clock.seconds() - self._read_at < MAX_AGE:
            return succeed(self._status)
        waiting: Deferred[Status] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._read()).addBoth(self._share)
        return waiting

    async def html(self, status: Status) -> bytes:
        """Return the changing part of the page for this status."""
        if self._rendered[0] is not status:
            self._rendered = status, await self.render(status)
        return self._rendered[1]

    def _share(self, result: Status | Failure) -> None:
        if isinstance(result, Status):
            self._status, self._read_at = result, self.clock.seconds()
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(result)  # a Failure calls its errbacks

    async def _read(self) -> Status:
        problem = await self.problem()
        now = self.now_ms()
        scrapers: Sequence[ScraperSeen] | None = None
        hour: Hour | None = None
        lost: Mapping[str, Mapping[str, int]] = {}
        only_looks: Sequence[OnlyLooks] = ()
        clock = None
        try:
            overview = await self.queries.survey()
            scrapers, lost = overview.scrapers, overview.lost
            only_looks, clock = overview.only_looks, overview.clock
            hour = await self._hour.update(now)
        except (OneshotError, Refused):
            pass  # the page says that the store cannot be read, and `problem` why
        rules = self.rules()
        listed = sorted(scrapers or (), key=lambda scraper: (not scraper.live, scraper.name))
        return Status(
            now=now,
            problem=problem,
            warnings=warnings(
                listed,
                now=now,
                hold=self.hold,
                problem=problem,
                lost=lost,
                only_looks=only_looks,
                clock=clock,
                notes=self.notes(),
            ),
            scrapers=None if scrapers is None else tuple(listed[:MAX_SCRAPERS_SHOWN]),
            unlisted=max(0, len(listed) - MAX_SCRAPERS_SHOWN),
            events=None if hour is None else tuple(self._hour.latest),
            hour=hour,
            rules=tuple(rules[:MAX_RULES_SHOWN]),
            unlisted_rules=max(0, len(rules) - MAX_RULES_SHOWN),
            daemon=self.daemon,
            durability=self.durability(),
            doors=tuple(self.doors()[:MAX_DOORS_SHOWN]),
        )


def has(scraper: ScraperSeen, event: EventSeen) -> bool | None:
    """Return whether the scraper has got the event; None if it may still wait behind others of its series."""
    if event.seq > scraper.cursor:
        return False
    queued = scraper.owed and scraper.oldest_pending is not None and event.at >= scraper.oldest_pending
    return None if queued else True
