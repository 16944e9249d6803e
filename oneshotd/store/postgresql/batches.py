"""A batch as it is planned before the head of the log is known, and its outcome."""

from __future__ import annotations

from attrs import evolve, field, frozen

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import Group
from oneshotd.store.interface import Conflict, Stored
from oneshotd.store.planning import Known, State, plan_append, states_of

#: Seqs of a batch are planned from here on, below 0, as the head is not known before the lock.
PLANNED = -(1 << 60)


@frozen
class Appended:
    """The outcome of a commit.

    :param answers: one for each group.
    :param head: the seq of its last event.
    :param over: the log exceeds its bounds.
    :param ahead_ms: by how much the times of its events are ahead of the clock.
    """

    answers: list[Stored | Conflict]
    head: int
    over: bool = False
    ahead_ms: int = 0


@frozen
class Batch:
    """The events of a batch and the answers, planned from `PLANNED` on.

    :param details: place of each event that has one, from 0, and the text.
    :param keys: new keys, and `states` changed states; see `AppendPlan`.
    """

    answers: list[Stored | Conflict] = field(factory=list)
    series: list[str] = field(factory=list)
    values: list[str | None] = field(factory=list)
    details: list[tuple[int, bytes]] = field(factory=list)
    keys: dict[str, Known] = field(factory=dict)
    states: dict[str, State | None] = field(factory=dict)

    def add(self, group: Group, known: dict[str, Known], kept: dict[str, int], now: int) -> None:
        """Plan a group; `known` gets its new keys, and `kept` its states.

        :param now: see `plan_append`.
        """
        first = PLANNED + len(self.series)
        if group.key is None and isinstance(group.events, SeriesBatch):
            self.series.extend(group.events.series)
            self.values.extend([None] * len(group.events))
            self.answers.append(Stored(stored=len(group.events), first=first))
            return
        own = {key: kept[key] for key in states_of(group) if key in kept} if group.states else {}
        planned = plan_append(group, known, first, own, now)
        self.answers.append(planned.answer)
        self.details.extend(
            (place, event.detail.encode())
            for place, event in enumerate(planned.events, len(self.series))
            if event.detail
        )
        self.series.extend(event.series for event in planned.events)
        self.values.extend(event.value for event in planned.events)
        self.keys.update(planned.keys)
        known.update(planned.keys)
        for key, state in planned.states.items():
            self.states[key] = state
            if state is None:
                kept.pop(key, None)
            else:
                kept[key] = state.value

    def answered(self, first: int) -> list[Stored | Conflict]:
        """Return the answers, given the seq of the first event."""
        return [
            evolve(answer, first=answer.first - PLANNED + first)
            if isinstance(answer, Stored) and answer.first < 0
            else answer
            for answer in self.answers
        ]
