"""The rules about names, and how a refusal repeats what the client wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.parsing.formats import parse_datagram, parse_json, parse_lines, parse_query
from oneshotd.core.parsing.grammar import MAX_NAME_BYTES, MAX_QUOTED, Rules, quoted
from oneshotd.core.parsing.templates import OFTEN, TemplateParser
from oneshotd.errors import Refused


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


BOUNDED = Rules(max_labels=2, max_value=8)


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (b"a=1&b=12345678", None),
        (b"a=1&b=" + "ö".encode() * 4, None),
        (b"a=1&b=2&value=3&__id__=4&__name__=m", None),
        (b"a=1&b=2&c=3", "there are more than 2 labels (max-labels)"),
        (b"a=123456789", "label 'a': the value is longer than 8 bytes (max-label-value)"),
        (b"a=" + "ö".encode() * 5, "label 'a': the value is longer than 8 bytes (max-label-value)"),
        (b'[{"a": "123456789"}]', "item 1: label 'a': the value is longer than 8 bytes (max-label-value)"),
    ],
)
def test_the_operators_bounds_hold_at_every_door(line: bytes, refusal: str | None) -> None:
    """Series that a scraper behind it drops in silence are refused with a reason instead."""
    ordinary = TemplateParser(BOUNDED)
    if line.startswith(b"["):
        with pytest.raises(Refused) as caught:
            parse_json(line, rules=BOUNDED)
        assert refusal is not None
        assert refusal in caught.value.text
        return
    for _ in range(OFTEN + 5):  # also the quick way, once it knows the names
        events, refusals = parse_datagram(line, rules=BOUNDED, ordinary=ordinary)
        assert [refused.text for refused in refusals] == ([] if refusal is None else [refusal])
        assert len(events) == (refusal is None)
    for parse in (lambda: [parse_query(line, b"", rules=BOUNDED)], lambda: parse_lines(line, rules=BOUNDED)):
        if refusal is None:
            assert len(parse()) == 1
        else:
            with pytest.raises(Refused) as caught:
                parse()
            assert refusal in caught.value.text
            assert caught.value.reason == "limit"


def test_a_long_value_is_found_by_the_quick_way_of_a_known_line() -> None:
    ordinary = TemplateParser(BOUNDED)
    for _ in range(OFTEN + 5):
        assert ordinary.parse_line(b"a=1&b=2") is not None
    assert ordinary.parse_line(b"a=1&b=123456789") is None
    assert ordinary.parse_lines(b"a=1&b=2\na=1&b=123456789") is None


@pytest.mark.parametrize(("bound", "most"), [("max_labels", 64), ("max_value", 4096)])
def test_bounds_beyond_the_grammars_own_are_refused(bound: str, most: int) -> None:
    for number in (0, most + 1):
        with pytest.raises(ValueError, match=bound):
            Rules(**{bound: number})  # type: ignore[arg-type]
