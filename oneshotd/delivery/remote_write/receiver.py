"""Send the pending events of one receiver, with one request in flight.

Theory of operation
===================

Each step takes one reservation in the store, sends one request at most, and settles the reservation by what
the answer means (`verdicts.py`). Nothing about a request is on disk before it is sent: the same pending
events give the same request again (`batching.py`), and the receiver takes it twice without harm.

================  =======================================  ==============================================
a step finds      it does                                  the reservation is
================  =======================================  ==============================================
the store cannot  waits                                    none
another daemon    waits                                    none
sends
the daemon has    reads what was delivered lately          returned
just started
samples to send   a request of `replay`                    returned
again
markers due       a request of markers                     returned
events            a request of events                      see below
nothing           waits for `wake`, a marker, a time       returned
================  =======================================  ==============================================

==============================  =========================================================================
answer to events                what follows
==============================  =========================================================================
accepted                        settled as delivered, on disk; the next step follows at once
discarded (202)                 settled: the events are lost, as ``discarded``
refused, too large; several     returned; the next request is smaller
refused, too large; one         settled: it is lost, as ``refused``, or ``uncertain`` if an earlier
                                attempt had an unknown outcome
again, doubtful, no answer      returned; a pause (`retry.py`)
misconfigured                   returned; a long pause, an error in the log
==============================  =========================================================================

Invariants:

* One request in flight, and only under a reservation that lasts longer than it: a step that was held up for
  `MAX_DELAY` (a paused process) sends nothing.
* The next sample of a series is sent after the settlement of the one before is on disk. It is durable: it
  does not use `Sent.is_final`, after which a database may forget it in a crash.
* Markers and `replay` are in memory (`memory.py`), and made again from the log after a start, a change of
  the leader (`leadership.py`) or a delivery that was superseded.
* No sample has a time later than `Reservation.now`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random
from time import process_time

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from oneshotd.delivery.remote_write.batch_size import BatchSize
from oneshotd.delivery.remote_write.batching import MAX_BYTES, Batch, plan_batch
from oneshotd.delivery.remote_write.encoding import Encoder, fitting
from oneshotd.delivery.remote_write.exchange import Post
from oneshotd.delivery.remote_write.figures import Figures, State
from oneshotd.delivery.remote_write.leadership import Leadership, Role
from oneshotd.delivery.remote_write.log import ReceiverLog
from oneshotd.delivery.remote_write.memory import Memory
from oneshotd.delivery.remote_write.pacing import Pacing
from oneshotd.delivery.remote_write.pauses import Pauses
from oneshotd.delivery.remote_write.read_depth import ReadDepth
from oneshotd.delivery.remote_write.refusals import DISCARDED, Attempts
from oneshotd.delivery.remote_write.requests import Outcome, Requests
from oneshotd.delivery.remote_write.settings import ReceiverSettings
from oneshotd.delivery.remote_write.settlements import STORE_PAUSE, Settlements, position_after, position_of
from oneshotd.delivery.remote_write.verdicts import SPLIT, Verdict
from oneshotd.errors import StoreUnavailable
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import IStore, Reservation

#: Seconds that a reservation outlives its request, and that a step may take before it sends.
LEASE_MARGIN, MAX_DELAY = 15.0, 5.0

#: Seconds between two steps that find nothing: events of other daemons on the same store are found so.
POLL = 1.0

#: Seconds between two looks at a receiver to which another daemon sends.
STANDBY_POLL = 5.0

#: Seconds until the store is asked again: another daemon has the reservation; there is none for this name.
BUSY_PAUSE, NO_RESERVATION_PAUSE = 0.25, 60.0


class Receiver:
    """The state machine of one receiver.

    :param post: sends one request; see `exchange`.
    :param shared: several daemons may use the store.
    :param dice: returns a number from 0 to 1.
    :param processor: returns the seconds of processor time that the process has used.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        store: IStore,
        post: Post,
        telemetry: Telemetry,
        clock: IReactorTime,
        *,
        shared: bool = False,
        dice: Callable[[], float] = random,
        processor: Callable[[], float] = process_time,
    ) -> None:
        self.settings = settings
        self.figures = Figures()
        self.log = ReceiverLog(settings.name, clock)
        self._store = store
        self._telemetry = telemetry
        self._clock = clock
        self._requests = Requests(post, clock, settings.timeout, self.figures, self.log, dice)
        self._pauses = Pauses(clock)
        self._pacing = Pacing(processor)
        self._settlements = Settlements(settings.name, store, self._pauses, self.figures, self.log)
        self._encoder = Encoder(settings)
        self._size = BatchSize()
        self._depth = ReadDepth()
        self._leadership = Leadership(shared)
        self._memory = Memory(settings, store, self._encoder, self.figures)
        self._markers_were_last = False
        self._attempts = Attempts()
        self._asked = 0.0
        self._running: Deferred[None] = succeed(None)

    # -- life

    def start(self) -> None:
        """Send from now on."""
        self._running = Deferred.fromCoroutine(self._run())

    def wake(self) -> None:
        """Look for events now; called when some were stored."""
        self._pauses.wake()

    def stop(self) -> Deferred[None]:
        """Stop after the request in flight; fires when its end is on disk, or the store cannot be written."""
        self._settlements.stopping = True
        self._pauses.end()
        done: Deferred[None] = Deferred()
        self._running.addCallback(lambda _: done.callback(None))
        return done

    def abort(self) -> None:
        """Stop without waiting for the answer to the request in flight: close its connection."""
        self._settlements.stopping = True
        self._requests.abort()
        self._pauses.end()

    async def _run(self) -> None:
        while not self._settlements.stopping:
            try:
                pause = await self._step()
            except StoreUnavailable as error:
                self._settlements.unavailable(error)
                pause = STORE_PAUSE
            except Exception:  # if the loop ended, the receiver would get nothing until the next start
                self.log.failed()
                pause = STORE_PAUSE
            if pause and not self._settlements.stopping:
                await self._pauses.wait(pause, is_idle=self.figures.state is State.IDLE)
        self.figures.state = State.STOPPED
        self.log.flush()

    # -- a step

    async def _step(self) -> float:
        """Send one request at most; return the seconds until the next step."""
        self._pauses.begin_step()
        if self._leadership.stands_by and not await self._may_take_over():
            return STANDBY_POLL
        self._asked = self._clock.seconds()
        self._pacing.step_begins(self._asked)
        lease = self.settings.timeout + LEASE_MARGIN
        reservation = await self._store.reserve(self.settings.visit, lease, self._depth.rows(self._asked))
        if reservation.token is None:
            return await self._not_reserved(reservation)
        try:
            return await self._use(reservation, reservation.token)
        except Exception:
            await self._settlements.give_back(reservation.token)
            raise

    async def _may_take_over(self) -> bool:
        self.figures.state = State.STANDING_BY
        pending = (await self._store.look(self.settings.visit, 1)).pending
        return self._leadership.looked(position_of(pending), bool(len(pending)))

    async def _not_reserved(self, reservation: Reservation) -> float:
        if reservation.busy != "in flight":
            self.log.no_reservation(reservation.busy or "")
            return NO_RESERVATION_PAUSE
        self.figures.state = State.BUSY
        pending = (await self._store.look(self.settings.visit, 1)).pending
        self._leadership.kept_out(position_of(pending))
        return STANDBY_POLL if self._leadership.stands_by else BUSY_PAUSE

    async def _use(self, reservation: Reservation, token: int) -> float:
        role = self._leadership.reserved(position_of(reservation.pending))
        if role is Role.STAND_BY:
            self.figures.state = State.STANDING_BY
            self._memory.is_made = False
            await self._settlements.give_back(token)
            return STANDBY_POLL
        if role is Role.TAKE_OVER or not self._memory.is_made:
            self._attempts.begin(reservation)
            await self._memory.make(reservation, self._clock.seconds())
            await self._settlements.give_back(token)
            return 0.0
        if self._is_late():
            await self._settlements.give_back(token)
            return 0.0
        if again := self._memory.replay_requests.due():
            return await self._send_again(token, again)
        if self._size.wants_proof:
            return await self._send_nothing(token)
        batch = self._plan(reservation)
        owed = reservation.pending.owed_total + len(batch.newly_owed)
        self._depth.planned(len(batch), batch.queueing, owed)
        markers = [] if self._markers_were_last and batch else self._memory.marker_requests.due(reservation)
        self._markers_were_last = bool(markers)
        if markers:
            return await self._send_markers(token, markers)
        if batch:
            return await self._send_events(token, reservation, batch)
        if batch.lost:
            await self._settle(token, reservation, batch)
            return 0.0
        await self._settlements.give_back(token)
        self._requests.nothing_waits()
        return self._until_next(reservation.now, batch)

    def _is_late(self) -> bool:
        """Whether it is too late for a request: the daemon stops, or the reservation may end before it."""
        return self._settlements.stopping or self._clock.seconds() - self._asked > MAX_DELAY

    def _plan(self, reservation: Reservation) -> Batch:
        batch = plan_batch(
            reservation.pending,
            self._encoder,
            reservation.now,
            samples=self._size.samples,
            size=self._size.bytes,
            aside=self._size.aside,
        )
        if not batch and self._size.aside:  # there are no others that could be tried instead
            self._size.aside.clear()
            return self._plan(reservation)
        self.figures.waits_for_time = batch.next_at is not None
        self.figures.queueing = batch.queueing
        return batch

    def _until_next(self, now: int, batch: Batch) -> float:
        due = self._memory.markers.next_due()
        times = [at - now for at in (batch.next_at, due) if at is not None and at > now]
        return min([POLL, *(ms / 1000 for ms in times)])

    # -- requests

    async def _send(self, fields: Sequence[bytes]) -> Outcome:
        outcome = await self._requests.send(fields)
        answer = outcome.answer
        if answer is None or answer.reconnected or answer.status >= 500:  # 5xx may be a proxy's answer
            self._memory.replay.was_away()
        else:
            self._memory.replay.answered(self._clock.seconds())
        return outcome

    def _pause(self, *, has_more: bool = True) -> float:
        """Return the seconds until the next step after a request that was accepted."""
        return self._pacing.pause(self._clock.seconds(), has_more=has_more, is_fed=self._pauses.was_woken)

    async def _send_events(self, token: int, reservation: Reservation, batch: Batch) -> float:
        outcome = await self._send(batch.fields)
        verdict, seqs = outcome.verdict, list(batch.seqs)
        if outcome.was_sent:
            self._memory.markers.sent(batch.series)
        if verdict is Verdict.ACCEPTED:
            self._size.accepted(seqs)
            await self._settle(token, reservation, batch)
            return self._pause(has_more=len(batch) < len(reservation.pending) or reservation.remaining > 0)
        if verdict is Verdict.DISCARDED:
            await self._settle(token, reservation, batch, DISCARDED)
            return 0.0
        if outcome.may_be_stored:
            self._attempts.unknown(seqs, min(reservation.pending.seqs))
        if self._size.gives_up(verdict, seqs, sum(map(len, batch.fields))):
            [seq] = seqs
            self._size.gave_up(seq)
            await self._settle(token, reservation, batch, self._attempts.reason(seq))
            return 0.0
        await self._settlements.give_back(token, len(batch))
        if verdict in SPLIT and (len(seqs) > 1 or self._size.wants_proof):
            return 0.0
        return self._requests.pause(outcome)

    async def _send_markers(self, token: int, markers: Sequence[tuple[str, int]]) -> float:
        """Send stale markers; one that is refused is dropped."""
        encoded = fitting((self._encoder.marker(series, at) for series, at in markers), MAX_BYTES)
        outcome = await self._send(encoded)
        await self._settlements.give_back(token)
        is_settled = self._memory.marker_requests.answered(markers[: len(encoded)], outcome.verdict)
        return self._pause() if is_settled else self._requests.pause(outcome)

    async def _send_again(self, token: int, samples: Sequence[bytes]) -> float:
        """Send samples that the receiver accepted, and may have lost."""
        outcome = await self._requests.send(samples)
        await self._settlements.give_back(token)
        reconnected = outcome.answer is not None and outcome.answer.reconnected
        is_settled = self._memory.replay_requests.answered(
            samples, outcome.verdict, self._clock.seconds(), reconnected=reconnected
        )
        return self._pause() if is_settled else self._requests.pause(outcome)

    async def _send_nothing(self, token: int) -> float:
        """Send a request without samples: an answer other than 2xx has nothing to do with samples."""
        outcome = await self._send(())
        await self._settlements.give_back(token)
        self._size.proof(outcome.verdict is Verdict.ACCEPTED)
        return 0.0 if outcome.verdict is Verdict.ACCEPTED else self._requests.pause(outcome)

    # -- settlements

    async def _settle(
        self, token: int, reservation: Reservation, batch: Batch, reason: str | None = None
    ) -> None:
        """Settle as delivered.

        :param reason: the samples of the batch are lost for this reason; None: they were accepted.
        """
        lost = dict(batch.lost) if reason is None else {**batch.lost, reason: batch.seqs}
        events = len(batch) if reason is None else 0
        is_done = await self._settlements.settle(token, batch, lost)
        self._attempts.settled(batch.seqs)
        if not is_done:
            self._leadership.lost()
            self._memory.is_made = False
            self._telemetry.superseded(self.settings.name, events)
            self.log.superseded(events)
            return
        self._leadership.moved(position_after(reservation.pending, batch, lost))
        if not events:
            return
        self.figures.samples += events
        self._memory.delivered(batch, self._clock.seconds())
        took_ms = int((self._clock.seconds() - self._asked) * 1000)
        self._telemetry.delivered(self.settings.name, events, batch.ats, reservation.now + took_ms)
