"""Members of a sender's JSON are read with their types checked, and a refusal names the place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oneshotd.core.parsing.formats import MAX_EVENTS
from oneshotd.errors import REASONS, Refused
from oneshotd.ingest.dialects.json_objects import JSONObject, read_object, read_objects

READ: list[tuple[str, Callable[[JSONObject], object], object]] = [
    ('{"a": "x"}', lambda o: o.text("a"), "x"),
    ('{"a": 1.50}', lambda o: o.text("a"), "1.50"),
    ('{"a": true}', lambda o: o.text("a"), "true"),
    ('{"a": false}', lambda o: o.text("a"), "false"),
    ('{"a": null}', lambda o: o.text("a"), ""),
    ("{}", lambda o: o.text("a"), ""),
    ('{"a": "\\ud83d\\ude00"}', lambda o: o.text("a"), "\U0001f600"),
    ('{"a": "x"}', lambda o: o.needed("a"), "x"),
    ('{"a": 1e3}', lambda o: o.number("a"), "1e3"),
    ('{"a": null}', lambda o: o.number("a"), None),
    ('{"a": 3}', lambda o: o.whole("a"), 3),
    ('{"a": null}', lambda o: o.whole("a"), 0),
    ('{"a": true}', lambda o: o.flag("a"), True),
    ("{}", lambda o: o.flag("a"), False),
    ('{"a": {"b": "x"}}', lambda o: o.object("a").text("b"), "x"),
    ('{"a": null}', lambda o: o.object("a").object("b").text("c"), ""),
    ('{"a": [{"b": 1}, {"b": 2}]}', lambda o: [each.text("b") for each in o.objects("a")], ["1", "2"]),
    ('{"a": null}', lambda o: o.objects("a"), []),
    ('{"a": {"b": "x", "c": 2}}', lambda o: o.object("a").texts(), {"b": "x", "c": "2"}),
    ('{"a": null, "b": ""}', lambda o: (o.has("a"), o.has("b"), o.has("c")), (False, True, False)),
]

REFUSED: list[tuple[str, Callable[[JSONObject], object], str]] = [
    ('{"a": {}}', lambda o: o.text("a"), "expected a text at /a, got an object"),
    ('{"a": ["x"]}', lambda o: o.text("a"), "expected a text at /a, got an array"),
    ('{"a": "\\ud800"}', lambda o: o.text("a"), "half of a surrogate pair is in the text at /a"),
    ('{"a": ""}', lambda o: o.needed("a"), "expected a text at /a, got none"),
    ('{"a": "1"}', lambda o: o.number("a"), "expected a number at /a, got a string"),
    ('{"a": true}', lambda o: o.number("a"), "expected a number at /a, got a boolean"),
    ('{"a": 1.5}', lambda o: o.whole("a"), "expected a whole number at /a, got '1.5'"),
    ('{"a": -1}', lambda o: o.whole("a"), "expected a whole number at /a, got '-1'"),
    ('{"a": 1e300}', lambda o: o.whole("a"), "expected a whole number at /a, got '1e300'"),
    ('{"a": "true"}', lambda o: o.flag("a"), "expected true or false at /a, got a string"),
    ('{"a": "x"}', lambda o: o.object("a"), "expected an object at /a, got a string"),
    ('{"a": []}', lambda o: o.object("a"), "expected an object at /a, got an array"),
    ('{"a": 1}', lambda o: o.object("a"), "expected an object at /a, got a number"),
    ('{"a": {"b": []}}', lambda o: o.object("a").object("b"), "expected an object at /a/b, got an array"),
    ('{"a": {}}', lambda o: o.objects("a"), "expected an array at /a, got an object"),
    ('{"a": [{}, "x"]}', lambda o: o.objects("a"), "expected an object at /a/1, got a string"),
    ('{"a": [null]}', lambda o: o.objects("a"), "expected an object at /a/0, got null"),
    ('{"a": {"x/y~z": []}}', lambda o: o.object("a").texts(), "expected a text at /a/x~1y~0z, got an array"),
    ('{"a": {"x\\n": []}}', lambda o: o.object("a").texts(), r"expected a text at '/a/x\n', got an array"),
    ('{"a": {"b": 1, "b": 2}}', lambda o: o.object("a"), "'b' is given twice at /a"),
    ("[]", lambda o: o, "expected an object at the top, got an array"),
    ("1", lambda o: o, "expected an object at the top, got a number"),
    ('{"a": 1, "a": 2}', lambda o: o, "'a' is given twice at the top"),
    ("", lambda o: o, "not JSON: Expecting value (column 1)"),
    ("[" * 100_000, lambda o: o, "the JSON is nested too deep"),
]


@pytest.mark.parametrize(("body", "read", "expected"), READ)
def test_members_are_read(body: str, read: Callable[[JSONObject], object], expected: object) -> None:
    """A preset would misread what its tool sends."""
    assert read(read_object(body.encode())) == expected


@pytest.mark.parametrize(("body", "read", "text"), REFUSED)
def test_a_wrong_type_is_refused_with_its_place(
    body: str, read: Callable[[JSONObject], object], text: str
) -> None:
    """The operator could not find what a tool has sent wrongly."""
    with pytest.raises(Refused) as caught:
        read(read_object(body.encode()))
    assert caught.value.text == text
    assert caught.value.reason in REASONS
    assert caught.value.text.isprintable()


def test_a_long_place_is_shortened() -> None:
    """A sender could fill the log with one name."""
    with pytest.raises(Refused) as caught:
        read_object(b'{"a": {"%s": []}}' % (b"x" * 5000)).object("a").texts()
    assert len(caught.value.text) < 300


@pytest.mark.parametrize(
    ("body", "texts", "is_array"),
    [('{"a": "x"}', ["x"], False), ('[{"a": "x"}, {"a": "y"}]', ["x", "y"], True), ("[]", [], True)],
)
def test_a_batch_is_told_from_one_object(body: str, texts: list[str], is_array: bool) -> None:
    """A batch of one would be taken for another form."""
    objects, found = read_objects(body.encode())
    assert ([each.text("a") for each in objects], found) == (texts, is_array)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ('"x"', 400, "expected an object at the top, got a string"),
        ("[1]", 400, "expected an object at /0, got a number"),
        (f"[{'{},' * MAX_EVENTS}{{}}]", 413, f"there are more than {MAX_EVENTS} items at the top"),
    ],
)
def test_what_is_no_batch_is_refused(body: str, status: int, text: str) -> None:
    """A body of a few bytes an item could become any number of events."""
    with pytest.raises(Refused) as caught:
        read_objects(body.encode())
    assert (caught.value.text, caught.value.status) == (text, status)


def test_a_body_may_have_a_byte_order_mark() -> None:
    assert read_object(b'\xef\xbb\xbf{"a": "x"}').text("a") == "x"
    assert read_objects(b"\xef\xbb\xbf[]") == ([], True)
