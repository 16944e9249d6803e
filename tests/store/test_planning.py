"""The planning of an append: what is stored, what is answered, which keys are kept."""

from __future__ import annotations

import pytest
from attrs import evolve

from oneshotd.core.events import Count, End, Group, NewEvent, Start, StateChange
from oneshotd.store.interface import Conflict, Stored
from oneshotd.store.planning import (
    MAX_COUNTED,
    MAX_COUNTED_CHARACTERS,
    MAX_OCCURRENCES,
    AppendPlan,
    Known,
    State,
    digest_of,
    keys_of,
    plan_append,
    states_of,
)

A, B = NewEvent("a"), NewEvent("b", "1")
KEYED_A, KEYED_B = NewEvent("a", None, "ka"), NewEvent("b", "1", "kb")
KNOWN_A = Known(digest_of([A]), 1, 0, 3)
OTHER = Known(b"other content", 1, 0, 3)
COUNT_OF_7 = Count(event=1, key="c", count=7, unknown=2, seconds=9.0)


@pytest.mark.parametrize(
    ("group", "known", "planned"),
    [
        (Group(events=[A, B, A]), {}, AppendPlan(answer=Stored(stored=3, first=7), events=[A, B, A])),
        (
            Group(events=[KEYED_A, B, KEYED_B]),
            {},
            AppendPlan(
                answer=Stored(stored=3, first=7),
                events=[KEYED_A, B, KEYED_B],
                keys={"ka": Known(digest_of([A]), 1, 0, 7), "kb": Known(digest_of([B]), 1, 0, 9)},
            ),
        ),
        (
            Group(events=[KEYED_A, KEYED_B]),
            {"ka": KNOWN_A},
            AppendPlan(
                answer=Stored(stored=1, duplicates=1, first=7),
                events=[KEYED_B],
                keys={"kb": Known(digest_of([B]), 1, 0, 7)},
            ),
        ),
        (
            Group(events=[KEYED_A, KEYED_A]),  # the same key twice in one group
            {},
            AppendPlan(
                answer=Stored(stored=1, duplicates=1, first=7),
                events=[KEYED_A],
                keys={"ka": Known(digest_of([A]), 1, 0, 7)},
            ),
        ),
        (
            Group(events=[KEYED_A]),
            {"ka": KNOWN_A},
            AppendPlan(answer=Stored(stored=0, duplicates=1), events=[]),
        ),
        (Group(events=[B, KEYED_A]), {"ka": OTHER}, AppendPlan(answer=Conflict(key="ka"))),
        (
            Group(events=[KEYED_A, KEYED_B._replace(key="ka")]),
            {},
            AppendPlan(answer=Conflict(key="ka")),
        ),
        (
            Group(events=[A, B], key="k"),
            {},
            AppendPlan(
                answer=Stored(stored=2, first=7),
                events=[A, B],
                keys={"k": Known(digest_of([A, B]), 2, 0, 7)},
            ),
        ),
        (
            Group(events=[A], key="k"),
            {"k": Known(digest_of([A]), 1, 4, 3)},
            AppendPlan(answer=Stored(stored=1, duplicates=4, first=3, again=True)),
        ),
        (Group(events=[B], key="k"), {"k": KNOWN_A}, AppendPlan(answer=Conflict(key="k"))),
    ],
)
def test_what_becomes_of_a_group(group: Group, known: dict[str, Known], planned: AppendPlan) -> None:
    """A repeated request would store its events twice, or another's events would be lost."""
    assert plan_append(group, known, 7) == planned


def test_the_keys_of_a_group_are_its_own_and_its_events() -> None:
    """A key that is not looked up is stored a second time."""
    assert keys_of(Group(events=[A, KEYED_A, KEYED_B, KEYED_A])) == ["ka", "kb"]
    assert keys_of(Group(events=[A, B], key="k")) == ["k"]
    assert keys_of(Group(events=[A, B])) == []


@pytest.mark.parametrize(
    "others", [[B, A], [A], [A, NewEvent("b")], [A, NewEvent("b", "1.0")], [NewEvent("a\nb", "1")]]
)
def test_other_content_has_another_digest(others: list[NewEvent]) -> None:
    """A key that is used again with other content must be refused."""
    assert digest_of([A, B]) != digest_of(others)
    assert digest_of([A, B]) == digest_of([KEYED_A, KEYED_B])


NOW = 60_000
SINCE = State(NOW, 9.0)
ENDED = Group(events=[A], states=[End(event=0, key="s")])
MANY = {"c": State(10**9, 9.0)}
MOST = {"c": State(2**53, 9.0)}


