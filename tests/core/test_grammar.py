"""The rules about names, and how a refusal repeats what the client wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.grammar import MAX_NAME_BYTES, MAX_QUOTED, Rules, quoted


@pytest.mark.parametrize("name", ["deploys", "a:b", ":", "_x", "__x", "ups", "process_started", "Scrape_x"])
def test_a_tool_may_choose_any_free_name(name: str) -> None:
    assert Rules().fault(name) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "form"),
        ("1st", "form"),
        ("a-b", "form"),
        ("é", "form"),
        ("a\n", "form"),
        ("n" * (MAX_NAME_BYTES + 1), "longer than 128 bytes"),
        ("up", "taken"),
        ("scrape_duration_seconds", "taken"),
        ("ALERTS", "taken"),
        ("ALERTS_FOR_STATE", "taken"),
        ("oneshotd_events", "taken"),
        ("process_cpu_seconds_total", "taken"),
    ],
)
def test_an_event_cannot_pose_as_another_metric(name: str, fault: str) -> None:
    assert fault in (Rules(taken=frozenset({"process_cpu_seconds_total"})).fault(name) or "")


@pytest.mark.parametrize("metric", ["", "up", "not legal", "mine"])
def test_the_daemon_does_not_start_with_a_metric_name_that_no_event_may_have(metric: str) -> None:
    with pytest.raises(ValueError, match=r"^metric: expected a metric name"):
        Rules(metric=metric, taken=frozenset({"mine"}))


def test_a_refusal_repeats_little_and_says_that_it_was_more() -> None:
    assert quoted("a\nb\0\x1b[31m") == r"'a\nb\x00\x1b[31m'"
    assert quoted("x" * MAX_QUOTED) == f"'{'x' * MAX_QUOTED}'"
    assert quoted("x" * (MAX_QUOTED + 1)) == f"'{'x' * (MAX_QUOTED - 1)}…'"


@given(st.text())
def test_a_refusal_is_one_printable_line(text: str) -> None:
    """Half surrogates included: the answer must have a UTF-8 form."""
    assert quoted(text).isprintable()
    assert quoted(text).encode()
