"""The ingest pipeline: events of all sources, batched into the store, with back-pressure.

Theory of operation
-------------------

An `Ingest` is in one of three states; events are accepted in each.

| state | what holds | leaves it |
|---|---|---|
| IDLE | no event is in the queue | an event arrives: GATHERING |
| GATHERING | events are in the queue, a timer runs | the batch is due (`ingest/batching.py`): COMMITTING |
| COMMITTING | the store has a batch, new events stay in the queue | the batch is answered, or is overdue |

A batch is overdue when the store has not answered for `COMMIT_OVERDUE_SECONDS`. After COMMITTING comes
GATHERING if events are in the queue, else IDLE.

Invariants:

* Each event is in the queue or in exactly one batch. A batch holds the whole queue, in the order of arrival.
* Each batch is given to the store once. Nothing is given to it again here; a client that was refused may
  send its event again, with its key.
* A client is told "stored" only when the Deferred of `IStore.append` has fired with the results, that is
  after the commit, and in the reactor's thread. If it fails, all clients of the batch are refused.
* Each client is answered once. A client that has cancelled its Deferred is not, but its event is stored.
* One batch is at the store, further ones only while earlier ones are overdue: those are in doubt perhaps,
  and the store refuses the next ones in the meantime instead of leaving them without an answer.
* `load` counts the events in the queue and at the store. It is bounded, so memory is, however slow the disk
  is: beyond the bounds events are refused ("busy").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import Group, NewEvent
from oneshotd.errors import Refused, StoreUnavailable
from oneshotd.ingest.batching import BatchRule
from oneshotd.ingest.waiting import Batch, Load, SubmitCallback, Waiting, independent_groups, memory_of
from oneshotd.logs.throttle import ThrottledLog
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import Conflict, IStore, Stored

#: Bounds of what waits for the store: some seconds of the fastest ingest, and little memory.
MAX_WAITING_EVENTS = 100_000
MAX_WAITING_BYTES = 64 << 20

#: Seconds after which the next batch goes to the store although the one before is not answered.
COMMIT_OVERDUE_SECONDS = 1.0


class State(Enum):
    """See the head of the module."""

    IDLE = auto()
    GATHERING = auto()
    COMMITTING = auto()


class Ingest:
    """Takes groups of events and answers when they are on disk.

    :ivar on_stored: called after each batch; None: nobody needs to know.
    """

    _log = Logger()

    def __init__(self, store: IStore, telemetry: Telemetry, clock: IReactorTime) -> None:
        self._store = store
        self._telemetry = telemetry
        self._clock = clock
        self._rule = BatchRule()
        self._state = State.IDLE
        self._queue: list[Waiting] = []
        # Events of `submit_series` belong to the queue, and become one group at its end.
        self._series: list[str] = []
        self._series_size = 0
        self._callbacks: list[SubmitCallback] = []
        self._requests = 0  # events in the queue whose client waits for an answer
        self._first_arrival: float | None = None  # of the events in the queue
        self._latest_arrival = 0.0
        self._gathering_since = 0.0
        self._due = 0.0  # when the timer fires
        self._timer: IDelayedCall | None = None
        self._at_store: list[Batch] = []
        self._drained: list[Deferred[None]] = []
        self._refusals = ThrottledLog(
            clock, self._log, "{count} events refused ({reason}), whose senders do not hear of it: {text}"
        )
        self.load = Load()
        self.on_stored: Callable[[], object] | None = None

    def submit(self, group: Group, source: str) -> Deferred[Stored]:
        """Store a group.

        :param source: one of `metrics.doors.SOURCES`, or that of a hook.
        :returns: fires when the group is on disk; fails with `Refused` (422 for a key with other content,
            503 if the store cannot take it now). Cancelling it leaves out the answer only.
        """
        done: Deferred[Stored] = Deferred()
        try:
            self._enqueue([Waiting(group, memory_of(group.events), source, done)])
        except Refused as refused:
            done.errback(refused)
        return done

    def submit_nowait(self, events: Sequence[NewEvent], source: str) -> None:
        """Store events whose sender waits for no answer, in order; each stands alone.

        If there is no room for all, the first ones are stored. Refused events are counted and logged here.
        """
        try:
            if events:
                groups = independent_groups(events)
                self._enqueue([Waiting(group, memory_of(group.events), source, None) for group in groups])
        except Refused as refused:
            room = MAX_WAITING_EVENTS - self.load.events
            if 0 < room < len(events):
                self.submit_nowait(events[:room], source)
                events = events[room:]
            self._note(refused, len(events))

    def submit_series(self, series: Sequence[str], callback: SubmitCallback) -> bool:
        """Store events that have a series and nothing else, at the least cost.

        :param callback: is told when all of them are on disk, or that they are not.
        :returns: False if there is no room for them: nothing has changed, the callback is not called.
        """
        size = memory_of(SeriesBatch(series))
        if not self._has_room(len(series), size):
            return False
        self.load.events += len(series)
        self.load.size += size
        self._series_size += size
        self._series += series
        self._callbacks.append(callback)
        self._requests += len(series)
        self._arrived()
        return True

    def waits(self) -> float:
        """Return the seconds for which the oldest event has been waiting for the disk; 0 if none waits."""
        arrivals = [batch.first_arrival for batch in self._at_store]
        if self._first_arrival is not None:
            arrivals.append(self._first_arrival)
        return self._clock.seconds() - min(arrivals) if arrivals else 0.0

    def flush(self) -> None:
        """Log the counts that the throttled log holds back; for the end of the daemon."""
        self._refusals.flush()

    def drain(self) -> Deferred[None]:
        """Return a Deferred that fires when no event waits any more and all clients have been answered."""
        if self._is_drained:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        return done

    @property
    def _is_drained(self) -> bool:
        return self._state is State.IDLE and not self._at_store

    def _enqueue(self, waiting: Sequence[Waiting]) -> None:
        events = sum(len(item.group.events) for item in waiting)
        size = sum(item.size for item in waiting)
        if not self._has_room(events, size):
            raise Refused(
                "too much is waiting for the disk: try again in a moment", reason="busy", status=503
            )
        self.load.events += events
        self.load.size += size
        self._queue.extend(waiting)
        self._requests += sum(item.done is not None for item in waiting)
        self._arrived()

    def _has_room(self, events: int, size: int) -> bool:
        return self.load.events + events <= MAX_WAITING_EVENTS and self.load.size + size <= MAX_WAITING_BYTES

    # -- IDLE, GATHERING

    def _arrived(self) -> None:
        """Events are in the queue that were not before."""
        now = self._latest_arrival = self._clock.seconds()
        if self._first_arrival is None:
            self._first_arrival = now
        if self._state is State.IDLE:
            self._gather(now)
        elif self._state is State.GATHERING and (due := self._batch_due()) < self._due:
            assert self._timer is not None
            self._timer.cancel()
            self._set_timer(due, now)

    def _gather(self, now: float) -> None:
        self._state = State.GATHERING
        self._gathering_since = now
        self._set_timer(self._batch_due(), now)

    def _batch_due(self) -> float:
        return self._rule.due(
            requests=self._requests, since=self._gathering_since, latest=self._latest_arrival
        )

    def _set_timer(self, due: float, now: float) -> None:
        # Also "at once" is a turn of the reactor later: all that one turn brings goes together.
        self._due = due
        self._timer = self._clock.callLater(max(0.0, due - now), self._on_timer)

    def _on_timer(self) -> None:
        now = self._clock.seconds()
        due = self._batch_due()  # later than before if something has arrived
        if due <= now:
            self._commit(now)
        else:
            self._set_timer(due, now)

    # -- COMMITTING

    def _commit(self, now: float) -> None:
        """Give the queue to the store, as one batch."""
        self._state = State.COMMITTING
        batch = self._next_batch(now)
        self._at_store.append(batch)
        stored = self._store.append([item.group for item in batch.groups])
        overdue = self._clock.callLater(COMMIT_OVERDUE_SECONDS, self._go_on)
        stored.addBoth(self._on_answer, batch, overdue)

    def _next_batch(self, now: float) -> Batch:
        groups, self._queue = self._queue, []
        if self._series:
            series, self._series = self._series, []
            size, self._series_size = self._series_size, 0
            callbacks, self._callbacks = self._callbacks, []
            groups.append(Waiting(Group(events=SeriesBatch(series)), size, "http", None, callbacks))
        requests, self._requests = self._requests, 0
        first, self._first_arrival = self._first_arrival, None
        return Batch(groups, requests, now if first is None else first, now)

    def _go_on(self) -> None:
        """Leave COMMITTING: the batch is answered, or overdue."""
        if self._queue or self._series:
            self._gather(self._clock.seconds())
        else:
            self._state = State.IDLE

    def _on_answer(
        self, result: list[Stored | Conflict] | Failure, batch: Batch, overdue: IDelayedCall
    ) -> None:
        now = self._clock.seconds()
        self._at_store.remove(batch)
        for item in batch.groups:
            self.load.events -= len(item.group.events)
            self.load.size -= item.size
        self._rule.committed(at=now, seconds=now - batch.asked_at, expected=self._requests + batch.requests)
        if overdue.active():
            overdue.cancel()
            self._go_on()
        if isinstance(result, Failure):
            self._refuse(batch.groups, result)
        else:
            for item, outcome in zip(batch.groups, result, strict=True):
                self._answer(item, outcome)
            if self.on_stored is not None:
                self.on_stored()
        if self._is_drained:
            drained, self._drained = self._drained, []
            for done in drained:
                done.callback(None)

    def _answer(self, item: Waiting, outcome: Stored | Conflict) -> None:
        if isinstance(outcome, Conflict):
            refused = Refused(
                f"key {outcome.key!r} was seen before with other content", reason="conflict", status=422
            )
            self._fail(item, refused)
            return
        now = self._clock.seconds()
        for callback in item.callbacks:
            callback.on_stored(now)
        if item.done is not None and not item.done.called:
            item.done.callback(outcome)
        if outcome.again:
            self._telemetry.duplicate(len(item.group.events))
        else:
            self._telemetry.accepted(item.source, outcome.stored)
            self._telemetry.duplicate(outcome.duplicates)

    def _refuse(self, groups: Sequence[Waiting], failure: Failure) -> None:
        self._telemetry.writable = False
        if not isinstance(failure.value, StoreUnavailable):
            self._log.failure("storing {count} groups", failure=failure, count=len(groups))
        for item in groups:
            self._fail(item, Refused(f"not stored: {failure.value}", reason="store", status=503))

    def _fail(self, item: Waiting, refused: Refused) -> None:
        if item.callbacks:
            for callback in item.callbacks:
                callback.on_failed()
        elif item.done is None:
            self._note(refused, len(item.group.events))
        elif not item.done.called:
            item.done.errback(refused)

    def _note(self, refused: Refused, events: int) -> None:
        self._telemetry.refused(refused.reason, events)
        self._refusals.note(refused.reason, events, text=refused.text)
