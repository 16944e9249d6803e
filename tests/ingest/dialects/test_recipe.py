"""A preset with labels of a file, and the bounds of what any dialect may make of a body."""

from __future__ import annotations

import pytest
from support.hook_messages import CONTEXT, message

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.parsing.formats import Rules
from oneshotd.errors import Refused
from oneshotd.ingest.dialects import recipe
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.registry import PRESETS
from oneshotd.ingest.dialects.translation import Context, Message, Translation

LONG = NewEvent('m{text="%s"}' % ("x" * 4000))


def several(message: Message, context: Context) -> Translation:
    """As many events as the body says; none where it is empty."""
    if not message.body:
        return Translation(ignored=1)
    many = int(message.body)
    events = [NewEvent(f'm{{n="{number}",team="a"}}', "1", f"k{number}") for number in range(many)]
    return Translation(group=Group(events=events or [LONG] * 3000, keys_decide=True), ignored=2)


@pytest.fixture(autouse=True)
def preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "PRESETS", {"several": several})


def test_the_labels_of_the_file_are_on_each_event() -> None:
    """Two hooks of one preset could not be told apart."""
    made = Recipe.parse("x", {"preset": "several", "labels": {"team": "=shop", "env": '="q"'}})
    found = made.translate(message(b"2"), CONTEXT)
    assert found.group is not None
    assert [event.series for event in found.group.events] == [
        'm{env="\\"q\\"",n="0",team="shop"}',
        'm{env="\\"q\\"",n="1",team="shop"}',
    ]
    assert [event.key for event in found.group.events] == ["k0", "k1"]
    assert (found.ignored, found.group.keys_decide) == (2, True)
    assert made.translate(message(b""), CONTEXT) == Translation(ignored=1)


def test_the_labels_of_the_file_count() -> None:
    narrow = Context(rules=Rules(max_labels=2), hold=1.0, now=0.0)
    made = Recipe.parse("x", {"preset": "several", "labels": {"env": "=q"}})
    with pytest.raises(Refused, match="with those of the hook there are more than 2 labels"):
        made.translate(message(b"1"), narrow)


@pytest.mark.parametrize(
    ("body", "why"), [(b"10001", "more than 10000 events"), (b"0", "8388608 characters")]
)
def test_what_a_preset_makes_of_a_body_is_bounded(body: bytes, why: str) -> None:
    """A small body whose common text is in each event would fill the store."""
    with pytest.raises(Refused, match=why) as refused:
        Recipe.parse("x", {"preset": "several"}).translate(message(body), CONTEXT)
    assert (refused.value.status, refused.value.reason) == (413, "limit")


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ({"preset": "other"}, "preset: expected one of several, got 'other'"),
        ({"preset": 1}, "preset: expected one of several, got 1"),
        ({"preset": []}, "preset: expected one of several, got a list"),
        ({"preset": "several", "each": "/x"}, "each: expected preset, labels and verify only"),
        ({"preset": "several", "labels": {"a": "/x"}}, 'labels: a: expected a constant such as "=text"'),
        ({"preset": "several", "labels": {"a": "x"}}, "labels: a: expected a pointer such as"),
        ({"preset": "several", "labels": {}}, "labels: expected a table such as"),
    ],
)
def test_mistakes_of_a_file_with_a_preset(tables: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        Recipe.parse("x", tables)
    assert str(error.value).startswith(why)


def test_each_preset_can_be_named_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "PRESETS", PRESETS)
    for name in PRESETS:
        assert Recipe.parse("x", {"preset": name}).preset == name
