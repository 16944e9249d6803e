"""The one way out: reserve, plan, answer, and settle by what the receipt says.

A delivery outlives the request that carries it (klein#840: a handler is cancelled when its
client goes away), so nothing here runs in the handler's coroutine alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.core import exposition
from oneshotd.core.event import Pending
from oneshotd.core.sampling import Caps, Plan, plan
from oneshotd.core.scraper import Visit
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import Census, IStore, Reservation, Settled
from oneshotd.telemetry import Telemetry

T = TypeVar("T")

#: Events looked at for one response, as a multiple of the samples it may have: counted events
#: merge, so more of them fit.
LOOK_AHEAD = 10

#: Seconds that a reservation outlives its deadline, for the settlement to be stored.
LEASE_MARGIN = 30.0

#: Longest wait for the store before a scrape is answered without events, seconds; and at most
#: half of the scraper's own timeout.
MAX_STORE_WAIT = 5.0

#: Seconds between attempts to store a settlement that the disk refuses.
FIRST_RETRY, LAST_RETRY = 0.1, 5.0


class Shipment:
    """One response to a scraper, and what is to happen with it.

    :ivar body: the response, text 0.0.4.
    :ivar content_type: its Content-Type.
    :ivar awaits_receipt: whether events are in it, so that its arrival is to be proven.

    The receipt calls `delivered` or `returned` once; after `delivered` either `revoked` or
    `final`.
    """

    def __init__(self, delivery: Delivery, visit: Visit, body: bytes) -> None:
        self.body = body
        self.content_type = exposition.CONTENT_TYPE_TEXT
        self.is_final = False
        self._delivery = delivery
        self._visit = visit
        self._token = 0
        self._plan: Plan | None = None
        self.settled: Deferred[None] = succeed(None)

    def carries(self, token: int, planned: Plan) -> None:
        """There are events in it, reserved under this token."""
        self._token, self._plan = token, planned

    @property
    def awaits_receipt(self) -> bool:
        """Whether anybody needs to know that it has arrived."""
        return self._plan is not None

    def delivered(self) -> None:
        """The scraper's side has acknowledged every byte."""
        self._delivery.count_delivered(self._visit, self._events)
        self._then(lambda: self._settle(True))

    def returned(self, uncertain: bool) -> None:
        """It did not arrive.

        :param uncertain: it may have been read all the same: the acknowledgement is missing.
        """
        self.is_final = True
        self._delivery.count_returned(self._visit, self._events, uncertain)
        self._then(lambda: self._settle(False))

    def revoked(self) -> None:
        """It arrived, and the scraper has thrown it away unread."""
        self.is_final = True
        self._delivery.count_revoked(self._visit, self._events)
        self._then(lambda: self._delivery.persist(lambda: self._delivery.store.revoke(self._token)))

    def final(self) -> None:
        """It can be revoked no more."""
        self.is_final = True
        self._then(self._release)

    @property
    def _events(self) -> Plan:
        assert self._plan is not None
        return self._plan

    async def _settle(self, delivered: bool) -> None:
        planned = self._events
        settled = await self._delivery.persist(
            lambda: self._delivery.store.settle(
                self._token, delivered, planned.cursor, planned.newly_owed, planned.went_out
            )
        )
        self._delivery.note_settled(self._visit, settled)

    async def _release(self) -> None:
        self._delivery.store.release(self._token)

    def _then(self, work: Callable[[], Awaitable[object]]) -> None:
        async def do(before: Deferred[None]) -> None:
            await before
            await work()

        self.settled = self._delivery.track(Deferred.fromCoroutine(do(self.settled)))


