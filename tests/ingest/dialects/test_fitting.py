"""Events of presets keep the daemon's limits, whatever a tool sends."""

from __future__ import annotations

import pytest

from oneshotd.core.events import details_of, labels_of
from oneshotd.core.parsing.formats import Rules
from oneshotd.core.parsing.grammar import MAX_NAME_BYTES
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.fitting import MAX_DETAILS, cut, make_event, named


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "abc"),
        ("é" * 4, 5, "éé"),
        ("x" * 100, 20, "x" * 17 + "…"),
        ("€" * 100, 20, "€" * 5 + "…"),
        ("x", 1, "x"),
        ("€", 1, ""),
        ("x" * 10_000_000, 20, "x" * 17 + "…"),
    ],
)
def test_a_text_is_cut_between_characters(text: str, most: int, expected: str) -> None:
    """A label would be refused for ever, or be no UTF-8."""
    assert cut(text, most) == expected
    assert len(expected.encode()) <= most


def test_labels_beyond_the_limits_are_cut_and_left_out() -> None:
    """A daemon with narrow limits would refuse every alert."""
    rules = Rules(max_labels=2, max_value=4)
    event = make_event(
        [("type", "alert"), ("empty", ""), ("status", "resolved"), ("more", "x")],
        [("text", "kept whole")],
        rules=rules,
        key="k",
        value="3",
    )
    assert labels_of(event.series) == {"type": "aler", "status": "reso"}
    assert (event.value, event.key) == ("3", "k")
    assert details_of(event.detail) == {"text": "kept whole"}


def test_details_are_shortened_and_counted() -> None:
    """An alert with a page of annotations would be refused."""
    texts = [
        ("time", "t"),
        ("time", "second"),
        ("none", ""),
        *((f"n{number}", "x" * 300) for number in range(99)),
    ]
    event = make_event([("a", "b")], [("text", "\x00" * 1_000_000)], rules=Rules(), key=None)
    assert len(event.detail.encode()) <= 4096
    event = make_event([("a", "b")], texts, rules=Rules(), key=None)
    details = details_of(event.detail)
    assert len(event.detail.encode()) <= 4096
    assert details["time"] == "t"
    assert len(details) <= MAX_DETAILS


def test_a_value_that_is_no_number_is_refused() -> None:
    """A length that is beyond a float would be stored as a sample that no scraper takes."""
    with pytest.raises(Refused, match="value: '1e999'"):
        make_event([("a", "b")], [], rules=Rules(), key=None, value="1e999")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"b": "1", "a": "2"}, {"a": "2", "b": "1"}),
        ({"my.label": "1"}, {"my_label": "1"}),
        ({"my.label": "1", "my_label": "2"}, {"my_label": "1"}),
        ({"9lives": "1"}, {"_9lives": "1"}),
        ({"__name__": "1"}, {"name__": "1"}),
        ({"____": "1", "": "2"}, {}),
        ({"größe (cm)": "1"}, {"gr__e__cm_": "1"}),
        ({"type": "1", "value": "2", "x": "3"}, {"p_type": "1", "p_value": "2", "x": "3"}),
        ({"p_type": "1", "type": "2"}, {"p_type": "1"}),
        ({"x" * MAX_NAME_BYTES: "1"}, {"x" * MAX_NAME_BYTES: "1"}),
        ({"x" * (MAX_NAME_BYTES + 1): "1"}, {}),
    ],
)
def test_names_become_legal(texts: dict[str, str], expected: dict[str, str]) -> None:
    """A label that Prometheus allows would make every notification a refusal."""
    found = named(texts, prefix="p_", taken=("type",))
    assert dict(found) == expected
    assert len(dict(found)) == len(found)
    if found:
        make_event(found, [(f"{name}"[:100], text) for name, text in found], rules=Rules(), key=None)
