"""Drives presets as a hook does: translate a message, and store what it asks for in memory."""

from __future__ import annotations

from collections.abc import Mapping

from support.hook_payloads import encoded

from oneshotd.core.events import Group, NewEvent, details_of, labels_of
from oneshotd.core.parsing.formats import Rules
from oneshotd.ingest.dialects.registry import PRESETS
from oneshotd.ingest.dialects.translation import Context, Message, Translation
from oneshotd.store.interface import Stored
from oneshotd.store.planning import Known, plan_append

#: 2026-11-28T10:00:00Z.
NOW = 1_795_860_000.0
HOLD = 86_400.0
RULES = Rules()


def translate(
    name: str,
    payload: object,
    headers: Mapping[str, str] = {},
    *,
    rules: Rules = RULES,
    principal: str = "",
    now: float = NOW,
    hold: float = HOLD,
) -> Translation:
    """Translate a payload, encoded as JSON unless it is bytes."""
    body = payload if isinstance(payload, bytes) else encoded(payload)
    message = Message(body=body, raw=body, headers=headers, principal=principal)
    return PRESETS[name](message, Context(rules=rules, hold=hold, now=now))


def events_of(translation: Translation) -> list[NewEvent]:
    """Return the events of a translation."""
    return [] if translation.group is None else list(translation.group.events)


def labels(event: NewEvent) -> dict[str, str]:
    """Return the labels of an event."""
    return labels_of(event.series)


def details(event: NewEvent) -> dict[str, str]:
    """Return the details of an event."""
    return details_of(event.detail)


class Log:
    """Stores groups by the plan of the store, with its keys and states.

    :ivar events: what is stored.
    """

    def __init__(self) -> None:
        self.events: list[NewEvent] = []
        self._keys: dict[str, Known] = {}
        self._states: dict[str, int] = {}

    def append(self, group: Group | None) -> Stored:
        """Store a group."""
        if group is None:
            return Stored(stored=0, duplicates=0, first=0)
        plan = plan_append(group, self._keys, len(self.events) + 1, self._states, int(NOW * 1000))
        assert isinstance(plan.answer, Stored)
        self.events += plan.events
        self._keys.update(plan.keys)
        self._states.update({key: state.value for key, state in plan.states.items() if state is not None})
        return plan.answer