class Delivery:
    """Answers scrapes and sees each delivery to its end.

    :param now_ms: Unix ms, for the latencies.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        telemetry: Telemetry,
        clock: IReactorTime,
        now_ms: Callable[[], int],
        caps: Caps | None = None,
    ) -> None:
        self.store = store
        self._telemetry = telemetry
        self._clock = clock
        self._now_ms = now_ms
        self._caps = caps or Caps()
        self._census = Census(events=0, size=0, head=0, scrapers=(), lost={})
        self._last: dict[str, Shipment] = {}
        self._timed: set[str] = set()
        self._under_way: set[Deferred[None]] = set()

    def learn(self, census: Census) -> None:
        """Take over what the store knows of the scrapers: at the start, and now and then."""
        self._census = census
        names = {scraper.name for scraper in census.scrapers}
        self._timed = {scraper.name for scraper in census.scrapers if scraper.timed}
        for name in self._last.keys() - names:
            if self._last[name].settled.called:
                del self._last[name]

    def timed_before(self, name: str) -> bool:
        """Whether this identity has had a delivery with X-Prometheus-Scrape-Timeout-Seconds."""
        return name in self._timed

    async def scrape(self, visit: Visit, *, limit: int | None, timeout: float) -> Shipment:
        """Answer a scrape; without events if there are none or none may go now.

        :param limit: samples in the whole response at most.
        :param timeout: seconds until the scraper gives up.
        """
        wait = min(timeout / 2, MAX_STORE_WAIT)
        last = self._last.get(visit.name)
        if last is not None and last.is_final:
            await self._within(wait, last.settled, lambda _: None)
        asked = self.store.reserve(visit, timeout + LEASE_MARGIN, self._look_at(limit))
        reservation, own = await self._with_census(asked, wait, self._hand_back)
        shipment, planned = self._load(visit, reservation, own, limit)
        if reservation.token is None:
            self._telemetry.scraped("too_many" if reservation.busy == "too many" else "busy")
        elif planned.events or planned.cursor != reservation.pending.cursor:
            shipment.carries(reservation.token, planned)
            self._last[visit.name] = shipment
            self._telemetry.scraped("events")
        else:
            # Nothing in it that could be lost.
            shipment.carries(reservation.token, planned)
            shipment.delivered()
            shipment.final()
            shipment = Shipment(self, visit, shipment.body)
            self._telemetry.scraped("empty")
        self._telemetry.queueing(visit.name, len(planned.queueing))
        return shipment

    async def look(self, visit: Visit, *, limit: int | None) -> Shipment:
        """What `scrape` would answer; nothing moves, nobody is registered."""
        asked = self.store.look(visit, self._look_at(limit))
        reservation, own = await self._with_census(asked, MAX_STORE_WAIT, lambda _: None)
        self._telemetry.scraped("look")
        return self._load(visit, reservation, own, limit)[0]

    def drain(self) -> Deferred[None]:
        """Fires when all that has been said of deliveries so far is on disk."""
        done: Deferred[None] = Deferred()
        DeferredList(list(self._under_way)).addCallback(lambda _: done.callback(None))
        return done

    # -- for Shipment

    def count_delivered(self, visit: Visit, planned: Plan) -> None:
        """Count what has arrived."""
        if visit.timed:
            self._timed.add(visit.name)
        if planned.events:
            self._telemetry.delivered(visit.name, planned.events, planned.ats, self._now_ms())

    def count_returned(self, visit: Visit, planned: Plan, uncertain: bool) -> None:
        """Count what has not."""
        self._telemetry.returned(visit.name, planned.events)
        if uncertain:
            self._telemetry.uncertain(visit.name, planned.events)
            self._log.warn(
                "{scraper}: no acknowledgement for {events} events in time; they go out again and may"
                " be counted twice",
                scraper=visit.name,
                events=planned.events,
            )

    def count_revoked(self, visit: Visit, planned: Plan) -> None:
        """Count what was thrown away."""
        self._telemetry.revoked(visit.name, planned.events)
        self._log.info(
            "{scraper} threw {events} events away unread; they go out again",
            scraper=visit.name,
            events=planned.events,
        )

    def note_settled(self, visit: Visit, settled: Settled) -> None:
        """Say loudly what must not happen."""
        if settled is not Settled.SETTLED:
            self._log.error(
                "{scraper}: a delivery was {how} when it was settled", scraper=visit.name, how=settled
            )

    async def persist(self, attempt: Callable[[], Deferred[T]]) -> T:
        """Try until the store can: meanwhile the scraper gets no further events."""
        pause = FIRST_RETRY
        while True:
            try:
                return await attempt()
            except StoreUnavailable as error:
                self._log.warn("a settlement waits for the store: {error}", error=str(error))
            await deferLater(self._clock, pause)
            pause = min(2 * pause, LAST_RETRY)

    def track(self, work: Deferred[None]) -> Deferred[None]:
        """Remember work until it is done; its failure is logged, and stops nobody else."""
        self._under_way.add(work)

        def done(result: object) -> None:
            self._under_way.discard(work)
            if isinstance(result, Failure):
                self._log.failure("settling a delivery", failure=result)

        return work.addBoth(done)

    # -- parts of a response

    def _look_at(self, limit: int | None) -> int:
        return LOOK_AHEAD * min(limit or self._caps.samples, self._caps.samples)

    def _hand_back(self, reservation: Reservation) -> None:
        """A reservation that came too late for its response."""
        token = reservation.token
        if token is not None:
            self.track(Deferred.fromCoroutine(self._return(token)))

    async def _return(self, token: int) -> None:
        await self.persist(lambda: self.store.settle(token, False, 0, (), ()))

    async def _with_census(
        self, asked: Deferred[Reservation], wait: float, late: Callable[[Reservation], object]
    ) -> tuple[Reservation, Census]:
        """A reservation and the figures to go with it; without events if the store cannot say.

        Asked for together, so that there is no moment at which a cancelled request could leave
        a reservation behind.
        """

        def came_late(answers: tuple[Reservation | None, Census | None]) -> None:
            if answers[0] is not None:
                late(answers[0])

        async def both() -> tuple[Reservation | None, Census | None]:
            counted = self._or_none(self.store.census())
            return await self._or_none(asked), await counted

        answers = await self._within(wait, Deferred.fromCoroutine(both()), came_late)
        reservation, census = answers or (None, None)
        self._census = census or self._census
        return reservation or Reservation(token=None, pending=Pending(), busy="in flight"), self._census

    def _or_none(self, asked: Deferred[T]) -> Deferred[T | None]:
        def failed(failure: Failure) -> None:
            if not isinstance(failure.value, StoreUnavailable):
                self._log.failure("asking the store", failure=failure)

        return asked.addErrback(failed)

    def _load(
        self, visit: Visit, reservation: Reservation, census: Census, limit: int | None
    ) -> tuple[Shipment, Plan]:
        # A response is the events, then the daemon's own metrics, within one limit for both.
        own, samples = self._telemetry.render(census, None if limit is None else max(1, limit // 2))
        caps = self._caps
        if limit is not None:
            caps = evolve(caps, samples=max(1, min(caps.samples, limit - samples)))
        planned = plan(reservation.pending, caps)
        return Shipment(self, visit, exposition.text(planned.samples) + own), planned

    def _within(self, seconds: float, asked: Deferred[T], late: Callable[[T], object]) -> Deferred[T | None]:
        """The answer, or None if it does not come in time.

        The question itself is never cancelled; an answer that nobody waits for any more goes
        to `late`.
        """
        answer: Deferred[T | None] = Deferred()

        def out_of_time() -> None:
            if not answer.called:
                answer.callback(None)

        timer = self._clock.callLater(seconds, out_of_time)

        def arrived(result: T) -> None:
            if timer.active():
                timer.cancel()
            if answer.called:
                late(result)
            else:
                answer.callback(result)

        asked.addCallback(arrived)
        return answer
