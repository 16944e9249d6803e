"""Events as JSON: the same grammar, and none of the surprises of JSON decoders."""

from __future__ import annotations

import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import RULES, kept, raw_labels, written

from oneshotd.core.events import NewEvent, labels_of
from oneshotd.core.parsing.formats import (
    MAX_BODY_BYTES,
    MAX_EVENTS,
    parse_json,
    parse_json_event,
    parse_ndjson,
)
from oneshotd.core.parsing.json_format import decode_body
from oneshotd.errors import Refused

E = "events_to_metrics"


@pytest.mark.parametrize(
    ("item", "series", "value", "key"),
    [
        ('{"type": "deploy", "version": "1.2"}', E + '{type="deploy",version="1.2"}', None, None),
        ('{"a": 1, "b": -0, "c": 1.50, "d": 1E400}', E + '{a="1",b="-0",c="1.50",d="1E400"}', None, None),
        ('{"a": 9007199254740993}', E + '{a="9007199254740993"}', None, None),
        ('{"a": true, "b": false, "c": null}', E + '{a="true",b="false"}', None, None),
        ('{"a": null}', E, None, None),
        ('{"a": ""}', E, None, None),
        ('{"value": 37.5}', E, "37.5", None),
        ('{"value": "37.5"}', E, "37.5", None),
        ('{"value": "+Inf"}', E, "+Inf", None),
        ('{"value": -0}', E, "-0", None),
        ('{"value": 1E3}', E, "1000", None),
        ('{"value": null, "__id__": null, "__name__": null}', E, None, None),
        ('{"__name__": "deploys", "__id__": "7f3", "a-b": "x"}', 'deploys{a_b="x"}', None, "7f3"),
        ('{"a": "\\u00f6\\ud83d\\ude00\\u0000\\r"}', E + '{a="ö😀\0\\n"}', None, None),
        ('{"a": "+ %20 &="}', E + '{a="+ %20 &="}', None, None),
        ('\t{"a":"ö"} ', E + '{a="ö"}', None, None),
    ],
)
def test_an_object_becomes_the_event_that_its_writer_meant(
    item: str, series: str, value: str | None, key: str | None
) -> None:
    event = NewEvent(series, value, key)
    assert parse_json(f"[{item}]".encode(), rules=RULES) == [event]
    assert parse_ndjson(item.encode(), rules=RULES) == [event]


@pytest.mark.parametrize(
    ("item", "reason", "text"),
    [
        ("{}", "empty", "there is no event in it"),
        ("1", "syntax", "not a JSON object"),
        ('"a=1"', "syntax", "not a JSON object"),
        ("null", "syntax", "not a JSON object"),
        ("[]", "syntax", "not a JSON object"),
        ('{"a": {"b": 1}}', "syntax", "label 'a' is nested: only flat objects are events"),
        ('{"a": {}}', "syntax", "label 'a' is nested"),
        ('{"a": [1]}', "syntax", "label 'a' is nested"),
        ('{"value": [1]}', "syntax", "label 'value' is nested"),
        ('{"a": 1, "a": 2}', "label", "label 'a' is given twice"),
        ('{"a": null, "a": 2}', "label", "label 'a' is given twice"),
        ('{"value": null, "value": 2}', "label", "value is given twice"),
        ('{"a-b": 1, "a_b": null}', "label", "labels 'a-b' and 'a_b' are both written 'a_b'"),
        ('{"": 1}', "label", "a label's name is empty"),
        ('{"__x": null}', "label", "label '__x': names that start with __ are reserved"),
        ('{"a": "\\ud800"}', "encoding", "label 'a' has half of a surrogate pair in it"),
        ('{"a\\udc00": "x"}', "encoding", "label 'a\\udc00' has half of a surrogate pair in it"),
        ('{"__id__": "\\ud800"}', "encoding", "half of a surrogate pair"),
        ('{"value": true}', "value", "value: 'true' is not a number"),
        ('{"value": ""}', "value", "value: '' is not a number"),
        ('{"value": 1e400}', "value", "value: '1e400' is beyond the range"),
        ('{"__name__": 5}', "name", "__name__: '5' is not a string"),
        ('{"__name__": true}', "name", "__name__: 'true' is not a string"),
        ('{"__name__": "up"}', "name", "__name__: 'up' is taken"),
        ('{"__id__": 5}', "key", "__id__: '5' is not a string"),
        ('{"__id__": ""}', "key", "__id__ is empty"),
        ('{"a": ' + "1" * 5000 + "}", "limit", "label 'a': the value is longer than 4096 bytes"),
    ],
)
def test_a_bad_object_is_named(item: str, reason: str, text: str) -> None:
    good = '{"x": 1}'
    for parse, body, where in (
        (parse_json, f"[{good}, {item}, {good}]", "item 2: "),
        (parse_ndjson, f"{good}\n{item}\n{good}", "line 2: "),
    ):
        with pytest.raises(Refused) as caught:
            parse(body.encode(), rules=RULES)
        assert (caught.value.reason, caught.value.status) == (reason, 400)
        assert caught.value.text.startswith(where)
        assert text in caught.value.text


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_literals_that_are_not_json_are_refused(literal: str) -> None:
    body = f'[{{"value": {literal}}}]'.encode()
    with pytest.raises(Refused, match=f"^{literal} is not JSON; write it as a string$"):
        parse_json(body, rules=RULES)
    with pytest.raises(Refused, match=f"^line 1: {literal} is not JSON"):
        parse_ndjson(body, rules=RULES)


