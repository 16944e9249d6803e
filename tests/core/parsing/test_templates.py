"""The short way for plain lines answers what the grammar answers, or nothing."""

from __future__ import annotations

import re
from unittest.mock import patch
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.foreign_lines import FOREIGN

from oneshotd.core.events import NewEvent
from oneshotd.core.parsing import templates
from oneshotd.core.parsing.formats import (
    MAX_DATAGRAM_LINES,
    Rules,
    parse_datagram,
    parse_line,
    parse_lines,
    parse_plain_datagrams,
)
from oneshotd.core.parsing.templates import MAX_NAMES, MAX_SHAPES, OFTEN, TemplateParser
from oneshotd.errors import Refused

RULES = Rules(metric="happened", taken=frozenset({"taken"}))


def grammar(line: bytes) -> NewEvent | None:
    try:
        return parse_line(line, rules=RULES)
    except Refused:
        return None


@pytest.mark.parametrize(
    ("line", "series"),
    [
        (b"type=deploy&version=1.2", 'happened{type="deploy",version="1.2"}'),
        (b"b=2&a=1", 'happened{a="1",b="2"}'),
        (b"a=x y", 'happened{a="x y"}'),
        (b"a=x=y", 'happened{a="x=y"}'),
        (b"a={}()%(a)s", None),  # a percent sign
        (b"a=", None),
        (b"a", None),
        (b"", None),
        (b"a=1&", None),
        (b"a=1&a=2", None),
        (b"a=1&value=3", None),
        (b"a=1&__name__=x", None),
        (b"a=1&__id__=x", None),
        (b"a=1&__x=1", None),
        (b"a-b=1", None),  # is written a_b
        (b"1a=1", None),
        (b"a=+1", None),
        (b"a=%31", None),
        (b'a="', None),
        (b"a=\\", None),
        (b"a=\xc3\xa4", None),
        (b"a=1\n", None),
        (b"a=" + b"x" * 4096, None),
        (b"a" * 129 + b"=1", None),
    ],
)
def test_only_plain_lines_are_known(line: bytes, series: str | None) -> None:
    ordinary = TemplateParser(RULES)
    for _ in range(OFTEN + 5):
        assert ordinary.parse_line(line) == series


_TEXT = st.text("abcdeXYZ019_-./ &=+%\\\"{}<>|#,;'\n\t:äß\x00\ufeff", max_size=8)
_NAMES = st.sampled_from(["a", "b", "type", "value", "__id__", "é", "a-b", "9", "", "export a"])
_PAIRS = st.lists(st.tuples(_NAMES | _TEXT, _TEXT))
_LINES = st.one_of(
    _PAIRS.map(lambda pairs: urlencode(pairs).encode()),
    _PAIRS.map(lambda pairs: "&".join("=".join(pair) for pair in pairs).encode()),
    st.binary(max_size=40),
    st.sampled_from([line for line, _ in FOREIGN]),
)
#: What editors, shells and C buffers leave around lines.
_ENDS = st.sampled_from([b"", b"", b"\n", b" ", b"\t", b"\0", b"\r\n", b" \n", b"\0\n\0"])
_BEGINNINGS = st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\n"])


@given(st.lists(_LINES, max_size=5))
def test_what_it_knows_the_grammar_says_too(lines: list[bytes]) -> None:
    """An event must not depend on which way it took."""
    for often in (1, 2, 100):
        with patch.object(templates, "OFTEN", often):
            ordinary = TemplateParser(RULES)
            for line in [*lines, *lines, *lines]:
                series = ordinary.parse_line(line)
                if series is not None:
                    assert grammar(line) == NewEvent(series)


@given(
    st.dictionaries(
        st.from_regex("[a-z][a-z0-9_]{0,5}", fullmatch=True),
        st.from_regex("[A-Za-z0-9._:/-]{1,9}", fullmatch=True),
        min_size=1,
        max_size=MAX_NAMES,
    )
)
def test_it_knows_what_tools_send(labels: dict[str, str]) -> None:
    labels.pop("value", None)
    line = "&".join(f"{name}={text}" for name, text in labels.items()).encode()
    if labels:
        assert TemplateParser(RULES).parse_line(line) == parse_line(line, rules=RULES).series


_DATA = st.builds(
    lambda beginning, lines, end: beginning + b"\n".join(map(b"".join, lines)) + end,
    _BEGINNINGS,
    st.lists(st.tuples(_LINES | st.sampled_from([b"", b"a=1"]), _ENDS), max_size=4),
    _ENDS,
)


