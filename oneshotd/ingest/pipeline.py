"""The one way in: events of all doors, batched into the store, with back-pressure.

What comes in while a commit runs waits here and goes into the next one together. What waits
is bounded in events and bytes; beyond that it is refused ("busy"), so that memory is bounded
however slow the disk is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Protocol

from attrs import define, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import Group, NewEvent
from oneshotd.errors import Refused, StoreUnavailable
from oneshotd.logs.throttle import ThrottledLog
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import Conflict, IStore, Stored

#: What may wait for the store: some seconds of the fastest intake, and little memory.
MAX_WAITING_EVENTS = 100_000
MAX_WAITING_BYTES = 64 << 20

#: A batch goes when so many turns of the reactor have brought nothing more for it. A turn may well
#: bring connections only, whose events come with the next one.
QUIET_TURNS = 3

#: Who was answered within so many seconds is expected to come again at once. A batch goes when as
#: many are here as are expected, or when nothing has come for so many times as long as the last commit
#: took: who comes too late waits for another, and so do all others, behind it. Otherwise two halves of
#: the clients take turns, and pay for twice as many commits.
RETURNING, WORTH_COMMITS = 0.005, 2

#: Clients that send an event now and then do not come again at once, and waiting for them makes the
#: reactor spin for nothing. So it is done as long as it works: one that has worked counts one, up to
#: so many; one that was in vain takes so many away; at none, one batch in so many tries again.
MOST_TRUST, DISAPPOINTMENT, NEXT_TRIAL = 16, 3, 64

#: A batch goes after so many seconds at the latest: if somebody waits for the answer, and if nobody
#: does (UDP).
MAX_GATHERING, MAX_GATHERING_UNHEARD = 0.002, 0.01

#: After a commit that took longer than this (seconds), those who were just answered get a part
#: of that time to come again, and at most so many seconds: their way may be longer than some turns
#: of the reactor, and the other half's commit is long to wait for. PostgreSQL has `commit_delay`
#: for it.
SLOW_COMMIT, PAUSE_PART, MAX_PAUSE = 0.05, 0.1, 0.1

#: Seconds after which the next batch goes though the one before is not answered: the store is in
#: doubt about that one perhaps, and what comes now is to be refused and not to wait for ever.
PATIENCE = 1.0

#: Memory that an event takes besides its text, roughly (bytes).
_OVERHEAD = 200


class SubmitCallback(Protocol):
    """Who waits for events without a Deferred; is told how it ended once, and does not raise."""

    def begin(self) -> None:
        """They are on disk. Said to one taker of a batch at most, in the store's thread: a client may wake
        while the reactor does. Nothing of the reactor's is to be touched; `stored` follows, or
        `not_stored` if the store fails even then."""

    def stored(self, now: float) -> None:
        """They are on disk, at this time of the reactor (seconds)."""

    def not_stored(self) -> None:
        """They are not, and may be tried again."""


@frozen
class _Waiting:
    """A group on its way; nobody waits for the answer of one from UDP."""

    group: Group
    size: int
    door: str
    done: Deferred[Stored] | None
    takers: Sequence[SubmitCallback] = ()


@define
class Load:
    """How much waits for the store."""

    events: int = 0
    size: int = 0


def _size(events: Sequence[NewEvent]) -> int:
    series = events.series if isinstance(events, SeriesBatch) else [event.series for event in events]
    return _OVERHEAD * len(series) + sum(map(len, series))


def _apart(events: Sequence[NewEvent]) -> list[Group]:
    """Groups of events that stand alone: one for each that has a key, and one for each run that has none."""
    if isinstance(events, SeriesBatch):
        return [Group(events=events)]
    groups: list[Group] = []
    for keyed, run in groupby(events, lambda event: event.key is not None):
        several = list(run)
        groups += [Group(events=(event,)) for event in several] if keyed else [Group(events=several)]
    return groups


class Ingest:
    """Takes groups of events and answers when they are on disk."""

    _log = Logger()

    def __init__(self, store: IStore, telemetry: Telemetry, clock: IReactorTime) -> None:
        self._store = store
        self._telemetry = telemetry
        self._clock = clock
        self._queue: list[_Waiting] = []
        self._crowd: list[str] = []  # events that are plain series; go with the queue, as one group
        self._crowd_size = 0
        self._takers: list[SubmitCallback] = []  # whose events they are
        self._arrivals = 0
        self._listeners = 0  # who wait for an answer, and are not in a batch yet
        self._expected = 0  # listeners
        self._is_counted = False  # who is expected after the batch at the store
        self._trust, self._batches = 1, 0
        self._answered_at = self._took = 0.0  # the last commit: when, and for how long (seconds)
        self._storing = False  # when `_queue` goes next is settled
        self._first_came: float | None = None  # of those that are in no batch yet, reactor seconds
        self._at_store: list[float] = []  # batches: when the first event of each came
        self._pause = 0.0  # before the next batch goes, seconds
        self._idle: list[Deferred[None]] = []
        self._unheard = ThrottledLog(
            clock, self._log, "{count} events refused ({reason}), whose senders do not hear of it: {text}"
        )
        self.load = Load()

    def submit(self, group: Group, door: str) -> Deferred[Stored]:
        """Store a group.

        :param door: one of `metrics.registry.SOURCES`.
        :returns: fires when the group is on disk; fails with `Refused` (422 for a key with
            other content, 503 if the store cannot take it now). Cancelling it changes nothing
            but that nobody hears the answer.
        """
        done: Deferred[Stored] = Deferred()
        try:
            self._put([_Waiting(group, _size(group.events), door, done)])
        except Refused as refused:
            done.errback(refused)
        return done

    def offer(self, events: Sequence[NewEvent], door: str) -> None:
        """Store events for which nobody waits, in order; each stands alone. Where there are too many
        for all to wait, the first are stored. Refusals are counted here."""
        try:
            if events:
                self._put([_Waiting(group, _size(group.events), door, None) for group in _apart(events)])
        except Refused as refused:
            room = MAX_WAITING_EVENTS - self.load.events
            if 0 < room < len(events):
                self.offer(events[:room], door)
                events = events[room:]
            self._note(refused, len(events))

    def take(self, series: Sequence[str], taker: SubmitCallback) -> bool:
        """Store events that are a series and nothing else, with as little ado as may be.

        :param taker: waits for all of them, and counts as so many.
        :returns: whether there is room for them; if not, nothing has happened.
        """
        size = _size(SeriesBatch(series))
        if not self._has_room(len(series), size):
            return False
        self.load.events += len(series)
        self.load.size += size
        self._crowd_size += size
        self._crowd += series
        self._takers.append(taker)
        self._listeners += len(series)
        self._soon()
        return True

    def waits(self) -> float:
        """Seconds for which the longest-waiting event has been waiting for the disk; 0 if none waits."""
        came = self._at_store if self._first_came is None else [*self._at_store, self._first_came]
        return self._clock.seconds() - min(came) if came else 0.0

    def flush(self) -> None:
        """Log the counts that are still held back; for the end of the daemon."""
        self._unheard.flush()

    def drain(self) -> Deferred[None]:
        """Fires when nothing waits any more, and everybody has been answered."""
        if not self._storing and not self._at_store:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        return done

    def _put(self, waiting: Sequence[_Waiting]) -> None:
        events = sum(len(item.group.events) for item in waiting)
        size = sum(item.size for item in waiting)
        if not self._has_room(events, size):
            raise Refused(
                "too much is waiting for the disk: try again in a moment", reason="busy", status=503
            )
        self.load.events += events
        self.load.size += size
        self._queue.extend(waiting)
        self._listeners += sum(item.done is not None for item in waiting)
        self._soon()

    def _has_room(self, events: int, size: int) -> bool:
        return self.load.events + events <= MAX_WAITING_EVENTS and self.load.size + size <= MAX_WAITING_BYTES

    def _soon(self) -> None:
        self._arrivals += 1
        if self._first_came is None:
            self._first_came = self._clock.seconds()
        if not self._storing:
            self._storing = True
            self._gather()

    def _gather(self) -> None:
        """The next batch goes soon, and not at once."""
        now = self._clock.seconds()
        self._batches += 1
        if now - self._answered_at > RETURNING or not (self._trust or self._batches % NEXT_TRIAL == 0):
            self._expected = 0
        if self._pause:
            self._clock.callLater(self._pause, self._store_waiting)
        else:
            self._clock.callLater(0, self._turn, self._arrivals, 0, now, now)

    def _turn(self, arrivals: int, quiet: int, since: float, latest: float) -> None:
        now = self._clock.seconds()
        if arrivals == self._arrivals:
            quiet += 1
        else:
            quiet, latest = 0, now
        if self._is_complete(quiet, now - latest) or now - since >= (
            MAX_GATHERING if self._listeners else MAX_GATHERING_UNHEARD
        ):
            self._store_waiting()
        else:
            if quiet and self._is_expecting:
                # Who is expected may be waiting for this very processor.
                os.sched_yield()
            self._clock.callLater(0, self._turn, self._arrivals, quiet, since, latest)

    @property
    def _is_expecting(self) -> bool:
        """Whether the next batch is one that waits for who was just answered."""
        return bool(self._listeners and self._expected)

    def _is_complete(self, turns: int, seconds: float) -> bool:
        """Whether a batch for which nothing has come for so long is to go."""
        if self._is_expecting:
            return self._listeners >= self._expected or seconds >= WORTH_COMMITS * self._took
        return turns >= QUIET_TURNS

    def _store_waiting(self) -> None:
        if self._is_expecting:
            worked = self._listeners >= self._expected
            self._trust = min(self._trust + 1, MOST_TRUST) if worked else max(self._trust - DISAPPOINTMENT, 0)
        batch, self._queue = self._queue, []
        listeners, self._listeners = self._listeners, 0
        at_once = None
        if self._crowd:
            crowd, self._crowd = self._crowd, []
            size, self._crowd_size = self._crowd_size, 0
            takers, self._takers = self._takers, []
            batch.append(_Waiting(Group(events=SeriesBatch(crowd)), size, "http", None, takers))
            at_once = partial(self._begin, takers[0], listeners)
        asked = self._clock.seconds()
        came, self._first_came = asked if self._first_came is None else self._first_came, None
        self._at_store.append(came)
        stored = self._store.append([item.group for item in batch], at_once)
        overdue = self._clock.callLater(PATIENCE, self._next)
        stored.addBoth(self._answer, batch, listeners, came, asked, overdue)

    def _begin(self, taker: SubmitCallback, listeners: int) -> None:
        """In the store's thread: the batch is on disk, and so many wait for it."""
        # Before anybody is answered, who may be here again before the reactor is awake.
        self._expected, self._is_counted = self._listeners + listeners, True
        taker.begin()

    def _next(self) -> None:
        """The next batch may go, if there is one."""
        if self._queue or self._crowd:
            self._gather()
        else:
            self._storing = False

    def _answer(
        self,
        result: list[Stored | Conflict] | Failure,
        batch: list[_Waiting],
        listeners: int,
        came: float,
        asked: float,
        overdue: IDelayedCall,
    ) -> None:
        self._at_store.remove(came)
        for item in batch:
            self.load.events -= len(item.group.events)
            self.load.size -= item.size
        self._answered_at = self._clock.seconds()
        self._took = took = self._answered_at - asked
        if not self._is_counted:
            self._expected = self._listeners + listeners
        self._is_counted = False
        self._pause = min(PAUSE_PART * took, MAX_PAUSE) if took > SLOW_COMMIT else 0.0
        if overdue.active():
            overdue.cancel()
            self._next()
        if isinstance(result, Failure):
            self._refuse(batch, result)
        else:
            for item, outcome in zip(batch, result, strict=True):
                self._complete(item, outcome)
        if not self._storing and not self._at_store:
            idle, self._idle = self._idle, []
            for done in idle:
                done.callback(None)

    def _complete(self, item: _Waiting, outcome: Stored | Conflict) -> None:
        if isinstance(outcome, Conflict):
            refused = Refused(
                f"key {outcome.key!r} was seen before with other content", reason="conflict", status=422
            )
            self._fail(item, refused)
            return
        now = self._clock.seconds()
        for taker in item.takers:
            taker.stored(now)
        if item.done is not None and not item.done.called:
            item.done.callback(outcome)
        if outcome.again:
            self._telemetry.duplicate(len(item.group.events))
        else:
            self._telemetry.accepted(item.door, outcome.stored)
            self._telemetry.duplicate(outcome.duplicates)

    def _refuse(self, batch: list[_Waiting], failure: Failure) -> None:
        self._telemetry.writable = False
        if not isinstance(failure.value, StoreUnavailable):
            self._log.failure("storing {count} groups", failure=failure, count=len(batch))
        for item in batch:
            self._fail(item, Refused(f"not stored: {failure.value}", reason="store", status=503))

    def _fail(self, item: _Waiting, refused: Refused) -> None:
        if item.takers:
            for taker in item.takers:
                taker.not_stored()
        elif item.done is None:
            self._note(refused, len(item.group.events))
        elif not item.done.called:
            item.done.errback(refused)

    def _note(self, refused: Refused, events: int) -> None:
        self._telemetry.refused(refused.reason, events)
        self._unheard.note(refused.reason, events, text=refused.text)