@pytest.mark.parametrize(
    ("body", "reason", "text"),
    [
        (b"", "empty", "there is no event in the body"),
        (b" \r\n\t", "empty", "there is no event in the body"),
        (b"[]", "empty", "there is no event in the body"),
        (b"{}", "empty", "there is no event in it"),
        (b"1", "syntax", "the body is neither a JSON array nor an object"),
        (b"null", "syntax", "the body is neither a JSON array nor an object"),
        (b'{"a": {}}', "syntax", "label 'a' is nested"),
        (b"a=1", "syntax", "not JSON: Expecting value (column 1)"),
        (b'[{"a": 1},\n {"a": }]', "syntax", "not JSON: Expecting value (line 2 column 8)"),
        (b'[{"a": 1}', "syntax", "not JSON: "),
        (b"[] []", "syntax", "not JSON: "),
        (b'[{"a": "\n"}]', "syntax", "not JSON: "),
        (b'\xef\xbb\xbf\xef\xbb\xbf[{"a": 1}]', "syntax", "not JSON: "),
        (b'[{"a": "\xff"}]', "encoding", "the JSON is not UTF-8"),
        ('[{"a": 1}]'.encode("utf-16"), "encoding", "the JSON is not UTF-8"),
        (b"[" * 100_000, "syntax", "the JSON is nested too deep"),
        (b'{"a":' * 100_000, "syntax", "the JSON is nested too deep"),
    ],
)
def test_what_is_not_a_json_array_is_refused(body: bytes, reason: str, text: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_json(body, rules=RULES)
    assert (caught.value.reason, caught.value.status) == (reason, 400)
    assert caught.value.text.startswith(text)
    assert caught.value.text.isprintable()


@pytest.mark.parametrize("parse", [parse_json, parse_ndjson])
def test_a_body_too_large_is_refused_before_it_is_read(parse: object) -> None:
    with pytest.raises(Refused) as caught:
        parse(b"[" * (MAX_BODY_BYTES + 1), rules=RULES)  # type: ignore[operator]
    assert (caught.value.reason, caught.value.status) == ("limit", 413)


def test_too_many_events_are_too_large_a_body() -> None:
    items = ['{"a":1}'] * (MAX_EVENTS + 1)
    for parse, body in ((parse_json, f"[{','.join(items)}]"), (parse_ndjson, "\n".join(items))):
        with pytest.raises(Refused, match="there are 10001 events in the body") as caught:
            parse(body.encode(), rules=RULES)
        assert (caught.value.reason, caught.value.status) == ("limit", 413)


def test_a_number_of_a_million_digits_costs_nothing() -> None:
    """Python refuses to make an int of it, with a ValueError; or takes minutes for it."""
    body = b'[{"a": ' + b"9" * 1_000_000 + b"}]"
    with pytest.raises(Refused, match="the value is longer"):
        parse_json(body, rules=RULES)


@given(st.lists(raw_labels(max_size=3).filter(bool), min_size=1, max_size=4), st.booleans())
def test_any_labels_arrive_as_they_were_sent(events: list[dict[str, str]], ascii_only: bool) -> None:
    expected = [{written(name): kept(text) for name, text in labels.items() if text} for labels in events]
    array = json.dumps(events, ensure_ascii=ascii_only).encode()
    lines = "\n".join(json.dumps(labels, ensure_ascii=ascii_only) for labels in events).encode()
    assert [labels_of(event.series) for event in parse_json(array, rules=RULES)] == expected
    assert [labels_of(event.series) for event in parse_ndjson(lines, rules=RULES)] == expected


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
def test_a_number_is_the_number_that_was_sent(number: float) -> None:
    [event] = parse_json(json.dumps([{"value": number}]).encode(), rules=RULES)
    assert float(event.value or "") == number


@pytest.mark.parametrize(
    "body",
    [
        '{"what": "deploy"}',
        '{"what": "deploy", "tags": ["a", "b"], "data": "text", "when": 1465839830}',
        '{"what": "deploy", "tags": "a b", "data": ""}',
        '{"what": "deploy", "tags": [], "by": "ann"}',
        ' {"when": null, "what": null}\n',
    ],
)
def test_an_event_of_graphite_is_told_its_url(body: str) -> None:
    """Its sender has left out the slash, and its texts would become labels."""
    for parse in (parse_json, partial(parse_json_event, b"")):
        with pytest.raises(Refused, match="send it to /events/ with the slash at its end") as refused:
            parse(body.encode(), rules=RULES)
        assert refused.value.reason == "syntax" and refused.value.status == 400


@pytest.mark.parametrize("body", ['{"what": "deploy", "by": "ann"}', '{"tags": "a", "data": "b"}'])
def test_other_objects_may_have_such_labels(body: str) -> None:
    """Who has sent such events would be refused by the next version."""
    assert len(parse_json(body.encode(), rules=RULES)) == 1
    assert parse_json_event(b"", body.encode(), rules=RULES).series.startswith(E)
    assert len(parse_json(b'[{"what": "deploy"}]', rules=RULES)) == 1


def test_a_byte_order_mark_before_a_body_is_left_out() -> None:
    """A script of PowerShell would be told that its JSON is none."""
    assert decode_body(b'\xef\xbb\xbf["x"]') == decode_body(b'["x"]') == ["x"]
    with pytest.raises(Refused, match="not JSON"):
        decode_body(b"\xef\xbb\xbf\xef\xbb\xbf[]")