@given(st.lists(_DATA, max_size=3))
def test_a_datagram_is_the_same_on_both_ways(datagrams: list[bytes]) -> None:
    ordinary = TemplateParser(RULES)
    for data in datagrams * 2:
        events, refusals = parse_datagram(data, rules=RULES, ordinary=ordinary)
        expected, refused = parse_datagram(data, rules=RULES)
        assert events == expected
        assert [each.text for each in refusals] == [each.text for each in refused]


@pytest.mark.parametrize("names", ["a", "a b", "b a", "c a b"])
def test_lines_that_come_often_are_known_together(names: str) -> None:
    ordinary = TemplateParser(RULES)
    lines = ["&".join(f"{name}={name}{number}" for name in names.split()).encode() for number in range(OFTEN)]
    expected = [grammar(line) for line in lines]
    for _ in range(2):
        assert ordinary.parse_lines(b"\n".join(lines)) == expected
    for odd in (b"a=%", b"", b"a=", b"export a=1"):
        assert ordinary.parse_lines(b"\n".join([*lines, odd])) is None
    assert ordinary.parse_lines(b"\n".join([*lines, b"other=1"])) == [*expected, grammar(b"other=1")]


@given(_DATA)
def test_a_line_means_the_same_wherever_it_stands(data: bytes) -> None:
    """Blanks at its end would make another series of the last line of a batch, or of all the others."""
    events, refusals = parse_datagram(data, rules=RULES, ordinary=TemplateParser(RULES))
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    # A line without the byte order mark that only a beginning may have.
    alone = [parse_datagram(b"\n" + line, rules=RULES) for line in lines]
    assert list(events) == [event for good, _ in alone for event in good]
    assert [each.text for each in refusals] == [each.text for _, bad in alone for each in bad]
    if not refusals and events and b"\n" in data:
        assert list(parse_lines(data, rules=RULES)) == list(events)


ALIKE = {b"b=2&a=1", b"b=3&a=x y"}


@given(st.lists(st.lists(st.sampled_from([*sorted(ALIKE), b"a=1&b=2", b"c=%"]) | _LINES, max_size=4)))
def test_datagrams_together_are_the_same_as_each_alone(datagrams: list[list[bytes]]) -> None:
    ordinary = TemplateParser(RULES)
    with patch.object(templates, "OFTEN", 1):
        ordinary.parse_line(b"b=2&a=1")
    ends = (b"", b"\n", b" \0\n")
    several = [b"\n".join(lines) + end for lines in datagrams for end in ends] or [b"b=2&a=1"]
    found = parse_plain_datagrams(several, ordinary)
    each = [parse_datagram(data, rules=RULES) for data in several]
    if found is not None:
        assert found == [event for events, _ in each for event in events]
        assert not any(refusals for _, refusals in each)
    else:
        assert any(not lines or set(lines) - ALIKE for lines in datagrams)


def test_a_datagram_has_no_more_lines_on_the_short_way() -> None:
    """The turn of the reactor is bounded by it."""
    ordinary = TemplateParser(RULES)
    ordinary.parse_lines(b"\n".join([b"a=1"] * OFTEN))
    assert len(parse_plain_datagrams([b"a=1\n" * (MAX_DATAGRAM_LINES - 1)], ordinary) or ()) > 2000
    assert parse_plain_datagrams([b"a=1", b"a=1\n" * MAX_DATAGRAM_LINES], ordinary) is None
    for extra in range(3):
        data = b"a=1\n" * (MAX_DATAGRAM_LINES + extra)
        events, refusals = parse_datagram(data, rules=RULES, ordinary=TemplateParser(RULES))
        assert (len(events), len(refusals)) == (MAX_DATAGRAM_LINES, extra)


def test_an_expression_is_made_only_for_what_comes_often() -> None:
    """Ten thousand lines with as many names would hold the reactor for seconds."""
    ordinary = TemplateParser(RULES)
    with patch.object(re, "compile", wraps=re.compile) as compiles:
        for number in range(1000):
            assert ordinary.parse_line(b"n%d=1&type=deploy" % number)
        assert not compiles.called
        for _ in range(OFTEN):
            assert ordinary.parse_line(b"often=1&type=deploy")
        assert compiles.call_count == 1


def test_lines_of_many_names_are_left_to_the_grammar() -> None:
    """They would be remembered for nothing."""
    line = b"&".join(b"n%d=1" % number for number in range(MAX_NAMES + 1))
    assert TemplateParser(RULES).parse_line(line) is None
    assert TemplateParser(RULES).parse_line(line.rpartition(b"&")[0]) is not None


def test_invented_names_take_no_memory() -> None:
    ordinary = TemplateParser(RULES)
    for number in range(3 * MAX_SHAPES):
        assert ordinary.parse_line(b"n%d=1" % number) is not None
    assert len(ordinary._shapes) <= MAX_SHAPES
