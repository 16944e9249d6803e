"""One response on its way to a scraper, and the settling of how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed

from oneshotd.core.identity import Visit
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.core.sampling.plan import Plan
from oneshotd.store.interface import IStore, Settled

T = TypeVar("T")


class DeliveryOwner(Protocol):
    """Who keeps the books of all shipments; see `oneshotd.delivery.scrapes.Delivery`."""

    store: IStore

    def count_delivered(self, visit: Visit, planned: Plan) -> None: ...

    def count_returned(self, visit: Visit, planned: Plan, uncertain: bool, reset: bool) -> None: ...

    def count_revoked(self, visit: Visit, planned: Plan, uncertain: bool) -> None: ...

    def note_taken(self, visit: Visit) -> None: ...

    def note_settled(self, visit: Visit, settled: Settled) -> None: ...

    def trace(self, visit: Visit, token: int, planned: Plan, what: str) -> None: ...

    async def persist(self, attempt: Callable[[], Deferred[T]], stuck: Callable[[bool], object]) -> T: ...

    def track(self, work: Deferred[None]) -> Deferred[None]: ...

    def ended(self, visit: Visit, shipment: InFlightDelivery) -> None: ...


class InFlightDelivery:
    """One response to a scraper, and what is to happen with it.

    :ivar body: the response.
    :ivar content_type: its Content-Type.
    :ivar awaits_receipt: whether events are in it, so that its arrival is to be proven.

    The receipt calls `delivered` or `returned` once; after `delivered` either `revoked` or
    `final`.

    :ivar is_final: nothing further will be said of it.
    :ivar is_stuck: the store refuses to take down how it ended.
    """

    def __init__(self, delivery: DeliveryOwner, visit: Visit, body: bytes, content_type: str) -> None:
        self.body = body
        self.content_type = content_type
        self.is_final = False
        self.is_stuck = False
        self._delivery = delivery
        self._visit = visit
        self._token = 0
        self._plan: Plan | None = None
        self._past: TimestampHistory | None = None
        self._settled: Deferred[None] | None = None

    def carries(self, token: int, planned: Plan, past: TimestampHistory) -> None:
        """There are events in it, reserved under this token.

        :param past: what the scraper has been shown once it is delivered.
        """
        self._token, self._plan, self._past = token, planned, past
        self._trace("begun")

    @property
    def awaits_receipt(self) -> bool:
        """Whether anybody needs to know that it has arrived."""
        return self._plan is not None

    @property
    def is_settled(self) -> bool:
        """Whether all that was said of its end so far is on disk, and something was."""
        return self._settled is not None and bool(self._settled.called)

    def delivered(self) -> None:
        """The scraper's side has acknowledged every byte."""
        self._trace("delivered")
        self._delivery.count_delivered(self._visit, self._events)
        self._then(lambda: self._settle(True))

    def returned(self, uncertain: bool, reset: bool = False) -> None:
        """It did not arrive.

        :param uncertain: it may have been read all the same: the acknowledgement is missing, or
            came together with a reset.
        :param reset: the scraper has reset the connection with bytes unread.
        """
        self.is_final = True
        self._trace("returned as uncertain" if uncertain else "returned")
        self._delivery.count_returned(self._visit, self._events, uncertain, reset)
        self._then(lambda: self._settle(False))

    def revoked(self, uncertain: bool = False) -> None:
        """It arrived, and the scraper has thrown it away unread.

        :param uncertain: it may have been read all the same: the signs contradict each other.
        """
        self.is_final = True
        self._trace("revoked as uncertain" if uncertain else "revoked")
        self._delivery.count_revoked(self._visit, self._events, uncertain)
        self._then(self._revoke)

    def final(self) -> None:
        """It can be revoked no more."""
        self.is_final = True
        self._trace("final")
        self._delivery.note_taken(self._visit)
        self._then(self._release)

    def settlement(self) -> Deferred[None]:
        """Fires when all that was said of its end is on disk."""
        return succeed(None) if self._settled is None else self._settled

    @property
    def _events(self) -> Plan:
        assert self._plan is not None
        return self._plan

    async def _settle(self, delivered: bool) -> None:
        planned = self._events
        settled = await self._delivery.persist(
            lambda: self._delivery.store.settle(
                self._token,
                delivered,
                planned.cursor,
                planned.newly_owed,
                planned.went_out,
                self._past,
                planned.lost,
            ),
            self._stuck,
        )
        self._trace(f"{'delivered' if delivered else 'returned'}, on disk: {settled.value}")
        self._delivery.note_settled(self._visit, settled)

    async def _revoke(self) -> None:
        revoked = await self._delivery.persist(lambda: self._delivery.store.revoke(self._token), self._stuck)
        self._trace(f"revoked, on disk: {revoked.value}")
        self._delivery.note_settled(self._visit, revoked)

    def _trace(self, what: str) -> None:
        self._delivery.trace(self._visit, self._token, self._events, what)

    def _stuck(self, stuck: bool) -> None:
        self.is_stuck = stuck

    async def _release(self) -> None:
        self._delivery.store.release(self._token)

    def _then(self, work: Callable[[], Awaitable[object]]) -> None:
        async def do(before: Deferred[None] | None) -> None:
            if before is not None:
                await before
            await work()

        self._settled = self._delivery.track(Deferred.fromCoroutine(do(self._settled)))
        if self.is_final:
            self._settled.addCallback(lambda _: self._delivery.ended(self._visit, self))
