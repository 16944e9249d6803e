"""Plan the append of a group of events, given the known idempotency keys. Pure.

A key covers a group (``Idempotency-Key``) or one event (``__id__``); both share one name space, as a
client may give the same key either way. A back end looks up `keys_of` a group, calls `plan_append`, and
writes the plan in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from attrs import frozen

from oneshotd.core.events import Group, NewEvent
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


@frozen(kw_only=True)
class AppendPlan:
    """The answer for a group, and the rows to write.

    :param events: events to append to the log, in order.
    :param keys: new keys to keep.
    """

    answer: Stored | Conflict
    events: Sequence[NewEvent] = ()
    keys: Mapping[str, Known] = {}


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


def plan_append(group: Group, known: Mapping[str, Known], first: int) -> AppendPlan:
    """Plan the append of one group.

    :param known: those of the group's keys that were used within the hold.
    :param first: seq of the next event in the log.
    """
    digest = b""
    if group.key is not None:
        digest, before = digest_of(group.events), known.get(group.key)
        if before is not None:
            return AppendPlan(answer=before.answer() if before.digest == digest else Conflict(key=group.key))
    keys: dict[str, Known] = {}
    events: list[NewEvent] = []
    for event in group.events:
        if event.key is not None:
            own = digest_of((event,))
            before = keys.get(event.key) or known.get(event.key)
            if before is not None:
                if before.digest != own:
                    return AppendPlan(answer=Conflict(key=event.key))
                continue
            keys[event.key] = Known(own, 1, 0, first + len(events))
        events.append(event)
    answer = Stored(
        stored=len(events), duplicates=len(group.events) - len(events), first=first if events else 0
    )
    if group.key is not None:
        keys[group.key] = Known(digest, answer.stored, answer.duplicates, answer.first)
    return AppendPlan(answer=answer, events=events, keys=keys)
