"""A hook of one's own for CloudEvents: pointers lead into each event, whatever the mode."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.strategies import RULES

from oneshotd.core.events import NewEvent
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.cloudevents import handshake
from oneshotd.ingest.dialects.mapping import outcomes, translate
from oneshotd.ingest.dialects.mapping_file import parse_mapping
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.translation import Context, Message
from oneshotd.ingest.hooks.hooks import Hook

PAGE = Path(__file__).resolve().parents[3] / "docs" / "dialects.md"
CONTEXT = Context(rules=RULES, hold=3600.0, now=1.7e9)

HOOK = """
format = "cloudevents"
when = [{ pointer = "/type", matches = "org.example.*" }]
value = "/data/seconds"
[labels]
type = "/type"
version = "/data/version"
level = "/severity"
"""

PARTS = """
format = "cloudevents"
each = "/data/parts"
[labels]
type = "^/type"
part = ""
"""

DATA = {"version": "1.2", "seconds": 2.5, "parts": ["a", "b"]}
EVENT: Mapping[str, Any] = {
    "specversion": "1.0",
    "id": "7",
    "source": "/ci/shop",
    "type": "org.example.deploy",
    "severity": "high",
}

STRUCTURED = Message(
    body=json.dumps({**EVENT, "data": DATA}).encode(),
    headers={"content-type": "application/cloudevents+json"},
)
BINARY = Message(
    body=json.dumps(DATA).encode(),
    headers={"content-type": "application/json", **{f"ce-{name}": text for name, text in EVENT.items()}},
)


def batch(*events: Mapping[str, Any]) -> Message:
    body = json.dumps([{**event, "data": DATA} for event in events]).encode()
    return Message(body=body, headers={"content-type": "application/cloudevents-batch+json"})


def made(message: Message, hook: str = HOOK, name: str = "shop") -> list[NewEvent]:
    group = translate(parse_mapping(tomllib.loads(hook)), name, message, CONTEXT).group
    return [] if group is None else list(group.events)


def test_attributes_and_data_are_mapped_in_all_modes() -> None:
    """Only what the usual labels say could be had of an event."""
    (event,) = made(STRUCTURED)
    assert event.series == 'events_to_metrics{level="high",type="org.example.deploy",version="1.2"}'
    assert event.value == "2.5"
    assert event.key is not None
    assert made(BINARY) == made(batch(EVENT)) == [event]


def test_each_event_of_a_batch_is_mapped() -> None:
    message = batch(EVENT, {**EVENT, "id": "8", "type": "com.example.x"}, {**EVENT, "id": "9"})
    found = list(outcomes(parse_mapping(tomllib.loads(HOOK)), "shop", message, CONTEXT))
    assert [(outcome.path, outcome.event is not None) for outcome in found] == [
        ("/0", True),
        ("/1", False),
        ("/2", True),
    ]
    assert len({event.key for event in made(message)}) == 2


def test_source_and_id_are_the_key_where_a_file_has_none() -> None:
    """A retry would count twice as soon as a hook has a file."""
    keys = [event.key for event in made(STRUCTURED) + made(batch({**EVENT, "source": "/ci/sho", "id": "p7"}))]
    assert len({*keys, *(event.key for event in made(STRUCTURED, name="other"))}) == 3
    parts = made(STRUCTURED, PARTS)
    assert [part.series for part in parts] == [
        f'events_to_metrics{{part="{part}",type="org.example.deploy"}}' for part in "ab"
    ]
    assert len({part.key for part in parts}) == len(parts) == 2
    own = made(STRUCTURED, f'key = "{{/data/version}}"\n{HOOK}')
    assert own[0].key not in keys


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Message(body=b"{}", headers={"content-type": "application/json"}), "Content-Type: expected"),
        (batch({**EVENT, "id": ""}), "id is empty"),
        (Message(body=b"{", headers=BINARY.headers), "not JSON"),
    ],
)
def test_what_is_no_event_is_refused(message: Message, why: str) -> None:
    with pytest.raises(Refused, match=why):
        made(message)


def test_such_a_hook_answers_the_handshake() -> None:
    """A sender that asks first would never send to a hook of one's own."""
    assert Hook.of(Recipe.parse("shop", tomllib.loads(HOOK))).handshake is handshake
    assert Hook.of(Recipe.parse("shop", {"preset": "cloudevents"})).handshake is handshake
    assert Hook.of(Recipe.parse("shop", {"labels": {"type": "=x"}})).handshake is None


def test_json_stays_the_form_of_a_hook() -> None:
    usual = HOOK.replace('format = "cloudevents"\n', "")
    assert made(Message(body=STRUCTURED.body), usual)[0].key is None
    assert parse_mapping(tomllib.loads(usual)) == parse_mapping(tomllib.loads(f'format = "json"\n{usual}'))


def test_the_file_of_the_documentation_is_read() -> None:
    """The first such hook that a user copies would not work."""
    chapter = PAGE.read_text(encoding="utf-8").partition("\n## CloudEvents\n")[2].partition("\n## ")[0]
    (text,) = re.findall(r"(?ms)^```toml\n(.*?)^```$", chapter)
    (event,) = made(STRUCTURED, text)
    assert event.series == 'events_to_metrics{severity="high",type="org.example.deploy",version="1.2"}'
    assert event.value == "2.5"
