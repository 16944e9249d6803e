"""The daemon as the status page shows it: read and written at most once a second, however often
it is asked for.

All who ask meanwhile share one reading. It is nobody's coroutine: Klein cancels a request's when
its client hangs up (klein#840), and the others still want the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from oneshotd.errors import OneshotError, Refused
from oneshotd.metrics.looks import OnlyLooks
from oneshotd.query import EventQueries, EventSeen, ScraperSeen
from oneshotd.web.status.hour import MINUTE, Hour, LastHour
from oneshotd.web.status.wording import Concern, warnings

#: Seconds for which a reading is good.
MAX_AGE = 1.0

#: Events and scrapers in the tables.
MAX_EVENTS = 20
MAX_SCRAPERS_SHOWN = 50


@frozen(kw_only=True)
class Status:
    """What is shown, and nothing that is not.

    :param now: Unix ms of the reading.
    :param scrapers: live ones first; None where the store could not be asked.
    :param unlisted: scrapers beyond those.
    :param live: names of all live scrapers.
    :param events: newest first; None where the store could not be asked.
    :param hour: as `events`.
    """

    now: int
    problem: str | None
    warnings: tuple[Concern, ...]
    scrapers: tuple[ScraperSeen, ...] | None
    unlisted: int
    events: tuple[EventSeen, ...] | None
    hour: Hour | None

    @property
    def live(self) -> tuple[ScraperSeen, ...]:
        """The scrapers for which events wait, as far as they are listed."""
        return tuple(scraper for scraper in self.scrapers or () if scraper.live)

    @property
    def etag(self) -> bytes:
        """Another one as soon as something is shown differently, but for how long ago it was."""
        shown = (self.problem, self.warnings, self.scrapers, self.unlisted, self.events, self.hour)
        digest = blake2b(repr((self.now // MINUTE, shown)).encode("utf-8", "replace"), digest_size=12)
        return b'W/"' + digest.hexdigest().encode("ascii") + b'"'


@define(kw_only=True, eq=False)
class StatusCache:
    """Gives the status of at most a second ago.

    :param problem: says why the daemon cannot work now, or None.
    :param now_ms: Unix ms.
    :param hold: seconds for which events are kept.
    :param render: writes a status as HTML; asked once for each, at most.
    """

    reading: EventQueries
    problem: Callable[[], Awaitable[str | None]]
    clock: IReactorTime
    now_ms: Callable[[], int]
    hold: float
    render: Callable[[Status], Awaitable[bytes]]
    _hour: LastHour = field(init=False)
    _read_at: float = field(default=0.0, init=False)
    _status: Status | None = field(default=None, init=False)
    _waiting: list[Deferred[Status]] = field(factory=list, init=False)
    _written: tuple[Status | None, bytes] = field(default=(None, b""), init=False)

    def __attrs_post_init__(self) -> None:
        self._hour = LastHour(self.reading, MAX_EVENTS)

    def status(self) -> Deferred[Status]:
        """The status; fails only by our own fault."""
        if self._status is not None and self.clock.seconds() - self._read_at < MAX_AGE:
            return succeed(self._status)
        waiting: Deferred[Status] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._read()).addBoth(self._share)
        return waiting

    async def html(self, status: Status) -> bytes:
        """The living part of the page for this status."""
        if self._written[0] is not status:
            self._written = status, await self.render(status)
        return self._written[1]

    def _share(self, result: Status | Failure) -> None:
        if isinstance(result, Status):
            self._status, self._read_at = result, self.clock.seconds()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(result)  # of a failure: its errback

    async def _read(self) -> Status:
        problem = await self.problem()
        now = self.now_ms()
        scrapers: Sequence[ScraperSeen] | None = None
        hour: Hour | None = None
        lost: Mapping[str, Mapping[str, int]] = {}
        only_looks: Sequence[OnlyLooks] = ()
        clock = None
        try:
            survey = await self.reading.survey()
            scrapers, lost = survey.scrapers, survey.lost
            only_looks, clock = survey.only_looks, survey.clock
            hour = await self._hour.look(now)
        except (OneshotError, Refused):
            pass  # the page says that it could not be read; why, the problem does
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
            ),
            scrapers=None if scrapers is None else tuple(listed[:MAX_SCRAPERS_SHOWN]),
            unlisted=max(0, len(listed) - MAX_SCRAPERS_SHOWN),
            events=None if hour is None else tuple(self._hour.latest),
            hour=hour,
        )


def has(scraper: ScraperSeen, event: EventSeen) -> bool | None:
    """Whether the scraper has had the event; None where it may still wait in its series' queue."""
    if event.seq > scraper.cursor:
        return False
    queued = scraper.owed and scraper.oldest_pending is not None and event.at >= scraper.oldest_pending
    return None if queued else True
