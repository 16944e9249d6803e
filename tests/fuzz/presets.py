"""Any bytes at the presets of `ingest/dialects/registry.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fuzz.response import RULES
from support.hook_payloads import encoded
from support.preset_messages import GOOD

from oneshotd.core.events import Count, NewEvent, details_of, labels_of
from oneshotd.core.parsing.formats import MAX_EVENTS, MAX_KEY_BYTES
from oneshotd.core.parsing.grammar import OWN_KEYS
from oneshotd.ingest.dialects.registry import PRESETS
from oneshotd.ingest.dialects.translation import Context, Message
from oneshotd.store.planning import plan_append

HOLD = 86400.0
CONTEXT = Context(rules=RULES, hold=HOLD, now=1_795_860_000.0)

_FORM = {"content-type": "application/x-www-form-urlencoded"}

#: The headers that a target's first byte chooses from, each with its preset.
CHOICES: Sequence[tuple[str, Mapping[str, str]]] = (
    *((name, headers) for name, headers, _ in GOOD),
    *((name, {**headers, **_FORM}) for name, headers, _ in GOOD if name == "github"),
)

#: A choice and a body.
SEEDS = tuple(bytes([number]) + encoded(payload) for number, (_, _, payload) in enumerate(GOOD))


def _names(value: object) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(name for member in value.values() for name in _names(member))}
    return {name for member in value for name in _names(member)} if isinstance(value, list) else set()


_ALL_NAMES = {name for _, _, payload in GOOD for name in _names(payload)}

#: What bodies are made of: names of members, and texts that are told apart.
WORDS = (
    *(b'"%s"' % name.encode() for name in sorted(_ALL_NAMES)),
    *(b'"%s"' % word for word in b"firing resolved completed published create success DELETED List".split()),
    *(b'"2026-11-28T10:00:00.5Z"', b'"0001-01-01T00:00:00Z"', b'"2026-11-28 09:00:00 UTC"', b"payload=%7B"),
    *(b'"__name__"', b'"value"', b'"9 lives"', b'"type"'),
)


def preset(data: bytes) -> list[NewEvent]:
    """Translate what stands behind the first byte; what is stored keeps all limits.

    :raises Refused: with a reason.
    """
    name, headers = CHOICES[data[0] % len(CHOICES)] if data else CHOICES[0]
    body = data[1:]
    found = PRESETS[name](Message(body=body, raw=body, headers=headers), CONTEXT)
    assert found.ignored >= 0
    if found.group is None:
        return []
    group = found.group
    assert group.keys_decide
    assert 0 < len(group.events) <= MAX_EVENTS
    for event in group.events:
        assert event.key is not None
        assert event.key.startswith(OWN_KEYS)
        assert len(event.key) <= MAX_KEY_BYTES
        assert labels_of(event.series)["type"]
        assert len(event.detail.encode()) <= 4096
        details_of(event.detail)
    for state in group.states:
        assert isinstance(state, Count)
        assert (state.count > 0, state.unknown > 0, state.seconds) == (True, True, HOLD)
        assert 0 <= state.event < len(group.events)
    plan = plan_append(group, {}, 1)
    again = plan_append(group, plan.keys, 1)
    assert not again.events
    return list(group.events)
