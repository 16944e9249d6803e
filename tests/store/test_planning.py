"""The planning of an append: what is stored, what is answered, which keys are kept."""

from __future__ import annotations

import pytest

from oneshotd.core.events import Group, NewEvent
from oneshotd.store.interface import Conflict, Stored
from oneshotd.store.planning import AppendPlan, Known, digest_of, keys_of, plan_append

A, B = NewEvent("a"), NewEvent("b", "1")
KEYED_A, KEYED_B = NewEvent("a", None, "ka"), NewEvent("b", "1", "kb")
KNOWN_A = Known(digest_of([A]), 1, 0, 3)
OTHER = Known(b"other content", 1, 0, 3)


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
