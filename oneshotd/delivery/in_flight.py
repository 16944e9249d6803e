"""Deliveries in flight: one response to a scraper, and the record of how it ended.

The states of a delivery are in `oneshotd.delivery.scrapes`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.core.identity import Visit
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.core.sampling.plan import Plan
from oneshotd.delivery.outcomes import Outcomes
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import IStore, Sent, Settled

T = TypeVar("T")

#: Seconds between attempts to store a settlement; they double from the first to the last.
FIRST_RETRY, LAST_RETRY = 0.1, 5.0


class DeliveryOwner:
    """Keeps the deliveries that have not ended, and repeats their settlements until the store has them.

    :param unavailable: called for each attempt that the store could not carry out.
    """

    _log = Logger()

    def __init__(
        self, store: IStore, outcomes: Outcomes, clock: IReactorTime, unavailable: Callable[[], object]
    ) -> None:
        self.store = store
        self.outcomes = outcomes
        self.clock = clock
        self._unavailable = unavailable
        #: Scraper -> its newest delivery, until that has ended and its end is on disk.
        self._latest: dict[str, InFlightDelivery] = {}
        self._settling: set[Deferred[Any]] = set()
        self._drained: list[Deferred[None]] = []

    def latest(self, scraper: str) -> InFlightDelivery | None:
        """Return the delivery to this scraper that has not ended, or whose end is not on disk."""
        return self._latest.get(scraper)

    def started(self, visit: Visit, delivery: InFlightDelivery) -> None:
        """Keep a delivery until it has ended and its end is on disk."""
        self._latest[visit.name] = delivery

    def ended(self, visit: Visit, delivery: InFlightDelivery) -> None:
        """Forget a delivery that has ended and whose end is on disk."""
        if self._latest.get(visit.name) is delivery:
            del self._latest[visit.name]
        self._fire_drained()

    def count_others(self, known: set[str]) -> int:
        """Return how many scrapers outside `known` have a delivery in flight."""
        return len(self._latest.keys() - known)

    def unsettled(self) -> list[str]:
        """Return the scrapers whose newest delivery would go out again if the daemon died now."""
        return sorted(name for name, delivery in self._latest.items() if not delivery.is_settled)

    def drain(self) -> Deferred[None]:
        """Fire when every delivery has ended and its end is on disk."""
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        self._fire_drained()
        return done

    async def persist(self, attempt: Callable[[], Deferred[T]], stuck: Callable[[bool], object]) -> T:
        """Repeat a settlement until the store has it; the scraper gets no further events meanwhile.

        :param stuck: told whether the last attempt has failed.
        """
        pause = FIRST_RETRY
        while True:
            try:
                result = await attempt()
                stuck(False)
                return result
            except StoreUnavailable as error:
                self._unavailable()
                if pause == FIRST_RETRY:
                    self._log.warn("a settlement waits for the store: {error}", error=str(error))
            except Exception:  # if the loop ended, the settlement would be lost and the scraper stay busy
                self._log.failure("settling a delivery")
            stuck(True)
            await deferLater(self.clock, pause)
            pause = min(2 * pause, LAST_RETRY)

    def track(self, work: Deferred[T]) -> Deferred[T]:
        """Let `drain` wait for this reservation or settlement; log its failure, so that later ones go on."""
        self._settling.add(work)

        def done(result: object) -> None:
            self._settling.discard(work)
            if isinstance(result, Failure):
                self._log.failure("settling a delivery", failure=result)
            self._fire_drained()

        return work.addBoth(done)

    def _fire_drained(self) -> None:
        if not self._settling and not self._latest:
            drained, self._drained = self._drained, []
            for waiting in drained:
                waiting.callback(None)


class InFlightDelivery:
    """One response to a scraper, from its rendering to the record of how it ended.

    The tracker of the acknowledgement calls `delivered` or `returned` once; after `delivered` either
    `revoked` or `final` once.

    :ivar body: the response.
    :ivar content_type: its Content-Type.
    :ivar is_final: the tracker has reported the end; no further call follows.
    :ivar is_look: it is the answer to a look.
    :ivar is_stuck: the last attempt to store a settlement of this delivery has failed.
    """

    def __init__(self, delivery: DeliveryOwner, visit: Visit, body: bytes, content_type: str) -> None:
        self.body = body
        self.content_type = content_type
        self.is_final = False
        self.is_stuck = False
        self.is_look = False
        self._delivery = delivery
        self._visit = visit
        self._token = 0
        self._read = (0, 0.0)
        self._is_superseded = False
        self._is_empty = False
        self._plan: Plan | None = None
        self._history: TimestampHistory | None = None
        self._settled: Deferred[None] | None = None

    def carries(self, token: int, planned: Plan, history: TimestampHistory, now_ms: int) -> None:
        """Add the reservation that the response carries.

        :param history: what the scraper has been shown once the response is delivered.
        :param now_ms: Unix ms by the store's clock, which may differ from this host's.
        """
        self._token, self._plan, self._history = token, planned, history
        self._read = now_ms, self._delivery.clock.seconds()
        self._trace("begun")

    @property
    def awaits_receipt(self) -> bool:
        """Whether the response carries a reservation, so that its arrival must be acknowledged."""
        return self._plan is not None

    @property
    def is_settled(self) -> bool:
        """Whether an end was reported, and every settlement of it so far is on disk."""
        return self._settled is not None and bool(self._settled.called)

    def _now_ms(self) -> int:
        """Return Unix ms by the store's clock."""
        now_ms, seconds = self._read
        return now_ms + int((self._delivery.clock.seconds() - seconds) * 1000)

    def delivered(self) -> None:
        """Record that the scraper's kernel has acknowledged every byte."""
        self._trace("delivered")
        self._delivery.outcomes.delivered(self._visit, self._reserved, self._now_ms())
        self._then(lambda: self._settle(True))

    def changes_nothing(self) -> None:
        """Record a response that changes nothing: whether it arrives does not matter."""
        self.is_final = self._is_empty = True
        self._trace("delivered")
        self._trace("final")
        self._delivery.outcomes.delivered(self._visit, self._reserved, self._now_ms())
        self._delivery.outcomes.final(self._visit)
        self._then(lambda: self._settle(True))

    def returned(self, uncertain: bool, reset: bool = False) -> None:
        """Record that the response did not arrive.

        :param uncertain: the scraper may have read the response: the acknowledgement is missing, or
            arrived together with a reset.
        :param reset: the scraper reset the connection with bytes unread.
        """
        self.is_final = True
        self._trace("returned as uncertain" if uncertain else "returned")
        self._delivery.outcomes.returned(self._visit, self._reserved, uncertain, reset, self._now_ms())
        self._then(lambda: self._settle(False, uncertain))

    def revoked(self, uncertain: bool = False) -> None:
        """Record that the response arrived, and that the scraper reset the connection before reading it.

        :param uncertain: the scraper may have read the response: the signs contradict each other.
        """
        self.is_final = True
        self._trace("revoked as uncertain" if uncertain else "revoked")
        self._delivery.outcomes.revoked(self._visit, self._reserved, uncertain, self._now_ms())
        self._then(lambda: self._revoke(uncertain))

    def final(self) -> None:
        """Record that the delivery cannot be revoked any more."""
        self.is_final = True
        self._trace("final")
        self._delivery.outcomes.final(self._visit)
        self._then(self._release)

    def settlement(self) -> Deferred[None]:
        """Fire when every settlement of this delivery so far is on disk."""
        return succeed(None) if self._settled is None else self._settled

    @property
    def _reserved(self) -> Plan:
        assert self._plan is not None
        return self._plan

    async def _settle(self, delivered: bool, uncertain: bool = False) -> None:
        planned = self._reserved
        settled = await self._delivery.persist(
            lambda: self._delivery.store.settle(
                self._token,
                delivered,
                planned.cursor,
                planned.newly_owed,
                planned.went_out,
                self._history,
                planned.lost,
                self._sent(uncertain),
            ),
            self._stuck,
        )
        self._trace(f"{'delivered' if delivered else 'returned'}, on disk: {settled.value}")
        if settled is Settled.SUPERSEDED:
            self._is_superseded = True
            self._delivery.outcomes.superseded(self._visit, planned, delivered)
        self._delivery.outcomes.settled(self._visit, settled)

    async def _revoke(self, uncertain: bool) -> None:
        if self._is_superseded:  # the delivery that took its place has these events
            return
        revoked = await self._delivery.persist(
            lambda: self._delivery.store.revoke(self._token, self._sent(uncertain)), self._stuck
        )
        self._trace(f"revoked, on disk: {revoked.value}")
        if revoked is Settled.SUPERSEDED:
            self._delivery.outcomes.late(self._visit, self._reserved)
        self._delivery.outcomes.settled(self._visit, revoked)

    def _sent(self, uncertain: bool) -> Sent:
        planned = self._reserved
        return Sent(
            scraper=self._visit.name,
            events=planned.events,
            queueing=len(planned.queueing),
            uncertain=uncertain,
            cursor=planned.cursor,
            counted=bool(planned.counted),
            is_final=self._is_empty,
        )

    def _trace(self, what: str) -> None:
        self._delivery.outcomes.log.trace(self._visit.name, self._token, self._reserved, what)

    def _stuck(self, stuck: bool) -> None:
        self.is_stuck = stuck

    async def _release(self) -> None:
        await self._delivery.persist(lambda: self._delivery.store.release(self._token), self._stuck)

    def _then(self, work: Callable[[], Awaitable[object]]) -> None:
        async def do(before: Deferred[None] | None) -> None:
            if before is not None:
                await before
            await work()

        self._settled = self._delivery.track(Deferred.fromCoroutine(do(self._settled)))
        if self.is_final:
            self._settled.addCallback(lambda _: self._delivery.ended(self._visit, self))
