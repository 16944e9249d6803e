"""Groups of events in the queue, the batches made of them, and the clients that wait for their answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

from attrs import define, frozen
from twisted.internet.defer import Deferred

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import Group, NewEvent
from oneshotd.store.interface import Stored

#: Memory that an event takes besides its text, roughly (bytes).
_OVERHEAD = 200


class SubmitCallback(Protocol):
    """Is told once how a `submit_series` ended, in the reactor's thread. Its methods do not raise."""

    def on_stored(self, now: float) -> None:
        """The events are on disk, at this time of the reactor (seconds)."""

    def on_failed(self) -> None:
        """The events are not on disk, and may be submitted again."""


@frozen
class Waiting:
    """A group in the queue or at the store, and how to answer its client: by neither if it came by UDP."""

    group: Group
    size: int
    source: str
    done: Deferred[Stored] | None
    callbacks: Sequence[SubmitCallback] = ()


@frozen(eq=False)
class Batch:
    """Groups that one `IStore.append` stores.

    :param requests: events whose client waits for an answer.
    :param first_arrival: when its first event arrived.
    :param asked_at: when the store was asked.
    """

    groups: list[Waiting]
    requests: int
    first_arrival: float
    asked_at: float


@define
class Load:
    """How much waits for the store."""

    events: int = 0
    size: int = 0


def memory_of(events: Sequence[NewEvent]) -> int:
    """Return roughly how many bytes of memory events take."""
    if isinstance(events, SeriesBatch):
        return _OVERHEAD * len(events) + sum(map(len, events.series))
    return sum(_OVERHEAD + len(event.series) + len(event.detail) for event in events)


def independent_groups(events: Sequence[NewEvent]) -> list[Group]:
    """Split events that stand alone: one group for each with a key, and one for each run without."""
    if isinstance(events, SeriesBatch):
        return [Group(events=events)]
    groups: list[Group] = []
    for keyed, run in groupby(events, lambda event: event.key is not None):
        several = list(run)
        groups += [Group(events=(event,)) for event in several] if keyed else [Group(events=several)]
    return groups
