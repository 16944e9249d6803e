"""Details: at every door the same texts beside an event, which are no labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.events import NewEvent, detail_text, details_of
from oneshotd.core.parsing.details import MAX_DETAIL_BYTES, MAX_DETAILS
from oneshotd.core.parsing.formats import (
    Rules,
    parse_datagram,
    parse_json,
    parse_line,
    parse_lines,
    parse_ndjson,
    parse_query,
)
from oneshotd.core.parsing.grammar import event
from oneshotd.core.parsing.templates import OFTEN, TemplateParser
from oneshotd.errors import Refused

RULES = Rules()
E = "events_to_metrics"

Pairs = list[tuple[str, str]]


def _datagram(line: bytes) -> NewEvent:
    events, refusals = parse_datagram(line, rules=RULES, ordinary=TemplateParser(RULES))
    for refused in refusals:
        raise refused
    [found] = events
    return found


#: Every way of an event with these pairs into the daemon.
DOORS: dict[str, Callable[[Pairs], NewEvent]] = {
    "query": lambda pairs: parse_query(urlencode(pairs).encode(), b"", rules=RULES),
    "form": lambda pairs: parse_query(b"", urlencode(pairs).encode(), rules=RULES),
    "line": lambda pairs: parse_line(urlencode(pairs).encode(), rules=RULES),
    "lines": lambda pairs: parse_lines(urlencode(pairs).encode(), rules=RULES)[0],
    "object": lambda pairs: parse_json(as_json(pairs), rules=RULES)[0],
    "array": lambda pairs: parse_json(b"[" + as_json(pairs) + b"]", rules=RULES)[0],
    "ndjson": lambda pairs: parse_ndjson(as_json(pairs), rules=RULES)[0],
    "datagram": lambda pairs: _datagram(urlencode(pairs).encode()),
}


def as_json(pairs: Pairs) -> bytes:
    """An object that may have a name twice."""
    members = ",".join(f"{json.dumps(name)}:{json.dumps(text)}" for name, text in pairs)
    return f"{{{members}}}".encode()


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Callable[[Pairs], NewEvent]:
    return DOORS[request.param]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("a", "1"), ("detail.text", "x")], NewEvent(E + '{a="1"}', None, None, '{"text":"x"}')),
        # Names are sorted, and kept as they are written.
        (
            [("detail.b", "2"), ("a", "1"), ("detail.B-1/x:y.z_", "é"), ("detail.größe", "\U0001f600")],
            NewEvent(E + '{a="1"}', None, None, '{"B-1/x:y.z_":"é","b":"2","größe":"\U0001f600"}'),
        ),
        ([("a", "1"), ("detail.__name__", "x")], NewEvent(E + '{a="1"}', None, None, '{"__name__":"x"}')),
        ([("a", "1"), ("detail.1", "x")], NewEvent(E + '{a="1"}', None, None, '{"1":"x"}')),
        ([("a", "1"), ("detail.detail.x", "y")], NewEvent(E + '{a="1"}', None, None, '{"detail.x":"y"}')),
        # Line ends and control characters are those of labels.
        (
            [("a", "1"), ("detail.t", 'a\r\nb\rc\u2028d\x85e\0\t"\\')],
            NewEvent(E + '{a="1"}', None, None, '{"t":"a\\nb\\nc\\nd\\ne\\u0000\\t\\"\\\\"}'),
        ),
        # An empty text is none.
        ([("a", "1"), ("detail.t", "")], NewEvent(E + '{a="1"}')),
        ([("a", "1"), ("detail.t", ""), ("detail.u", "v")], NewEvent(E + '{a="1"}', None, None, '{"u":"v"}')),
        # A label may have the name that a detail would be written with, and others that are like it.
        (
            [("detail_t", "1"), ("detail.t", "2"), ("detail", "3"), ("details.t", "4"), ("Detail.t", "5")],
            NewEvent(E + '{Detail_t="5",detail="3",detail_t="1",details_t="4"}', None, None, '{"t":"2"}'),
        ),
        # They stand beside what is reserved, and alone.
        (
            [("value", "3"), ("__id__", "k"), ("__name__", "m"), ("detail.t", "x")],
            NewEvent("m", "3", "k", '{"t":"x"}'),
        ),
        ([("detail.t", "x")], NewEvent(E, None, None, '{"t":"x"}')),
        (
            [("a", "1"), *((f"detail.{n}", "x") for n in range(MAX_DETAILS))],
            NewEvent(E + '{a="1"}', None, None, detail_text({str(n): "x" for n in range(MAX_DETAILS)})),
        ),
        (
            [("detail.t", "x" * (MAX_DETAIL_BYTES - 8))],
            NewEvent(E, None, None, f'{{"t":"{"x" * (MAX_DETAIL_BYTES - 8)}"}}'),
        ),
    ],
)
def test_details_are_kept_beside_the_labels(
    door: Callable[[Pairs], NewEvent], pairs: Pairs, expected: NewEvent
) -> None:
    """A text would become a label, with a series for each."""
    assert door(pairs) == expected
    assert details_of(expected.detail) == json.loads(expected.detail or "{}")


@pytest.mark.parametrize(
    ("pairs", "reason", "text"),
    [
        ([("detail.", "x")], "label", "detail. has no name after it"),
        ([("detail.t", "x"), ("detail.t", "y")], "label", "'detail.t' is given twice"),
        ([("detail.t", ""), ("detail.t", "y")], "label", "'detail.t' is given twice"),
        ([("detail.a b", "x")], "label", "label 'detail.a b': ' ' is none of letters"),
        ([("detail.a\n", "x")], "label", r"label 'detail.a\n'"),
        ([("detail." + "n" * 122, "x")], "limit", "the name is longer than 128 bytes"),
        ([("detail.t", "x" * (MAX_DETAIL_BYTES - 7))], "limit", "longer than 4096 bytes as JSON"),
        ([("detail.t", "é" * 2045)], "limit", "longer than 4096 bytes as JSON"),
        ([("detail.t", "\0" * 700)], "limit", "longer than 4096 bytes as JSON"),
        ([("detail.t", "x" * 500_000)], "limit", "longer than 4096 bytes as JSON"),
        ([(f"detail.{n}", "x" * 1000) for n in range(5)], "limit", "longer than 4096 bytes as JSON"),
        ([(f"detail.{n}", "") for n in range(MAX_DETAILS + 1)], "limit", "more than 64 details"),
    ],
)
def test_what_is_no_detail_is_refused(
    door: Callable[[Pairs], NewEvent], pairs: Pairs, reason: str, text: str
) -> None:
    """The sender would not notice that a text is cut or missing."""
    if door is DOORS["datagram"] and len(urlencode(pairs)) > 60_000:
        return  # no datagram is so long
    with pytest.raises(Refused) as caught:
        door([("a", "1"), *pairs])
    assert text in caught.value.text
    assert caught.value.text.isprintable()
    assert caught.value.reason == reason


def test_numbers_and_booleans_of_json_are_texts() -> None:
    [found] = parse_json(b'{"a":"1","detail.n":1.50,"detail.b":true,"detail.none":null}', rules=RULES)
    assert found.detail == '{"b":"true","n":"1.50"}'
    with pytest.raises(Refused, match="nested"):
        parse_json(b'{"a":"1","detail.x":{"y":1}}', rules=RULES)
    with pytest.raises(Refused, match="given twice"):
        parse_json(b'{"a":"1","detail.x":null,"detail.x":"1"}', rules=RULES)


def test_a_query_and_its_form_have_details_together() -> None:
    found = parse_query(b"a=1&detail.b=2", b"detail.a=3", rules=RULES)
    assert found == NewEvent(E + '{a="1"}', None, None, '{"a":"3","b":"2"}')
    with pytest.raises(Refused, match=r"'detail.b' is given twice"):
        parse_query(b"a=1&detail.b=2", b"detail.b=3", rules=RULES)


def test_half_of_a_surrogate_pair_is_refused() -> None:
    """A dialect may decode such a text from JSON; the store could not write it."""
    with pytest.raises(Refused, match="half of a surrogate pair") as caught:
        event([("a", "1"), ("detail.t", "\ud800")], RULES)
    assert caught.value.reason == "encoding"


def test_labels_count_without_the_details() -> None:
    rules = Rules(max_labels=1, max_value=4)
    found = parse_line(b"a=1&detail.b=longer+than+four&detail.c=3", rules=rules)
    assert found == NewEvent(E + '{a="1"}', None, None, '{"b":"longer than four","c":"3"}')


def test_plain_lines_are_parsed_quickly_beside_those_with_details() -> None:
    """A detail would become a label of the template, or every line would be parsed slowly."""
    ordinary = TemplateParser(RULES)
    for _ in range(OFTEN + 5):
        assert ordinary.parse_line(b"a=1&detail.t=x") is None
        assert ordinary.parse_line(b"a=1") == E + '{a="1"}'
    assert ordinary.parse_uniform(b"a=1\na=2") is not None
    assert ordinary.parse_uniform(b"a=1\na=2&detail.t=x") is None
    assert parse_lines(b"a=1\na=2&detail.t=x", rules=RULES) == [
        NewEvent(E + '{a="1"}'),
        NewEvent(E + '{a="2"}', None, None, '{"t":"x"}'),
    ]


_NAMES = st.text("ab.-/:_1é", min_size=1, max_size=8)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(_NAMES, _TEXTS, max_size=5))
def test_any_details_arrive_as_they_were_sent(details: dict[str, str]) -> None:
    pairs = [("a", "1"), *((f"detail.{name}", text) for name, text in details.items())]
    found = {name: door(pairs) for name, door in DOORS.items()}
    assert len(set(found.values())) == 1
    stored = details_of(found["line"].detail)
    assert stored.keys() == {name for name, text in details.items() if text}
    for name, text in stored.items():
        if "\n" not in text:
            assert text == details[name]


@pytest.mark.parametrize("damaged", ["{", "[]", '"x"', "1", '{"a":1}', '{"a":null}', "\0"])
def test_a_damaged_detail_is_found(damaged: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        details_of(damaged)


def test_equal_details_have_one_text() -> None:
    assert detail_text({}) == "" and details_of("") == {}
    assert detail_text({"b": "1", "a": '"'}) == detail_text({"a": '"', "b": "1"}) == '{"a":"\\"","b":"1"}'
