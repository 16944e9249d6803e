"""Many events in one body or datagram: all or none in the one, each for itself in the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from support.strategies import RULES, raw_labels

from oneshotd.core.events import NewEvent, detail_text, details_of
from oneshotd.core.parsing.details import MAX_DETAIL_BYTES
from oneshotd.core.parsing.formats import (
    MAX_BODY_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_EVENTS,
    MAX_KEY_BYTES,
    parse_datagram,
    parse_json,
    parse_line,
    parse_lines,
    parse_ndjson,
    parse_query,
)
from oneshotd.core.parsing.idempotency import idempotency_key
from oneshotd.core.parsing.templates import TemplateParser
from oneshotd.errors import Refused

A = NewEvent('events_to_metrics{a="1"}')
B = NewEvent('events_to_metrics{b="2"}', "3")


def body_of(events: int) -> bytes:
    return b"\n".join(b"n=%d" % n for n in range(events))


@pytest.mark.parametrize(
    "body",
    [
        b"a=1\nb=2&value=3",
        b"a=1\nb=2&value=3\n",
        b"a=1\r\nb=2&value=3\r\n",
        b"\n\na=1\n\r\n  \t\nb=2&value=3\n\n",
        b"\xef\xbb\xbfa=1\nb=2&value=3",
        b"\xef\xbb\xbf\r\na=1\nb=2&value=3\0",
        b"a=1 \t\0\nb=2&value=3 \0\r\n\0\n ",
        b"a=1\n\0\nb=2&value= 3 ",
    ],
)
def test_lines_may_end_and_be_spaced_as_editors_do(body: bytes) -> None:
    assert parse_lines(body, rules=RULES) == [A, B]
    assert parse_datagram(body, rules=RULES) == ([A, B], [])


def test_only_a_newline_ends_a_line() -> None:
    """What Python calls a line end (a lone CR, U+2028, U+0085, FF …) belongs to the value, as a newline."""
    text = "x\ry\u2028z\u0085\x0b\x0c\x1c"
    [event] = parse_lines(f"a={text}\r\n".encode(), rules=RULES)
    assert event.series == 'events_to_metrics{a="x\\ny\\nz' + "\\n" * 4 + '"}'


@pytest.mark.parametrize("end", ["\r", "\r\n", *"\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"], ids=ascii)
def test_no_door_lets_a_line_end_through_that_spoils_a_response(end: str) -> None:
    """A scraper that splits text at every Unicode line end would discard 1,501 events for this one."""
    pairs = {"a": f"{end}x{end}y", "value": "1"}
    escaped, raw = urlencode(pairs).encode(), f"a=x{end}y&value=1".encode()
    item = json.dumps(pairs, ensure_ascii=False).encode()
    found = [
        parse_query(escaped, b"", rules=RULES),
        parse_query(b"", escaped, rules=RULES),
        parse_line(escaped, rules=RULES),
        *parse_lines(escaped, rules=RULES),
        *parse_ndjson(item, rules=RULES),
        *parse_json(b"[" + item + b"]", rules=RULES),
        *parse_datagram(escaped, rules=RULES)[0],
        *parse_datagram(escaped, rules=RULES, ordinary=TemplateParser(RULES))[0],
    ]
    if "\n" not in end:
        for event in (parse_line(raw, rules=RULES), *parse_lines(raw, rules=RULES)):
            assert event.series == 'events_to_metrics{a="x\\ny"}'
    assert {event.series for event in found} == {'events_to_metrics{a="\\nx\\ny"}'}
    assert len(found) == 8


def test_equal_lines_are_as_many_events() -> None:
    assert parse_lines(b"a=1\n" * 3, rules=RULES) == [A, A, A]


@pytest.mark.parametrize(
    ("body", "reason", "status", "text"),
    [
        (b"", "empty", 400, "there is no event in the body"),
        (b"\n\r\n \n", "empty", 400, "there is no event in the body"),
        (b"a=1\n&\n", "empty", 400, "line 2: there is no event in it"),
        (b"a=1\n\nvalue=abc\na=1\nhello", "value", 400,
         "line 3: value: 'abc' is not a number; line 5: 'hello' is not of the form name=value"),
        (b"hello\nvalue=abc", "syntax", 400,
         "line 1: 'hello' is not of the form name=value; line 2: value: 'abc' is not a number"),
        (b"a=" + b"x" * MAX_BODY_BYTES, "limit", 413, "the body is longer than 1048576 bytes"),
        (body_of(MAX_EVENTS + 1), "limit", 413, "there are 10001 events in the body, more than 10000"),
        (b"a=" + b"x" * 5000, "limit", 400, "line 1: label 'a': the value is longer than 4096 bytes"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_nothing_is_taken(body: bytes, reason: str, status: int, text: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_lines(body, rules=RULES)
    assert (caught.value.text, caught.value.reason, caught.value.status) == (text, reason, status)


@pytest.mark.parametrize(
    ("bad", "ending"), [(20, "line 20: 'x' is not of the form name=value"), (32, "and 12 more")]
)
def test_the_first_twenty_bad_lines_are_named(bad: int, ending: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_lines(b"x\n" * bad + b"a=1\n", rules=RULES)
    assert caught.value.text.count("line ") == 20
    assert caught.value.text.endswith("; " + ending)


def test_a_body_may_be_as_large_as_the_limits_say() -> None:
    assert len(parse_lines(body_of(MAX_EVENTS), rules=RULES)) == MAX_EVENTS
    padded = b"a=1\n" + b"\n" * (MAX_BODY_BYTES - 4)
    assert parse_lines(padded, rules=RULES) == [A]


# ---- datagrams ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "events", "reasons"),
    [
        (b"", [], []),
        (b"\n", [], []),
        (b" \0\0", [], []),
        (b"a=1", [A], []),
        (b"a=1\n", [A], []),
        (b"hello", [], ["syntax"]),
        (b"a=1\nhello\nb=2&value=3\nvalue=x\n\xff=1", [A, B], ["syntax", "value", "encoding"]),
        (b"a=" + b"x" * MAX_DATAGRAM_BYTES, [], ["limit"]),
    ],
)
def test_the_good_lines_of_a_datagram_count(data: bytes, events: list[NewEvent], reasons: list[str]) -> None:
    taken, refused = parse_datagram(data, rules=RULES)
    assert taken == events
    assert [each.reason for each in refused] == reasons


def test_a_flood_of_bad_lines_leaves_no_frames_behind() -> None:
    _, [refused] = parse_datagram(b"hello", rules=RULES)
    assert refused.text == "'hello' is not of the form name=value"
    assert refused.__traceback__ is None


@given(st.lists(raw_labels(max_size=3).map(lambda labels: urlencode({**labels, "value": "1"}).encode())))
def test_a_datagram_is_its_lines(lines: list[bytes]) -> None:
    each = [parse_line(line, rules=RULES) for line in lines]
    assert parse_datagram(b"\n".join(lines), rules=RULES) == (each, [])


def test_another_format_is_asked_for_what_is_not_plain() -> None:
    """Its messages would be refused as lines; and plain lines would cost more."""
    asked: list[bytes] = []

    def others(data: bytes) -> tuple[Sequence[NewEvent], list[Refused]] | None:
        asked.append(data)
        return ([B], []) if data == b"<b>" else None

    quick = TemplateParser(RULES)
    for ordinary in (quick, None):
        assert parse_datagram(b"<b>", rules=RULES, ordinary=ordinary, others=others) == ([B], [])
        (refused,) = parse_datagram(b"<c>", rules=RULES, ordinary=ordinary, others=others)[1]
        assert refused.reason == "syntax"
    assert list(parse_datagram(b"a=1", rules=RULES, ordinary=quick, others=others)[0]) == [A]
    assert asked == [b"<b>", b"<c>"] * 2


# ---- any bytes ---------------------------------------------------------------------------------

#: Bytes that come close to the grammar, so that more than the first check is reached.
near_misses = st.lists(
    st.sampled_from(
        [b"a", b"=", b"&", b"%", b"%4", b"%C3", b"+", b"1", b"__", b"value", b"__id__", b"__name__", b"\n",
         b"detail.", b"\r",
         b'"', b"\\", b"\\ud800", b"{", b"}", b"[", b"]", b":", b",", b"null", b"NaN", b"-", b"\xff"]
    ),
    max_size=24,
).map(b"".join)  # fmt: skip

PARSERS: tuple[Callable[[bytes], Sequence[NewEvent]], ...] = (
    lambda data: [parse_line(data, rules=RULES)],
    lambda data: [parse_query(data, data, rules=RULES)],
    lambda data: [parse_query(b"", data, rules=RULES)],
    lambda data: parse_lines(data, rules=RULES),
    lambda data: parse_json(data, rules=RULES),
    lambda data: parse_ndjson(data, rules=RULES),
    lambda data: parse_datagram(data, rules=RULES)[0],
)


@given(data=st.binary() | near_misses)
@example(data=b'[{"a":"\\ud800"}]')
@example(data=b"[" * 100_000)
@example(data=b'{"a":' * 100_000)
@example(data=b"9" * 10_000)
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    """Neither a traceback for the client nor a sample that would break a scraper's response."""
    for parse in PARSERS:
        said = ""
        events: Sequence[NewEvent] = ()
        try:
            events = parse(data)
        except Refused as refused:
            said = refused.text
        assert said.isprintable()
        for event in events:
            [family] = text_string_to_metric_families(f"{event.series} {event.value or 1}\n")
            assert len(family.samples) == 1
            assert detail_text(details_of(event.detail)) == event.detail
            assert len(event.detail.encode()) <= MAX_DETAIL_BYTES and event.detail.count("\n") == 0


@given(st.binary(max_size=140) | st.text(st.sampled_from('"\\a \0')).map(str.encode))
def test_no_key_does_more_than_be_refused(header: bytes) -> None:
    said, key = "", "key"
    try:
        key = idempotency_key(header)
    except Refused as refused:
        said = refused.text
    assert said.isprintable()
    assert 0 < len(key.encode()) <= MAX_KEY_BYTES
    assert min(key) >= " "
