"""Answer scrapes: reserve events, render a response, settle how it ended.

Theory of operation
===================

A scrape reserves the scraper's pending events in the store, under a token and with a lease. `respond`
plans and renders them. The tracker of the acknowledgement (`web/transport/ack_tracker.py`) reports how
the response ended; each report becomes a settlement in the store. A delivery outlives the request that
carries it: Twisted and klein cancel a handler when its client disconnects (klein#840), so settlements
run in coroutines of their own.

=========  =================================  =======================================================
state      what happens                       leads to
=========  =================================  =======================================================
IDLE       scrape; the store reserves         RESERVED
IDLE       scrape; the store is busy, knows   IDLE; the response has no events
           too many scrapers, is too late or
           unavailable
IDLE       scrape; the store knows that this  IDLE; the response is that of a look
           scraper sends the timeout header
RESERVED   request cancelled, or rendering    IDLE, once the reservation is returned in the store
           raised
RESERVED   the plan changes nothing           ENDED: delivered and final at once; the response needs
                                              no acknowledgement
RESERVED   the plan has events or losses, or  IN FLIGHT
           a search for a refused sample runs
IN FLIGHT  delivered                          DELIVERED; the settlement is stored
IN FLIGHT  returned                           ENDED; the settlement is stored: events pending again
DELIVERED  revoked                            ENDED; the revocation is stored: events pending again
DELIVERED  final                              ENDED; the lease is released
ENDED      all settlements are on disk        IDLE
=========  =================================  =======================================================

A settlement or release that the store refuses is repeated, with a backoff from `FIRST_RETRY` to
`LAST_RETRY` seconds. The delivery is *stuck* meanwhile: scrapes of this scraper get no events, and do not
wait for it.

Invariants:

* A scraper has one open reservation in the store at most. A delivery whose lease has expired may be
  replaced by a newer one, of another daemon, too. It is *superseded* then: its late settlement changes
  nothing, a late revocation loses its events; both are counted and logged as an error.
* The settlements of one delivery reach the store one after the other, in the order of the reports.
* A scrape gets no events while an earlier delivery to its scraper has ended and is not on disk.
* A scrape waits for the store for half of its timeout at most, and never longer than `MAX_STORE_WAIT`.
  Requests to the store are not cancelled: a reservation that arrives later is returned. It waits for
  another daemon's delivery for `MAX_ELSEWHERE_WAIT` at most.
* Times of events are by the store's clock (`Reservation.now`), never by this host's.
* A look changes nothing, in the store or in a delivery.
* Responses to unknown scrapers and looks are made one at a time (`AdmissionQueue`), and at most
  `MAX_UNKNOWN` unknown scrapers have a delivery in flight; known scrapers do not wait for them.
"""

from __future__ import annotations

from collections.abc import Callable
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
from oneshotd.core.origin import Origin
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.scrape_limits import ScrapeLimits
from oneshotd.core.scrape_request import Wanted
from oneshotd.core.scraper_features import Timestamps
from oneshotd.core.way import Way
from oneshotd.delivery.in_flight import DeliveryOwner, InFlightDelivery
from oneshotd.delivery.outcomes import Outcomes
from oneshotd.delivery.render import Response, respond
from oneshotd.delivery.time_limit import within
from oneshotd.errors import StoreUnavailable
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import Holder, IStore, Reservation, StoreStats

T = TypeVar("T")

#: Seconds that a reservation outlives its deadline, so that the settlement can be stored; the default.
LEASE_MARGIN = 30.0

#: Seconds that a scrape waits for the store at most before it is answered without events.
MAX_STORE_WAIT = 5.0

#: Seconds that a scrape waits for the end of another daemon's delivery to the same scraper at most, and the
#: first pause; pauses double. That daemon knows a second after the scrape's timeout that a delivery is final.
MAX_ELSEWHERE_WAIT, FIRST_ELSEWHERE_PAUSE = 2.0, 0.03

#: Deliveries in flight to scrapers that have had none yet. Each holds its events and its response in
#: memory, 10 to 30 MiB where the log is full, and a client that invents names need not read them.
MAX_UNKNOWN = 16

#: Seconds for which a response without events is reused. With 200 scrapers it has 2000 samples of the
#: daemon's own metrics and takes 25 ms to render.
OWN_AGE = 1.0

_BUSY = Reservation(token=None, pending=Pending(), busy="in flight")


