"""Pings as events: the labels, the pairing of start and end, and what a repetition does."""

from __future__ import annotations

from typing import Any

import pytest

from oneshotd.core.events import End, Group, Start, details_of, labels_of
from oneshotd.core.parsing.grammar import Rules
from oneshotd.ingest.dialects.pings import Check, Checks, Ping, Place, translate_ping
from oneshotd.ingest.dialects.translation import Context, Message
from oneshotd.store.interface import Stored
from oneshotd.store.planning import plan_append

CONTEXT = Context(rules=Rules(), hold=3600.0, now=1_700_000_000.0)
CHECK = Check(name="backup", labels={"team": "shop"}, keep=600.0)
RUN = "123e4567-e89b-12d3-a456-426614174000"


def group_of(state: str, check: Check = CHECK, principal: str = "", **ping: Any) -> Group:
    made = Ping(place=("secret",), state=state, **ping)
    group = translate_ping(made, check, Message(principal=principal), CONTEXT).group
    assert group is not None
    assert group.keys_decide
    return group


def test_labels_and_details() -> None:
    group = group_of("fail", exit_code="3", details={"text": "disk full", "env": ""})
    (event,) = group.events
    assert labels_of(event.series) == {
        "type": "ping",
        "check": "backup",
        "state": "fail",
        "exit_code": "3",
        "team": "shop",
    }
    assert details_of(event.detail) == {"text": "disk full"}
    assert (event.value, event.key) == (None, None)


def test_the_answer_is_ok() -> None:
    translation = translate_ping(Ping(place=("x",), state="success"), CHECK, Message(), CONTEXT)
    assert translation.answer is not None
    answer = translation.answer(Stored(stored=1))
    assert (answer.body, answer.content_type, answer.status) == (b"OK", "text/plain", 200)


class Store:
    """Plans the groups one after the other, as a store does."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.states: dict[str, int] = {}

    def values(self, group: Group, now: int) -> list[str | None]:
        plan = plan_append(group, self.known, 1, self.states, now)
        self.known.update(plan.keys)
        for key, state in plan.states.items():
            self.states.pop(key, None)
            if state is not None:
                self.states[key] = state.value
        return [event.value for event in plan.events]


@pytest.mark.parametrize("end", ["success", "fail"])
@pytest.mark.parametrize("run", ["", RUN])
def test_an_end_has_the_seconds_since_its_start(end: str, run: str) -> None:
    store = Store()
    assert store.values(group_of("start", run=run), 10_000) == [None]
    assert store.values(group_of("log", run=run), 11_000) == [None]
    assert store.values(group_of(end, run=run), 12_500) == ["2.5"]
    assert store.values(group_of("log", run=run, details={"text": "later"}), 13_000) == [None]
    assert not store.states


@pytest.mark.parametrize(
    "other",
    [
        {"run": "other"},
        {"run": ""},
        {"run": RUN, "check": Check(name="other")},
        {"run": RUN, "principal": "ci"},
    ],
)
def test_another_run_is_not_paired(other: dict[str, Any]) -> None:
    store = Store()
    store.values(group_of("start", run=RUN), 10_000)
    assert store.values(group_of("success", **other), 12_000) == [None]
    assert store.values(group_of("success", run=RUN), 13_000) == ["3"]


def test_runs_without_an_id_are_told_apart_by_environment_and_host() -> None:
    store = Store()
    store.values(group_of("start", series=("prod", "a")), 10_000)
    store.values(group_of("start", series=("prod", "b")), 11_000)
    assert store.values(group_of("success", series=("prod", "a")), 12_000) == ["2"]
    store = Store()
    store.values(group_of("start", series=("prod", "a"), run=RUN), 10_000)
    assert store.values(group_of("success", series=("prod", "b"), run=RUN), 12_000) == ["2"]


def test_a_measured_value_is_used_where_no_start_is_known() -> None:
    store = Store()
    assert store.values(group_of("success", value="45.2"), 12_000) == ["45.2"]
    store.values(group_of("start"), 20_000)
    assert store.values(group_of("success", value="45.2"), 22_000) == ["2"]


def test_a_repeated_ping_of_one_run_counts_once() -> None:
    """A wrapper repeats a ping that was not answered."""
    store = Store()
    assert store.values(group_of("start", run=RUN), 10_000) == [None]
    assert store.values(group_of("start", run=RUN), 11_000) == []
    assert store.values(group_of("fail", run=RUN, exit_code="1"), 12_000) == ["2"]
    assert store.values(group_of("fail", run=RUN, exit_code="1"), 13_000) == []
    assert store.values(group_of("fail", run=RUN, details={"text": "again"}), 13_000) == []
    assert store.values(group_of("start", run=RUN), 14_000) == []
    assert not store.states
    assert store.values(group_of("log", run=RUN, details={"text": "a"}), 15_000) == [None]
    assert store.values(group_of("log", run=RUN, details={"text": "b"}), 15_000) == [None]
    assert store.values(group_of("log", run=RUN, details={"text": "a"}), 15_000) == []


def test_without_a_run_id_each_ping_counts() -> None:
    store = Store()
    assert [store.values(group_of("success"), 1000) for _ in range(3)] == [[None]] * 3


def test_the_time_for_which_a_start_is_kept_is_that_of_the_check() -> None:
    (start,) = group_of("start").states
    (end,) = group_of("fail").states
    assert isinstance(start, Start)
    assert isinstance(end, End)
    assert start.seconds == 600.0
    assert start.key == end.key
    assert group_of("log").states == group_of("ok").states == group_of("tick").states == []


def test_checks_are_found_by_their_places() -> None:
    places: dict[Place, Check] = {("uuid",): CHECK, ("key", "slug"): CHECK, ("key", "other"): Check(name="a")}
    checks = Checks(places)
    assert checks.find(("uuid",)) is checks.find(("key", "slug")) is CHECK
    assert checks.find(("key", "x")) is checks.find(("key",)) is None
    assert (len(checks), checks.names) == (3, ["a", "backup"])
    assert "key" not in repr(checks)
    assert Checks().find(("uuid",)) is None
