"""What `oneshot-emit` writes is what the daemon reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.foreign_lines import FOREIGN, UNNAMED

from oneshotd.core.events import details_of, series_text
from oneshotd.core.parsing.formats import Rules, parse_line
from oneshotd.core.parsing.grammar import MAX_LABELS, one_line_end
from oneshotd.emit.encoding import Label, fault, has_id, line
from oneshotd.errors import Refused

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "value")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    labels=st.dictionaries(NAMES, TEXTS, min_size=1, max_size=MAX_LABELS),
    value=st.none() | st.integers(),
    id=st.none() | NAMES,
)
def test_the_daemon_reads_what_was_meant(labels: dict[str, str], value: int | None, id: str | None) -> None:
    """A label with a space, an ampersand or an umlaut would arrive as another, or break the line."""
    event = parse_line(line(labels.items(), value=value, id=id), rules=Rules())
    meant = {name: one_line_end(text) for name, text in labels.items()}
    assert event.series == series_text("events_to_metrics", meant.items())
    assert event.key == id
    assert event.value is None if value is None else float(event.value or "") == float(value)


def test_the_daemon_reads_details_as_they_were_meant() -> None:
    """A text of several lines would be cut, or be a label."""
    text = 'two\nlines, "quoted" & é \U0001f600'
    event = parse_line(line([("type", "x"), ("detail.text", text), ("detail.n", 3)]), rules=Rules())
    assert event.series == 'events_to_metrics{type="x"}'
    assert details_of(event.detail) == {"text": text, "n": "3"}


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("x", b"x"),
        (3, b"3"),
        (2.5, b"2.5"),
        (True, b"true"),
        (False, b"false"),
        ("a b&c=d", b"a%20b%26c%3Dd"),
    ],
)
def test_what_python_has_becomes_a_label_as_in_json(label: Label, text: bytes) -> None:
    """`True` in a program and `true` in its JSON would be two series."""
    assert line([("a", label)]) == b"a=" + text


def test_none_is_no_label() -> None:
    """An optional label would show as "None"."""
    assert line([("a", 1), ("b", None)]) == b"a=1"


def test_an_argument_that_is_not_utf_8_goes_as_it_is() -> None:
    """A file name of an old system would end the command with a traceback."""
    assert line([("file", b"caf\xe9".decode("utf-8", "surrogateescape"))]) == b"file=caf%E9"


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", 1e30, float("inf"), float("nan"), -0.0, "1e3"])
def test_every_number_of_the_daemon_can_be_sent(value: float | str) -> None:
    """A plus sign would arrive as a space."""
    sent = parse_line(line([("a", "1")], value=value), rules=Rules())
    assert sent == parse_line(f"a=1&value={value}".encode(), rules=Rules())


@pytest.mark.parametrize(
    ("pairs", "value", "id", "why"),
    [
        ([], None, None, "there is no event in it"),
        ([("a", None)], None, "k", "there is no event in it"),
        ([("", "x")], None, None, "a label's name is empty"),
        ([("detail.", "x")], None, None, "detail. has no name after it"),
        ([("export type", "x")], None, None, "label 'export type': ' ' is none of letters, digits and"),
        ([("a\0", "x")], None, None, r"label 'a\\x00': '\\x00' is none of letters"),
        ([("caf\udce9", "x")], None, None, r"label 'caf\\udce9'"),
        ([("a", "1"), ("a", "2")], None, None, "a is given twice"),
        ([("value", "1")], 2, None, "value is given twice"),
        ([("__id__", "1")], None, "2", "__id__ is given twice"),
        ([("a", "1")], "many", None, "value: 'many' is not a number"),
        ([("a", "1"), ("value", "")], None, None, "value: '' is not a number"),
    ],
)
def test_what_is_no_event_is_said_before_it_is_sent(
    pairs: list[tuple[str, Label]], value: str | None, id: str | None, why: str
) -> None:
    """Over UDP nobody would ever hear of it."""
    with pytest.raises(ValueError, match="^" + why):
        line(pairs, value=value, id=id)


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (b"a=1", False),
        (b"a=1&__id__=x", True),
        (b"__id__=", True),
        (b"a=__id__", False),
        (b"a=%26__id__=", False),
        (b"%5F_id__=x&a=1", True),
        (b"a__id__=x", False),
    ],
)
def test_a_key_in_a_line_is_seen(text: bytes, has: bool) -> None:
    """Its batch would be refused for having two keys."""
    assert has_id(text) is has


_REFUSED = [
    *(text for text, _ in FOREIGN),
    *UNNAMED,
    b"hello",
    b"=1",
    b"\xff=1",
    b"a&b=1",
    b"a=1&detail%2E=x",
]


@pytest.mark.parametrize("text", _REFUSED)
def test_a_line_that_the_daemon_refuses_for_its_names_does_not_go_out_over_udp(text: bytes) -> None:
    """Nobody would ever hear of it."""
    with pytest.raises(Refused):
        parse_line(text, rules=Rules())
    assert fault(text) is not None


@given(st.binary(max_size=20) | st.text("ab1=&%+ <|\0\u00e9", max_size=20).map(str.encode))
def test_no_good_line_is_held_back(text: bytes) -> None:
    try:
        parse_line(text, rules=Rules())
    except Refused:
        return
    assert fault(text) is None
    assert fault(text + b"\n") is None