class Delivery:
    """Answers scrapes and follows each delivery to its end.

    :param timestamps: the mode of scrapers that ask for none.
    :param lease_margin: seconds that a reservation outlives its deadline.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        telemetry: Telemetry,
        clock: IReactorTime,
        caps: Caps | None = None,
        timestamps: Timestamps = Timestamps.SCRAPE,
        lease_margin: float = LEASE_MARGIN,
    ) -> None:
        self.store = store
        self._telemetry = telemetry
        self._clock = clock
        self._timestamps = timestamps
        self._lease_margin = lease_margin
        self._stats = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})
        self._outcomes = Outcomes(telemetry, clock, caps or Caps())
        self.log = self._outcomes.log
        self._owner = DeliveryOwner(store, self._outcomes, clock, self._store_unavailable)
        self._admission = AdmissionQueue(clock)
        #: The last response without events, and when it was rendered.
        self._own: dict[tuple[Format, ScrapeLimits], tuple[float, bytes]] = {}

    def learn(self, stats: StoreStats) -> None:
        """Take over what the store knows of the scrapers; called at the start and at intervals."""
        self._stats = stats
        self._outcomes.keep_known(stats)
        self._telemetry.looks.expire(self._clock.seconds())

    def timed_before(self, name: str) -> bool:
        """Whether this identity's scrapes carry X-Prometheus-Scrape-Timeout-Seconds; see `TimeoutHabits`."""
        interval = self._telemetry.tally(name).interval
        return self._outcomes.timeouts.expects_header(name, interval, self._clock.seconds())

    async def scrape(
        self, visit: Visit, wanted: Wanted, *, timeout: float, origin: Origin | None = None
    ) -> InFlightDelivery:
        """Answer a scrape; without events if none are pending, or if none may go out now.

        :param timeout: seconds until the scraper gives up.
        :param origin: where the request came from.
        """
        arrived = self._clock.seconds()
        self._outcomes.timeouts.arrived(visit, arrived)
        until = arrived + min(timeout / 2, MAX_STORE_WAIT)
        known = {status.name for status in self._stats.scrapers if status.answered}
        if visit.name in known:
            self._telemetry.visited(visit.name, arrived, origin)
            delivery = await self._scrape(visit, wanted, arrived + timeout, until)
        else:
            async with self._admission.turn(until) as admitted:
                if not admitted or self._owner.count_others(known) >= MAX_UNKNOWN:
                    return self._dispatch(visit, _BUSY, wanted)
                delivery = await self._scrape(visit, wanted, arrived + timeout, until)
        if delivery is None:
            return await self.look(visit, wanted, LookReason.NO_TIMEOUT)
        return delivery

    async def _scrape(
        self, visit: Visit, wanted: Wanted, gives_up: float, until: float
    ) -> InFlightDelivery | None:
        """Answer a scrape; None: the store knows that it is a look.

        :param gives_up: reactor time (seconds) at which the scraper does.
        :param until: reactor time until which the store may answer.
        """
        last = self._owner.latest(visit.name)
        if last is not None and last.is_final and not last.is_stuck:
            await self._within(until, last.settlement(), lambda _: None)
        if last is not None and last.is_final and not last.is_settled:
            asked = succeed(_BUSY)  # the lease may have expired in the store: its events may not go out yet
        else:
            asked = Deferred.fromCoroutine(self._reserve(visit, gives_up, until))
        counted = self._count()
        answer = self._within(until, self._or_none(asked), self._hand_back)
        # Its client may go before the store answers. Added last, so that a late answer is handed back first.
        self._owner.track(asked)
        reservation = await answer or _BUSY
        if reservation.busy == "look":
            return None
        self._telemetry.looks.scraped(visit.name)
        if reservation.busy == _BUSY.busy and reservation is not _BUSY:
            self._telemetry.overlapped(visit.name, self._clock.seconds())
        try:
            stats = await self._within(until, counted, lambda _: None)
            if self._clock.seconds() > gives_up:  # the process was stopped: they may be another daemon's now
                self._hand_back(reservation)
                reservation = _BUSY
            return self._dispatch(visit, reservation, wanted, stats)
        except BaseException:  # the client disconnected and the request is cancelled, or rendering raised
            self._hand_back(reservation)
            raise

    async def _reserve(self, visit: Visit, gives_up: float, until: float) -> Reservation:
        """Reserve; wait for a delivery of another daemon that is about to end."""
        until = min(until, self._clock.seconds() + MAX_ELSEWHERE_WAIT)
        pause = FIRST_ELSEWHERE_PAUSE
        while True:
            lease = max(0.0, gives_up - self._clock.seconds()) + self._lease_margin
            reservation = await self.store.reserve(visit, lease, MAX_PENDING)
            if reservation.holder is not Holder.ELSEWHERE or self._clock.seconds() + pause >= until:
                return reservation
            await deferLater(self._clock, pause)
            pause *= 2

    async def look(
        self, visit: Visit, wanted: Wanted, reason: LookReason = LookReason.PARAMETER
    ) -> InFlightDelivery:
        """Answer what `scrape` would, without a reservation and without registering the scraper.

        :param reason: why it is a look.
        :raises Refused: too many looks are waiting (503).
        """
        now = self._clock.seconds()
        if self._telemetry.looks.looked(visit, reason, now) is not None:
            self.log.only_looks(visit.name, reason)
        until = now + MAX_STORE_WAIT
        async with self._admission.look(until):
            asked, counted = self.store.look(visit, MAX_PENDING), self._count()
            reservation = await self._within(until, self._or_none(asked), lambda _: None) or _BUSY
            stats = await self._within(until, counted, lambda _: None)
            self._telemetry.scraped("look")
            delivery = self._in_flight(visit, wanted, self._respond(visit, reservation, wanted, stats).body)
            delivery.is_look = True
            return delivery

    def is_receiver(self, name: str) -> bool:
        """Whether this is the name of a receiver: a scrape would take its events."""
        return any(use.name == name for use in self._telemetry.receivers.report())

    async def own_metrics(self, visit: Visit, wanted: Wanted) -> bytes:
        """Return the daemon's own metrics alone; the visit is no scrape, and no look."""
        until = self._clock.seconds() + MAX_STORE_WAIT
        stats = await self._within(until, self._count(), lambda _: None)
        return self._without_events(visit, wanted, stats)

    def drain(self) -> Deferred[None]:
        """Fire when every delivery has ended and its end is on disk."""
        return self._owner.drain()

    def unsettled(self) -> list[str]:
        """Return the scrapers whose newest delivery would go out again if the daemon died now."""
        return self._owner.unsettled()

    # -- parts of a response

    def _dispatch(
        self, visit: Visit, reservation: Reservation, wanted: Wanted, stats: StoreStats | None = None
    ) -> InFlightDelivery:
        if reservation.busy == "too many":
            self.log.too_many(visit.name)
        if reservation.token is None:
            self._telemetry.scraped("too_many" if reservation.busy == "too many" else "busy")
            return self._in_flight(visit, wanted, self._without_events(visit, wanted, stats))
        search = self._outcomes.search(visit.name)
        if search is not None:
            search.forget(reservation.pending)
        response = self._respond(visit, reservation, wanted, stats)
        self._own = {}  # a later response must not show lower counters than this one
        delivery = self._in_flight(visit, wanted, response.body)
        planned = response.plan
        self._telemetry.queueing(visit.name, len(planned.queueing))
        way = Way.EVENT if response.history.event_time else Way.SCRAPE
        self._telemetry.responded(visit.name, way, wanted.limits.names, response.own_beyond)
        delivery.carries(reservation.token, planned, response.history, reservation.now)
        self._owner.started(visit, delivery)
        if search is not None:
            search.sent(response.turn, planned)
        changes = planned.events or planned.lost or planned.cursor != reservation.pending.cursor
        if changes or search is not None:  # a search needs to know whether the scraper takes responses
            self._telemetry.scraped("events" if changes else "empty")
            return delivery
        # Nothing would be lost with this response: settle it now instead of waiting for the tracker.
        self._telemetry.scraped("empty")
        delivery.changes_nothing()
        return self._in_flight(visit, wanted, response.body)

    def _without_events(self, visit: Visit, wanted: Wanted, stats: StoreStats | None) -> bytes:
        """Render the own metrics alone; reuse them for `OWN_AGE`, so that many busy scrapers cost little."""
        if self._telemetry.is_shared:  # another daemon may have shown later figures than a reused response
            return self._respond(visit, _BUSY, wanted, stats).body
        now = self._clock.seconds()
        asked = (wanted.format, wanted.limits)
        if self._own.keys() != {asked} or now - self._own[asked][0] > OWN_AGE:
            self._own = {asked: (now, self._respond(visit, _BUSY, wanted, stats).body)}
        return self._own[asked][1]

    def _respond(
        self, visit: Visit, reservation: Reservation, wanted: Wanted, stats: StoreStats | None
    ) -> Response:
        return respond(
            reservation,
            wanted,
            telemetry=self._telemetry,
            stats=stats if self._telemetry.is_shared else self._stats,
            caps=self._outcomes.caps(visit.name),
            default=self._timestamps,
            now_ms=reservation.now,
            shown=self._outcomes.shown(visit.name),
            search=self._outcomes.search(visit.name),
        )

    def _in_flight(self, visit: Visit, wanted: Wanted, body: bytes) -> InFlightDelivery:
        return InFlightDelivery(self._owner, visit, body, wanted.format.content_type)

    def _hand_back(self, reservation: Reservation | None) -> None:
        """Return a reservation that no response carries."""
        token = None if reservation is None else reservation.token
        if token is not None:
            self._owner.track(Deferred.fromCoroutine(self._return(token)))

    async def _return(self, token: int) -> None:
        await self._owner.persist(lambda: self.store.settle(token, False, 0, (), ()), lambda _: None)

    def _count(self) -> Deferred[StoreStats | None]:
        """Update the store's figures; keep the earlier ones, and return None, if it is unavailable."""

        def counted(stats: StoreStats | None) -> StoreStats | None:
            self._stats = stats or self._stats
            return stats

        return self._or_none(self.store.stats()).addCallback(counted)

    def _store_unavailable(self) -> None:
        self._telemetry.writable = False

    def _or_none(self, asked: Deferred[T]) -> Deferred[T | None]:
        def failed(failure: Failure) -> None:
            if not isinstance(failure.value, StoreUnavailable):
                self._log.failure("asking the store", failure=failure)

        return asked.addErrback(failed)

    def _within(self, until: float, asked: Deferred[T], late: Callable[[T], object]) -> Deferred[T | None]:
        return within(self._clock, until, asked, late)
