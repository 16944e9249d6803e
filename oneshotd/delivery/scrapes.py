"""The one way out: reserve, plan, answer, and settle by what the receipt says.

A delivery outlives the request that carries it (klein#840: a handler is cancelled when its
client goes away), so nothing here runs in the handler's coroutine alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.admission import AdmissionQueue
from oneshotd.core.events import Pending
from oneshotd.core.identity import MAX_PENDING, Visit
from oneshotd.core.look import LookReason
from oneshotd.core.negotiation import Format
from oneshotd.core.sampling.event_time import shown_after
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.sampling.suspects import Search
from oneshotd.core.scrape_limits import ScrapeLimits
from oneshotd.core.scrape_request import Wanted
from oneshotd.core.scraper_features import Timestamps
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.log import DeliveryLog
from oneshotd.delivery.render import Response, respond
from oneshotd.delivery.response_size import ResponseSizeController
from oneshotd.errors import StoreUnavailable
from oneshotd.metrics.looks import TimeoutHabits
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import IStore, Reservation, Settled, StoreStats

T = TypeVar("T")

#: Seconds that a reservation outlives its deadline, for the settlement to be stored.
LEASE_MARGIN = 30.0

#: Longest wait for the store before a scrape is answered without events, seconds; and at most
#: half of the scraper's own timeout.
MAX_STORE_WAIT = 5.0

#: Seconds between attempts to store a settlement that the disk refuses.
FIRST_RETRY, LAST_RETRY = 0.1, 5.0

#: Deliveries under way to scrapers that have not had one yet. Each holds its events and its response
#: in memory, some 10 to 30 MiB where the log is full, and whoever invents names need not read them.
MAX_STRANGERS = 16

#: Seconds for which a response without events is good. With 200 scrapers it has 2000 samples of our
#: own metrics and takes 25 ms.
OWN_AGE = 1.0

_BUSY = Reservation(token=None, pending=Pending(), busy="in flight")


class Delivery:
    """Answers scrapes and sees each delivery to its end.

    :param now_ms: Unix ms.
    :param timestamps: the mode of those who ask for none.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        telemetry: Telemetry,
        clock: IReactorTime,
        now_ms: Callable[[], int],
        caps: Caps | None = None,
        timestamps: Timestamps = Timestamps.SCRAPE,
    ) -> None:
        self.store = store
        self._telemetry = telemetry
        self._clock = clock
        self._now_ms = now_ms
        self._pace = ResponseSizeController(caps or Caps())
        self._census = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})
        #: Who has a delivery that has not ended, or whose end is not on disk.
        self._last: dict[str, InFlightDelivery] = {}
        self._timeouts = TimeoutHabits()
        self._timestamps = timestamps
        #: See `event_time.shown_after`; memory only, and for few scrapers.
        self._shown: dict[str, Mapping[str, int]] = {}
        #: For the sample that makes a scraper reset its responses; only where it has reset one.
        self._searches: dict[str, Search] = {}
        self._under_way: set[Deferred[None]] = set()
        self._idle: list[Deferred[None]] = []
        self._slow_lane = AdmissionQueue(clock)
        self.log = DeliveryLog(clock)
        #: The last response without events, and when it was made.
        self._own: dict[tuple[Format, ScrapeLimits], tuple[float, bytes]] = {}

    def learn(self, census: StoreStats) -> None:
        """Take over what the store knows of the scrapers: at the start, and now and then."""
        self._census = census
        known = {scraper.name for scraper in census.scrapers}
        self._pace.keep(known)
        now = self._clock.seconds()
        self._timeouts.learn(known, (scraper.name for scraper in census.scrapers if scraper.timed), now)
        self._telemetry.looks.expire(now)
        for gone in self._shown.keys() - known:
            del self._shown[gone]
        self._searches = {name: search for name, search in self._searches.items() if name in known}

    def timed_before(self, name: str) -> bool:
        """Whether this identity's scrapes carry X-Prometheus-Scrape-Timeout-Seconds; see `TimeoutHabits`."""
        interval = self._telemetry.tally(name).interval
        return self._timeouts.expects_header(name, interval, self._clock.seconds())

    async def scrape(self, visit: Visit, wanted: Wanted, *, timeout: float) -> InFlightDelivery:
        """Answer a scrape; without events if there are none or none may go now.

        :param timeout: seconds until the scraper gives up.
        """
        came = self._clock.seconds()
        self._timeouts.came(visit, came)
        self._telemetry.looks.scraped(visit.name)
        until = came + min(timeout / 2, MAX_STORE_WAIT)
        known = {status.name for status in self._census.scrapers if status.answered}
        if visit.name in known:
            self._telemetry.visited(visit.name, came)
            return await self._scrape(visit, wanted, timeout, until)
        async with self._slow_lane.turn(until) as mine:
            if mine and len(self._last.keys() - known) < MAX_STRANGERS:
                return await self._scrape(visit, wanted, timeout, until)
        return self._dispatch(visit, _BUSY, wanted)

    async def _scrape(self, visit: Visit, wanted: Wanted, timeout: float, until: float) -> InFlightDelivery:
        last = self._last.get(visit.name)
        if last is not None and last.is_final and not last.is_stuck:
            await self._within(until, last.settlement(), lambda _: None)
        if last is not None and last.is_final and not last.is_settled:
            asked = succeed(_BUSY)  # whatever the store thinks of the lease
        else:
            asked = self.store.reserve(visit, timeout + LEASE_MARGIN, MAX_PENDING)
        counted = self._count()
        reservation = await self._within(until, self._or_none(asked), self._hand_back) or _BUSY
        if reservation.busy == _BUSY.busy and reservation is not _BUSY:
            self._telemetry.overlapped(visit.name, self._clock.seconds())
        try:
            await self._within(until, counted, lambda _: None)
            return self._dispatch(visit, reservation, wanted)
        except BaseException:  # the client hung up meanwhile, or something of ours is wrong
            self._hand_back(reservation)
            raise

    async def look(
        self, visit: Visit, wanted: Wanted, reason: LookReason = LookReason.PARAMETER
    ) -> InFlightDelivery:
        """What `scrape` would answer; nothing moves, nobody is registered.

        :param reason: why it is a look.
        :raises Refused: too many look at the same time (503).
        """
        now = self._clock.seconds()
        if self._telemetry.looks.looked(visit, reason, now) is not None:
            self.log.only_looks(visit.name, reason)
        until = now + MAX_STORE_WAIT
        async with self._slow_lane.look(until):
            asked, counted = self.store.look(visit, MAX_PENDING), self._count()
            reservation = await self._within(until, self._or_none(asked), lambda _: None) or _BUSY
            await self._within(until, counted, lambda _: None)
            self._telemetry.scraped("look")
            return self._shipment(visit, wanted, self._respond(visit, reservation, wanted))

    def drain(self) -> Deferred[None]:
        """Fires when every delivery has ended, and its end is on disk."""
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        self._rest()
        return done

    def unsettled(self) -> list[str]:
        """The scrapers whose last delivery would go out again if the daemon died now."""
        return sorted(name for name, shipment in self._last.items() if not shipment.is_settled)

    # -- for Shipment

    def count_delivered(self, visit: Visit, planned: Plan) -> None:
        """Count what has arrived."""
        self._timeouts.delivered(visit, self._clock.seconds())
        self._pace.arrived(visit.name)
        self._note_shown(visit, planned, delivered=True)
        self.log.lost(visit.name, planned)
        if planned.events:
            self._telemetry.delivered(visit.name, planned.events, planned.ats, self._now_ms())

    def count_returned(self, visit: Visit, planned: Plan, uncertain: bool, reset: bool) -> None:
        """Count what has not."""
        self._pace.failed(visit.name, planned.samples)
        self._note_shown(visit, planned, delivered=False)
        self._telemetry.returned(visit.name, planned.events)
        if uncertain:
            self._count_uncertain(visit, planned)
        elif reset:
            self._searches.setdefault(visit.name, Search()).was_reset()

    def _count_uncertain(self, visit: Visit, planned: Plan) -> None:
        self._telemetry.uncertain(visit.name, planned.events)
        self.log.uncertain(visit.name, planned)

    def count_revoked(self, visit: Visit, planned: Plan, uncertain: bool) -> None:
        """Count what was thrown away."""
        self._pace.failed(visit.name, planned.samples)
        self._note_shown(visit, planned, delivered=False)
        self._telemetry.revoked(visit.name, planned.events)
        if uncertain:
            self._count_uncertain(visit, planned)
            return
        self.log.revoked(visit.name, planned)
        self._searches.setdefault(visit.name, Search()).was_reset()

    def note_taken(self, visit: Visit) -> None:
        """Count a delivery that is final as a sign that the scraper can take its samples."""
        search = self._searches.get(visit.name)
        if search is not None:
            search.was_taken()
            if search.is_over:
                del self._searches[visit.name]

    def note_settled(self, visit: Visit, settled: Settled) -> None:
        """Say loudly what must not happen."""
        self.log.settled(visit.name, settled)

    def trace(self, visit: Visit, token: int, planned: Plan, what: str) -> None:
        """Write each step of a delivery with events to the log, with the reactor's seconds."""
        self.log.trace(visit.name, token, planned, what)

    async def persist(self, attempt: Callable[[], Deferred[T]], stuck: Callable[[bool], object]) -> T:
        """Try until the store can: meanwhile the scraper gets no further events.

        :param stuck: told whether the last attempt has failed.
        """
        pause = FIRST_RETRY
        while True:
            try:
                result = await attempt()
                stuck(False)
                return result
            except StoreUnavailable as error:
                self._telemetry.writable = False
                if pause == FIRST_RETRY:
                    self._log.warn("a settlement waits for the store: {error}", error=str(error))
            except Exception:  # given up, it would be lost, or leave the scraper without events
                self._log.failure("settling a delivery")
            stuck(True)
            await deferLater(self._clock, pause)
            pause = min(2 * pause, LAST_RETRY)

    def ended(self, visit: Visit, shipment: InFlightDelivery) -> None:
        """A delivery is over and done with."""
        if self._last.get(visit.name) is shipment:
            del self._last[visit.name]
        self._rest()

    def track(self, work: Deferred[None]) -> Deferred[None]:
        """Remember work until it is done; its failure is logged, and stops nobody else."""
        self._under_way.add(work)

        def done(result: object) -> None:
            self._under_way.discard(work)
            if isinstance(result, Failure):
                self._log.failure("settling a delivery", failure=result)
            self._rest()

        return work.addBoth(done)

    def _rest(self) -> None:
        if not self._under_way and not self._last:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    # -- parts of a response

    def _dispatch(self, visit: Visit, reservation: Reservation, wanted: Wanted) -> InFlightDelivery:
        if reservation.busy == "too many":
            self.log.too_many(visit.name)
        if reservation.token is None:
            self._telemetry.scraped("too_many" if reservation.busy == "too many" else "busy")
            return InFlightDelivery(
                self, visit, self._without_events(visit, wanted), wanted.format.content_type
            )
        search = self._searches.get(visit.name)
        if search is not None:
            search.forget(reservation.pending)
        response = self._respond(visit, reservation, wanted)
        self._own = {}  # no counter may be less than what has just been shown
        shipment = self._shipment(visit, wanted, response)
        planned = response.plan
        self._telemetry.queueing(visit.name, len(planned.queueing))
        self._telemetry.limited(visit.name, wanted.limits.names, response.own_beyond)
        shipment.carries(reservation.token, planned, response.past)
        self._last[visit.name] = shipment
        if search is not None:
            search.sent(response.turn, planned)
        changes = planned.events or planned.lost or planned.cursor != reservation.pending.cursor
        if changes or search is not None:  # the search wants to know whether the scraper takes anything
            self._telemetry.scraped("events" if changes else "empty")
            return shipment
        # Nothing in it that could be lost.
        self._telemetry.scraped("empty")
        shipment.delivered()
        shipment.final()
        return self._shipment(visit, wanted, response)

    def _without_events(self, visit: Visit, wanted: Wanted) -> bytes:
        """The own metrics alone; of a moment ago, because this is what crowds ask for."""
        now = self._clock.seconds()
        asked = (wanted.format, wanted.limits)
        if self._own.keys() != {asked} or now - self._own[asked][0] > OWN_AGE:
            self._own = {asked: (now, self._respond(visit, _BUSY, wanted).body)}
        return self._own[asked][1]

    def _respond(self, visit: Visit, reservation: Reservation, wanted: Wanted) -> Response:
        return respond(
            reservation,
            wanted,
            telemetry=self._telemetry,
            census=self._census,
            caps=self._pace.caps(visit.name),
            default=self._timestamps,
            now_ms=self._now_ms(),
            shown=self._shown.get(visit.name, {}),
            search=self._searches.get(visit.name),
        )

    def _shipment(self, visit: Visit, wanted: Wanted, response: Response) -> InFlightDelivery:
        return InFlightDelivery(self, visit, response.body, wanted.format.content_type)

    def _note_shown(self, visit: Visit, planned: Plan, *, delivered: bool) -> None:
        shown = self._shown.pop(visit.name, {})
        if shown or planned.counted:
            shown = shown_after(shown, planned, delivered=delivered, now_ms=self._now_ms())
        if shown:
            self._shown[visit.name] = shown

    def _hand_back(self, reservation: Reservation | None) -> None:
        """A reservation that came too late for its response."""
        token = None if reservation is None else reservation.token
        if token is not None:
            self.track(Deferred.fromCoroutine(self._return(token)))

    async def _return(self, token: int) -> None:
        await self.persist(lambda: self.store.settle(token, False, 0, (), ()), lambda _: None)

    def _count(self) -> Deferred[None]:
        """Bring the figures up to date; where the store cannot say, those from before stand."""

        def counted(census: StoreStats | None) -> None:
            self._census = census or self._census

        return self._or_none(self.store.census()).addCallback(counted)

    def _or_none(self, asked: Deferred[T]) -> Deferred[T | None]:
        def failed(failure: Failure) -> None:
            if not isinstance(failure.value, StoreUnavailable):
                self._log.failure("asking the store", failure=failure)

        return asked.addErrback(failed)

    def _within(self, until: float, asked: Deferred[T], late: Callable[[T], object]) -> Deferred[T | None]:
        """The answer, or None if it does not come in time.

        The question itself is never cancelled; an answer that nobody waits for any more goes
        to `late`.

        :param until: reactor time (seconds).
        """
        answer: Deferred[T | None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(max(0.0, until - self._clock.seconds()), answer.callback, None)

        def arrived(result: T) -> None:
            if answer.called:
                late(result)
            else:
                timer.cancel()
                answer.callback(result)

        asked.addCallback(arrived)
        return answer
