"""Plan the append of a group of events, given the known idempotency keys and states. Pure.

A key covers a group (``Idempotency-Key``) or one event (``__id__``); both share one name space, as a
client may give the same key either way. A back end looks up `keys_of` and `states_of` a group, calls
`plan_append`, and writes the plan in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from attrs import frozen

from oneshotd.core.events import MAX_STATE_SECONDS, Count, Group, NewEvent, Start, StateChange
from oneshotd.core.parsing.numbers import canonical
from oneshotd.store.interface import Conflict, Stored


@frozen
class Known:
    """The stored row of a key: a digest of its content, and the first answer.

    :param digest: of the content, see `digest_of`.
    :param stored: number of events stored.
    :param duplicates: number of events whose own keys were known.
    :param first: seq of the first stored event; 0 if none was stored.
    """

    digest: bytes
    stored: int
    duplicates: int
    first: int

    def answer(self) -> Stored:
        """Return the first answer, marked as repeated."""
        return Stored(stored=self.stored, duplicates=self.duplicates, first=self.first, again=True)


#: Greatest number of events that one `Count` stores.
MAX_OCCURRENCES = 1000

#: Number of events that all `Count`s of a group store, beyond which each stores one at most: a body of ten
#: thousand counts would hold the store for minutes.
MAX_COUNTED = 100_000

#: Likewise, characters of their series: a body of 256 KiB would become hundreds of megabytes.
MAX_COUNTED_CHARACTERS = 16 * 1024 * 1024

#: Greatest count that is kept: a database takes 64 bits, and JSON of some senders 53.
MAX_COUNT = 2**53


@frozen
class State:
    """The stored row of a state.

    :param value: of a `Start` the time of its event (Unix ms), of a `Count` the count.
    :param seconds: for how long it is kept, at most `MAX_STATE_SECONDS`.
    """

    value: int
    seconds: float

    def until(self, up: int) -> int:
        """Return the up-time (ms) up to which it is kept.

        :param up: the present up-time (ms).
        """
        return up + int(max(0.0, min(self.seconds, MAX_STATE_SECONDS)) * 1000)


@frozen(kw_only=True)
class AppendPlan:
    """The answer for a group, and the rows to write.

    :param events: events to append to the log, in order.
    :param keys: new keys to keep.
    :param states: states to keep, or to delete (None).
    """

    answer: Stored | Conflict
    events: Sequence[NewEvent] = ()
    keys: Mapping[str, Known] = {}
    states: Mapping[str, State | None] = {}


def digest_of(events: Sequence[NewEvent]) -> bytes:
    """Return a digest of names, labels and values, in order: equal groups have equal digests."""
    digest = blake2b(digest_size=16)
    for event in events:
        digest.update(f"{event.series}\n{event.value or ''}\n".encode())
    return digest.digest()


def keys_of(group: Group) -> list[str]:
    """Return the keys that a back end looks up before it plans the group."""
    own = dict.fromkeys(event.key for event in group.events if event.key is not None)
    return [*own, *([] if group.key is None else [group.key])]


def states_of(group: Group) -> list[str]:
    """Return the states that a back end looks up before it plans the group."""
    return list(dict.fromkeys(change.key for change in group.states))


def plan_append(
    group: Group, known: Mapping[str, Known], first: int, states: Mapping[str, int] = {}, now: int = 0
) -> AppendPlan:
    """Plan the append of one group.

    :param known: those of the group's keys that were used within the hold.
    :param first: seq of the next event in the log.
    :param states: those of the group's states that are kept.
    :param now: time of acceptance, Unix ms.
    """
    digest = b""
    if group.key is not None:
        digest, before = digest_of(group.events), known.get(group.key)
        if before is not None:
            is_same = group.keys_decide or before.digest == digest
            return AppendPlan(answer=before.answer() if is_same else Conflict(key=group.key))
    keys: dict[str, Known] = {}
    events: list[NewEvent] = []
    duplicates = 0
    changes = _Changes(group.states, states, now) if group.states else None
    for number, event in enumerate(group.events):
        if event.key is None and changes is None:
            events.append(event)
            continue
        if event.key is not None:
            own = digest_of((event,))
            before = keys.get(event.key) or known.get(event.key)
            if before is not None:
                if before.digest != own and not group.keys_decide:
                    return AppendPlan(answer=Conflict(key=event.key))
                duplicates += 1
                continue
        occurrences = (event,) if changes is None else changes.apply(number, event)
        duplicates += not occurrences
        if event.key is not None:
            keys[event.key] = Known(own, len(occurrences), 0, first + len(events) if occurrences else 0)
        events += occurrences
    answer = Stored(stored=len(events), duplicates=duplicates, first=first if events else 0)
    if group.key is not None:
        keys[group.key] = Known(digest, answer.stored, answer.duplicates, answer.first)
    return AppendPlan(answer=answer, events=events, keys=keys, states={} if changes is None else changes.made)


class _Changes:
    """The states of a group, while its events are planned one after the other.

    :ivar made: see `AppendPlan.states`.
    """

    def __init__(self, changes: Sequence[StateChange], states: Mapping[str, int], now: int) -> None:
        self._states = dict(states)
        self._now = now
        self._of_event: dict[int, list[StateChange]] = {}
        for change in changes:
            self._of_event.setdefault(change.event, []).append(change)
        self.made: dict[str, State | None] = {}
        self._left = MAX_COUNTED
        self._room = MAX_COUNTED_CHARACTERS

    def apply(self, number: int, event: NewEvent) -> Sequence[NewEvent]:
        """Return what is stored for the event with this index."""
        times = 1
        for change in self._of_event.get(number, ()):
            before = self._states.get(change.key)
            if isinstance(change, Start):
                self._keep(change.key, self._now, change.seconds)
            elif isinstance(change, Count):
                count = min(change.count, MAX_COUNT)
                grown = change.unknown if before is None else count - before
                left = max(1, min(self._left, self._room // len(event.series)))
                times = min(max(0, grown), MAX_OCCURRENCES, left)
                self._left -= times
                self._room -= times * len(event.series)
                self._keep(change.key, max(count, before or 0), change.seconds)
            elif before is not None:
                event = event._replace(value=_seconds(max(0, self._now - before)))
                del self._states[change.key]
                self.made[change.key] = None
        # The details are those of the last occurrence; copies of them could be gigabytes.
        if times < 2:
            return (event,) * times
        return [event._replace(detail="")] * (times - 1) + [event]

    def _keep(self, key: str, value: int, seconds: float) -> None:
        self._states[key] = value
        self.made[key] = State(value, seconds)


def _seconds(milliseconds: int) -> str:
    """Return seconds as a sample's value: ``2``, ``0.25``."""
    return canonical(f"{milliseconds / 1000:.3f}")
