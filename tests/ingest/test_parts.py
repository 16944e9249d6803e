"""The division of large groups: nothing is left out, and nothing that cannot be repeated is divided."""

from __future__ import annotations

import pytest
from attrs import evolve

from oneshotd.core.events import Count, End, Group, NewEvent
from oneshotd.ingest.parts import parts_of, sum_of
from oneshotd.store.interface import Stored

EVENTS = [NewEvent(f's{{n="{number}"}}', key=f"k{number}") for number in range(5)]
GROUP = Group(
    events=EVENTS,
    keys_decide=True,
    states=[End(event=1, key="a"), Count(event=3, key="b", count=1, unknown=1, seconds=9.0)],
)


def test_parts_have_all_events_and_their_states() -> None:
    """Events would be lost, or get the state of another one."""
    parts = parts_of(GROUP, 2)
    assert [list(part.events) for part in parts] == [EVENTS[:2], EVENTS[2:4], EVENTS[4:]]
    assert [[(each.key, each.event) for each in part.states] for part in parts] == [
        [("a", 1)],
        [("b", 1)],
        [],
    ]
    assert all(part.keys_decide for part in parts)


@pytest.mark.parametrize(
    "group",
    [
        evolve(GROUP, keys_decide=False),
        evolve(GROUP, key="k", states=()),
        evolve(GROUP, events=[*EVENTS[:4], NewEvent("s")]),
        evolve(GROUP, events=EVENTS[:2], states=()),
    ],
    ids=["of a client", "one key", "an event without a key", "small"],
)
def test_what_cannot_be_repeated_stays_whole(group: Group) -> None:
    """A repetition after a failure would count the events of the first parts twice."""
    assert parts_of(group, 2) == [group]


def test_the_answers_of_parts_are_one_answer() -> None:
    """The numbers in the response would be those of one part."""
    answers = [Stored(stored=0, duplicates=2), Stored(stored=2, first=7), Stored(stored=1, first=9)]
    assert sum_of(answers) == Stored(stored=3, duplicates=2, first=7)
    assert sum_of([]) == Stored(stored=0, again=True)
