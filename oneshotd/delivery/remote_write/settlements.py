"""End the reservations of a receiver in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred

from oneshotd.core.events import Pending
from oneshotd.delivery.remote_write.batching import Batch
from oneshotd.delivery.remote_write.figures import Figures, State
from oneshotd.delivery.remote_write.leadership import Position
from oneshotd.delivery.remote_write.log import ReceiverLog
from oneshotd.delivery.remote_write.pauses import Pauses
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import IStore, Sent, Settled

T = TypeVar("T")

#: Seconds before the store is asked again after it was unavailable.
STORE_PAUSE = 1.0


class Settlements:
    """Settles the deliveries of one receiver; repeats each until the store has it, or the daemon stops.

    :param receiver: its name.
    :ivar stopping: the daemon stops: nothing is repeated any more.
    """

    def __init__(
        self, receiver: str, store: IStore, pauses: Pauses, figures: Figures, log: ReceiverLog
    ) -> None:
        self.stopping = False
        self._receiver = receiver
        self._store = store
        self._pauses = pauses
        self._figures = figures
        self._log = log

    async def give_back(self, token: int, events: int = 0) -> None:
        """Make the reserved events pending again.

        :param events: number of events of the request that was not accepted.
        :raises StoreUnavailable: while the daemon stops.
        """
        sent = Sent(scraper=self._receiver, events=events)
        await self._persist(lambda: self._store.settle(token, False, 0, (), (), sent=sent))

    async def settle(self, token: int, batch: Batch, lost: Mapping[str, Sequence[int]]) -> bool:
        """Settle a batch as delivered, durably, and end the lease; return whether its lease still held.

        It does not say `Sent.is_final`, since a store may forget such a settlement in a crash.

        :param lost: reason -> seqs that the receiver will never get, also those of the batch.
        :raises StoreUnavailable: while the daemon stops.
        """
        given_up = {seq for seqs in lost.values() for seq in seqs}
        went_out = [seq for seq in batch.went_out if seq not in given_up]
        sent = Sent(
            scraper=self._receiver,
            events=sum(seq not in given_up for seq in batch.seqs),
            queueing=batch.queueing,
            cursor=batch.cursor,
        )
        settled = await self._persist(
            lambda: self._store.settle(
                token, True, batch.cursor, batch.newly_owed, went_out, lost=lost, sent=sent
            )
        )
        if settled is not Settled.SETTLED:
            return False
        await self._persist(lambda: self._store.release(token))
        for why, seqs in lost.items():
            self._figures.lost[why] += len(seqs)
            self._log.lost(why, len(seqs), self._figures.trouble)
        return True

    def unavailable(self, error: StoreUnavailable) -> None:
        """Note that the store could not do its part."""
        self._figures.state = State.STORE_UNAVAILABLE
        self._log.store_unavailable(error)

    async def _persist(self, attempt: Callable[[], Deferred[T]]) -> T:
        while True:
            try:
                return await attempt()
            except StoreUnavailable as error:
                self.unavailable(error)
                if self.stopping:
                    raise
            await self._pauses.wait(STORE_PAUSE)


def position_of(pending: Pending) -> Position:
    """Return the position of a receiver with these pending events."""
    return pending.cursor, pending.owed_total


def position_after(pending: Pending, batch: Batch, lost: Mapping[str, Sequence[int]]) -> Position:
    """Return the position to which a settlement leads."""
    gone = {*batch.seqs, *(seq for seqs in lost.values() for seq in seqs)}
    owed = sum(seq in gone for seq in pending.seqs[: pending.owed])
    return batch.cursor, pending.owed_total - owed + len(batch.newly_owed)
