"""A mapping makes of a body the events that its file says, and no others."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence

import pytest
from support.hook_messages import CI, CONTEXT, build, message

from oneshotd.core.events import NewEvent, details_of
from oneshotd.core.parsing.details import MAX_DETAIL_BYTES
from oneshotd.core.parsing.formats import Rules
from oneshotd.errors import REASONS, Refused
from oneshotd.ingest.dialects import conditions
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.mapping import outcomes, translate
from oneshotd.ingest.dialects.mapping_file import parse_mapping
from oneshotd.ingest.dialects.translation import Context, Message, Translation


def translated(text: str, sent: Message, name: str = "ci", context: Context = CONTEXT) -> Translation:
    return translate(parse_mapping(tomllib.loads(text)), name, sent, context)


def events(text: str, body: object, **headers: str) -> list[NewEvent]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    group = translated(text, message(body, named)).group
    return [] if group is None else list(group.events)


def series(text: str, body: object, **headers: str) -> list[str]:
    return [event.series for event in events(text, body, **headers)]


def test_the_example_of_the_documentation() -> None:
    """The first mapping that a user copies would not work."""
    builds = [build(7), build(8, "running"), build(9, "failed", None)]
    found = translated(CI, message({"ref": "main", "builds": builds}))
    assert found.ignored == 1
    assert found.group is not None and found.group.keys_decide
    first, second = found.group.events
    assert first.series == 'events_to_metrics{branch="main",result="finished",type="build"}'
    assert (first.value, second.value) == ("12.5", None)
    assert first.key == event_key("ci", "", "", "7", "-", "finished", "")
    assert second.series == 'events_to_metrics{branch="main",result="failed",type="build"}'


def test_keys_are_of_the_hook_the_principal_and_the_parts() -> None:
    """One sender's event would be taken for another one's, or for another event of its own."""
    text = 'key = "{/a}{/b}"\nlabels.type = "=x"'
    sent = [
        ("ci", message({"a": "1", "b": "23"})),
        ("ci", message({"a": "12", "b": "3"})),
        ("ci", message({"a": "12", "b": "3"}, principal="token 1")),
        ("cd", message({"a": "12", "b": "3"})),
    ]
    groups = [translated(text, each, name).group for name, each in sent]
    keys = [group.events[0].key for group in groups if group is not None]
    assert len(set(keys)) == len(sent) and None not in keys


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ('"text"', "text"),
        ("1.50", "1.50"),
        ("1E400", "1E400"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("-0", "-0"),
        ("true", "true"),
        ("false", "false"),
        ('"a\\nb"', "a\\nb"),
        ('"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
    ],
)
def test_the_text_of_a_label_is_that_of_the_body(value: str, label: str) -> None:
    """An identifier of twenty digits would be rounded, and be that of another object."""
    body = b'{"x": %b}' % value.encode()
    assert series('labels.x = "/x"', body) == [f'events_to_metrics{{x="{label}"}}']


@pytest.mark.parametrize("absent", [b"{}", b'{"x": null}', b'{"x": ""}', b'{"y": {"x": 1}}', b"[]", b"1"])
def test_what_finds_nothing_gives_no_label(absent: bytes) -> None:
    text = 'value = "/x"\nlabels.type = "=t"\nlabels.x = "/x"\ndetail.note = "/x"'
    assert events(text, absent) == [NewEvent('events_to_metrics{type="t"}')]
    (outcome,) = outcomes(parse_mapping(tomllib.loads(text)), "ci", message(absent), CONTEXT)
    assert set(outcome.absent) >= ({"value"} if b'""' in absent else {"x", "detail.note", "value"})


def test_what_is_not_mapped_is_dropped() -> None:
    """A new field of the sender would become a label, and each of its texts a series."""
    body = {"x": "1", "secret": "s", "nested": {"deep": ["y"]}}
    assert series('labels.x = "/x"', body) == ['events_to_metrics{x="1"}']


def test_headers_and_names_of_elements_are_sources() -> None:
    text = """
    each = "/jobs"
    key = "{header:X-Delivery}{#}"
    labels = { job = "#", kind = "header:X-Kind", none = "header:X-None" }
    """
    made = events(text, {"jobs": {"a": 1, "b": 2}}, x_kind="push", x_delivery="d1")
    assert [event.series for event in made] == [
        'events_to_metrics{job="a",kind="push"}',
        'events_to_metrics{job="b",kind="push"}',
    ]
    assert len({event.key for event in made}) == 2


def test_the_elements_may_be_texts() -> None:
    assert series('each = ""\nlabels.x = ""', ["a", 2, True]) == [
        'events_to_metrics{x="a"}',
        'events_to_metrics{x="2"}',
        'events_to_metrics{x="true"}',
    ]


def test_the_metric_of_a_file() -> None:
    """The name of a metric never comes from a body."""
    assert series('metric = "builds"\nlabels.x = "/x"', {"x": 1}) == ['builds{x="1"}']
    assert series('metric = "builds"', {"x": 1}) == ["builds"]


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ('equals = "a"', ["a"]),
        ("equals = 1", ["1", "one"]),
        ("equals = true", ["true"]),
        ('in = ["a", 1]', ["a", "1", "one"]),
        ('matches = "a*"', ["a", "ab"]),
        ('matches = ["*b", "1"]', ["ab", "1", "one"]),
        ("exists = true", ["a", "ab", "1", "one", "true"]),
        ("exists = false", ["null", "absent"]),
        ("exists = true, not = true", ["null", "absent"]),
        ('equals = "a", not = true', ["ab", "1", "one", "true", "null", "absent"]),
    ],
)
def test_conditions(condition: str, taken: list[str]) -> None:
    """An event would be counted that the file leaves out, or the other way round."""
    text = f'each = ""\nwhen = [{{ pointer = "/v", {condition} }}]\nlabels.name = "/name"'
    values = {"a": "a", "ab": "ab", "1": 1, "one": "1", "true": True, "null": None}
    body = [{"name": name, "v": value} for name, value in values.items()] + [{"name": "absent"}]
    found = translated(text, message(body))
    names = [] if found.group is None else [each.series.split('"')[1] for each in found.group.events]
    assert names == taken
    assert found.ignored == len(body) - len(taken)


def test_all_conditions_have_to_hold_and_see_objects() -> None:
    text = """
    when = [
        { pointer = "/a", exists = true },
        { pointer = "header:X", equals = "1" },
        { pointer = "^", exists = true },
    ]
    labels.type = "=t"
    """
    assert series(text, {"a": {}}, x="1")
    assert not series(text, {"a": {}}, x="2")
    assert not series(text, {"a": {}})
    assert not series(text, {}, x="1")


def test_details_are_no_labels_and_no_part_of_a_key() -> None:
    text = 'key = "{/id}"\nlabels.type = "=t"\n[detail]\nurl = "/url"\ntext = "/text"'
    one, two = (
        events(text, {"id": 1, "url": "https://ci.example.org/1", "text": words})[0] for words in ("a", "b")
    )
    assert one.series == two.series and one.key == two.key
    assert details_of(one.detail) == {"url": "https://ci.example.org/1", "text": "a"}


@pytest.mark.parametrize("char", ["x", "ä", '"', "\n", "\x01", "\N{GRINNING FACE}", "\r\n"])
def test_a_long_text_of_a_detail_is_cut(char: str) -> None:
    """A release with long notes would be refused, and never be counted."""
    text = 'labels.type = "=t"\n[detail]\nurl = "/url"\ntext = "/text"\nlast = "/url"'
    (event,) = events(text, {"url": "https://example.org/", "text": char * 30_000})
    assert 1500 < len(event.detail.encode()) <= MAX_DETAIL_BYTES
    found = details_of(event.detail)
    assert found["url"] == "https://example.org/"
    assert found["text"].endswith("…")
    assert set(found["text"][:-1]) <= set(char.replace("\r\n", "\n"))


T, X = 'labels.t = "=t"', 'labels.x = "/x"'

REFUSED = [
    (X, b"", "not JSON", "syntax"),
    (X, b"{", "not JSON", "syntax"),
    (X, b"x=1", "not JSON", "syntax"),
    (X, b'{"x": NaN}', "NaN is not JSON", "syntax"),
    (X, b'{"y": Infinity}', "Infinity is not JSON", "syntax"),
    (X, b'{"x": 1} {"x": 2}', "Extra data", "syntax"),
    (X, b"\xff", "not UTF-8", "encoding"),
    (X, b"[" * 100_000, "nested too deep", "syntax"),
    (X, b'{"a":' * 100_000, "nested too deep", "syntax"),
    (X, b'{"x": {"y": 1}}', "x: '/x': expected a text, number, true or false, got an object", "syntax"),
    (X, b'{"x": []}', "x: '/x': expected a text, number, true or false, got an array", "syntax"),
    (X, b'{"x": "\\ud800"}', "x: '/x': the text has half of a surrogate pair", "encoding"),
    (X, b'{"x": 1, "x": 2}', "'/x': 'x' is given twice in its object", "syntax"),
    (X, b'{"x": "%b"}' % (b"y" * 4097), "longer than 4096 bytes (from '/x')", "limit"),
    (X, b"{}", "no label of the hook finds a text", "empty"),
    ('value = "/v"\n' + T, b'{"v": "fast"}', "value: 'fast' is not a number (from '/v')", "value"),
    ('value = "/v"\n' + T, b'{"v": true}', "value: 'true' is not a number (from '/v')", "value"),
    ('value = "/v"\n' + T, b'{"v": 1e999}', "beyond the range", "value"),
    ('value = "/v"\n' + T, b'{"v": [1]}', "value: '/v': expected a text, number", "syntax"),
    ('key = "{/id}"\n' + T, b"{}", "key: '/id' finds nothing", "key"),
    ('key = "{/id}"\n' + T, b'{"id": ""}', "key: '/id' finds nothing", "key"),
    ('key = "{/id}"\n' + T, b'{"id": {}}', "key: '/id': expected a text", "syntax"),
    (
        'each = "/b"\nlabels.t = "/t"',
        b'{"b": [{"t": 1}, {"t": {}}]}',
        "'/b/1': t: '/t': expected a text",
        "syntax",
    ),
    ('each = "/b"\n' + T, b'{"b": "x"}', "each: '/b': expected an array or object, got 'x'", "syntax"),
    ('when = [{pointer = "/a", equals = 1}]\n' + T, b'{"a": []}', "when: '/a': expected a text", "syntax"),
    ('each = ""\n' + T, b"[%b1]" % (b"1," * 10_000), "more than 10000 events", "limit"),
]


@pytest.mark.parametrize(("text", "body", "why", "reason"), REFUSED)
def test_a_body_that_cannot_be_read_is_refused_with_its_pointer(
    text: str, body: bytes, why: str, reason: str
) -> None:
    """The operator would not find the field, or the daemon would answer 500."""
    with pytest.raises(Refused) as refused:
        translated(text, message(body))
    assert why in refused.value.text
    assert refused.value.reason == reason
    assert reason in REASONS
    assert refused.value.text.isprintable()
    assert refused.value.status == (413 if "10000" in why else 400)


def test_a_common_text_does_not_multiply_without_bound() -> None:
    """A body of 200 KB would become gigabytes."""
    labels = "\n".join(f'l{number} = "^/long"' for number in range(60))
    body = {"long": "x" * 4096, "b": [1] * 10_000}
    with pytest.raises(Refused, match="more than 8388608 characters") as refused:
        translated(f'each = "/b"\n[labels]\n{labels}', message(body))
    assert refused.value.status == 413


def test_the_limits_of_the_daemon_hold() -> None:
    narrow = Context(rules=Rules(max_value=3, max_labels=1, metric="m"), hold=1.0, now=0.0)
    sent = message({"x": "four"})
    with pytest.raises(Refused, match="longer than 3 bytes"):
        translated('labels.x = "/x"', sent, context=narrow)
    with pytest.raises(Refused, match="more than 1 labels"):
        translated('labels = {x = "=a", y = "=b"}', sent, context=narrow)


def test_a_byte_order_mark_is_cut_off() -> None:
    assert series('labels.x = "/x"', b"\xef\xbb\xbf" + json.dumps({"x": 1}).encode())


def test_a_condition_about_the_whole_body_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 elements, and a text of 200 KB with a pattern, would take seconds."""
    asked: list[str] = []

    def matches_any(patterns: Sequence[str], text: str) -> bool:
        asked.append(text)
        return True

    monkeypatch.setattr(conditions, "matches_any", matches_any)
    when = '[{ pointer = "^/t", matches = "*x*" }, { pointer = "#", matches = "*" }]'
    text = f'each = "/b"\nwhen = {when}\nlabels.a = "=b"'
    translated(text, message({"t": "x", "b": [1, 2, 3]}))
    assert asked == ["x", "0", "1", "2"]