@pytest.mark.parametrize(
    ("group", "states", "stored", "planned_states"),
    [
        (Group(events=[A], states=[Start(event=0, key="s", seconds=9.0)]), {}, [A], {"s": SINCE}),
        # A second start replaces the first one.
        (Group(events=[A], states=[Start(event=0, key="s", seconds=9.0)]), {"s": 5}, [A], {"s": SINCE}),
        (ENDED, {}, [A], {}),
        (
            ENDED,
            {"s": 57_750},
            [NewEvent("a", "2.25")],
            {"s": None},
        ),
        # The clock was set back.
        (ENDED, {"s": 99_999}, [NewEvent("a", "0")], {"s": None}),
        (
            Group(events=[A, A], states=[Start(event=0, key="s", seconds=9.0), End(event=1, key="s")]),
            {},
            [A, NewEvent("a", "0")],
            {"s": None},
        ),
        (Group(events=[A, B], states=[COUNT_OF_7]), {"c": 3}, [A, B, B, B, B], {"c": State(7, 9.0)}),
        (Group(events=[A, B], states=[COUNT_OF_7]), {"c": 7}, [A], {"c": State(7, 9.0)}),
        (Group(events=[A, B], states=[COUNT_OF_7]), {"c": 9}, [A], {"c": State(9, 9.0)}),
        (Group(events=[A, B], states=[COUNT_OF_7]), {}, [A, B, B], {"c": State(7, 9.0)}),
        (Group(events=[B], states=[evolve(COUNT_OF_7, event=0, count=10**9)]), {"c": 1}, [B] * 1000, MANY),
        (Group(events=[A, B], states=[evolve(COUNT_OF_7, count=10**30)]), {}, [A, B, B], MOST),
        (Group(events=[A, B], states=[evolve(COUNT_OF_7, count=10**30)]), {"c": 2**53}, [A], MOST),
        (
            Group(events=[A, B], states=[evolve(COUNT_OF_7, count=-(10**30))]),
            {},
            [A, B, B],
            {"c": State(0, 9.0)},
        ),
    ],
)
def test_what_events_need_of_the_state_is_resolved(
    group: Group, states: dict[str, int], stored: list[NewEvent], planned_states: dict[str, State | None]
) -> None:
    """Durations and occurrences would be wrong."""
    plan = plan_append(group, {}, 7, states, NOW)
    assert list(plan.events) == stored
    assert plan.states == planned_states
    assert plan.answer == Stored(stored=len(stored), duplicates=len(stored) == 1 < len(group.events), first=7)


def test_a_duplicate_changes_no_state() -> None:
    """A repeated ping would begin the time again, and a repeated count would be missing later."""
    states: list[StateChange] = [
        Start(event=0, key="s", seconds=9.0),
        evolve(COUNT_OF_7, event=0),
        End(event=0, key="t"),
    ]
    for group in (Group(events=[A], key="k"), Group(events=[KEYED_A])):
        known = {"k": Known(digest_of([A]), 1, 0, 3), "ka": KNOWN_A}
        plan = plan_append(evolve(group, states=states), known, 7, {"c": 3, "t": 4}, NOW)
        assert not plan.events and not plan.states


@pytest.mark.parametrize("group", [Group(events=[A, B], key="k"), Group(events=[KEYED_A])])
def test_a_known_key_of_a_dialect_is_a_duplicate_whatever_the_content(group: Group) -> None:
    """A peer's copy, or a repetition after a change of a mapping, would fail for ever."""
    known = {"k": OTHER, "ka": OTHER}
    assert isinstance(plan_append(group, known, 7).answer, Conflict)
    plan = plan_append(evolve(group, keys_decide=True), known, 7)
    assert isinstance(plan.answer, Stored) and not plan.events and not plan.keys


@pytest.mark.parametrize(
    ("seconds", "until"),
    [
        (9.5, 10_500),
        (0.0, 1000),
        (-5.0, 1000),
        (1e300, 1000 + 7 * 86_400_000),
        (float("inf"), 1000 + 7 * 86_400_000),
        (float("nan"), 1000),
    ],
)
def test_a_state_expires_after_its_seconds_or_a_week(seconds: float, until: int) -> None:
    """A dialect's mistake would keep the states of its senders for ever."""
    assert State(1, seconds).until(1000) == until


def test_the_last_of_several_occurrences_has_the_details() -> None:
    """A thousand copies of 4 KiB would be in the log."""
    detailed = NewEvent("b", detail='{"text":"x"}')
    plan = plan_append(Group(events=[A, detailed], states=[COUNT_OF_7]), {}, 7, {"c": 5}, NOW)
    assert list(plan.events) == [A, NewEvent("b"), detailed]
    assert digest_of([detailed]) == digest_of([NewEvent("b")])


def test_the_counts_of_a_group_are_bounded_together() -> None:
    """A request of ten thousand counts would hold the store for minutes."""
    most = MAX_COUNTED // MAX_OCCURRENCES
    states = [
        Count(event=number, key=f"{number}", count=9_000, unknown=9_000, seconds=9.0)
        for number in range(most + 3)
    ]
    plan = plan_append(Group(events=[A] * (most + 3), states=states), {}, 1)
    assert plan.answer == Stored(stored=MAX_COUNTED + 3, duplicates=0, first=1)
    assert {state.value for state in plan.states.values() if state is not None} == {9_000}


def test_the_states_of_a_group_are_looked_up_once() -> None:
    """A back end would read a row several times."""
    group = Group(events=[A], states=[End(event=0, key="s"), Start(event=0, key="s", seconds=1.0)])
    assert states_of(group) == ["s"]


def test_occurrences_of_long_events_do_not_fill_the_store() -> None:
    """A request of 256 KiB would become hundreds of megabytes, for which other events are deleted."""
    long = NewEvent("x" * 30_000, None, None, '{"text":"y"}')
    states = [
        Count(event=number, key=f"{number}", count=1000, unknown=1000, seconds=9.0) for number in range(3)
    ]
    plan = plan_append(Group(events=[long] * 3, states=states), {}, 1)
    assert sum(len(event.series) for event in plan.events) <= MAX_COUNTED_CHARACTERS + 3 * 30_000
    assert {state.value for state in plan.states.values() if state is not None} == {1000}
    assert [event.detail for event in plan.events if event.detail] == ['{"text":"y"}'] * 3
    assert plan.events[-1] == long
