"""What the daemon and the process that translates large bodies write to each other: JSON, a value on a line.

The daemon writes a `Job` and the body. The process answers with a head, and the events in blocks, so that the
daemon decodes little at a time. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import field, frozen

from oneshotd.core.events import Count, End, Group, NewEvent, Start, StateChange
from oneshotd.core.parsing.formats import Rules
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.recipe import Recipe
from oneshotd.ingest.dialects.translation import Context, Message, Translation

#: Events and characters of a block.
BLOCK_EVENTS, BLOCK_CHARACTERS = 100, 32 * 1024

_STATES: Mapping[str, type[StateChange]] = {"start": Start, "end": End, "count": Count}
_MESSAGE = ("method", "path", "principal")


@frozen(kw_only=True)
class Job:
    """A message, and how it becomes events."""

    recipe: Recipe
    message: Message
    context: Context

    def head(self) -> bytes:
        """Return all but the body, as one line."""
        message, context = self.message, self.context
        rules = context.rules
        head = {
            "name": self.recipe.name,
            "tables": self.recipe.tables,
            "bytes": len(message.body),
            "headers": dict(message.headers),
            "query": message.query.decode("latin-1"),
            **{name: getattr(message, name) for name in _MESSAGE},
            "hold": context.hold,
            "now": context.now,
            "taken": sorted(rules.taken),
            "metric": rules.metric,
            "max_labels": rules.max_labels,
            "max_value": rules.max_value,
        }
        return json.dumps(head).encode() + b"\n"


@frozen
class Head:
    """The head of a job, read back; `job` adds the body."""

    _fields: Mapping[str, Any]

    @classmethod
    def parse(cls, line: bytes) -> Head:
        """Parse the line of `Job.head`."""
        return cls(json.loads(line))

    @property
    def size(self) -> int:
        """The bytes of the body."""
        return int(self._fields["bytes"])

    def job(self, body: bytes) -> Job:
        """Return the whole job."""
        given = self._fields
        rules = Rules(
            taken=frozenset(given["taken"]),
            metric=given["metric"],
            max_labels=given["max_labels"],
            max_value=given["max_value"],
        )
        message = Message(
            body=body,
            raw=body,
            headers=given["headers"],
            query=given["query"].encode("latin-1"),
            **{name: given[name] for name in _MESSAGE},
        )
        return Job(
            recipe=Recipe.parse(given["name"], given["tables"], rules),
            message=message,
            context=Context(rules=rules, hold=given["hold"], now=given["now"]),
        )


def result_lines(found: Translation) -> Iterator[bytes]:
    """Yield the lines of a translation; its `answer` stays behind."""
    head: dict[str, Any] = {"ignored": found.ignored}
    group = found.group
    if group is not None:
        head["key"], head["keys_decide"] = group.key, group.keys_decide
        head["states"] = [_state(state) for state in group.states]
    yield _line(head)
    block: list[NewEvent] = []
    characters = 0
    for event in () if group is None else group.events:
        block.append(event)
        characters += len(event.series) + len(event.detail)
        if len(block) >= BLOCK_EVENTS or characters >= BLOCK_CHARACTERS:
            yield _line(block)
            block, characters = [], 0
    if block:
        yield _line(block)
    yield _line(None)


def refusal_line(refused: Refused) -> bytes:
    """Return the line of a refusal."""
    return _line({"refused": [refused.text, refused.reason, refused.status]})


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _state(state: StateChange) -> list[Any]:
    if isinstance(state, Start):
        return ["start", {"event": state.event, "key": state.key, "seconds": state.seconds}]
    if isinstance(state, End):
        return ["end", {"event": state.event, "key": state.key}]
    counted = {"count": state.count, "unknown": state.unknown, "seconds": state.seconds}
    return ["count", {"event": state.event, "key": state.key, **counted}]


@frozen
class ResultReader:
    """Reads the lines of a result as they arrive."""

    _parts: list[Any] = field(factory=list)
    _events: list[NewEvent] = field(factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return bool(self._parts) and (self._parts[-1] is None or "refused" in self._parts[0])

    def take(self, line: bytes) -> None:
        """Take one line."""
        value = json.loads(line)
        if isinstance(value, list):
            self._events.extend(NewEvent(*fields) for fields in value)
        else:
            self._parts.append(value)

    def translation(self) -> Translation:
        """Return the result.

        :raises Refused: it is a refusal.
        """
        head = self._parts[0]
        if "refused" in head:
            text, reason, status = head["refused"]
            raise Refused(text, reason=reason, status=status)
        if not self._events:
            return Translation(ignored=head["ignored"])
        states = tuple(_STATES[kind](**fields) for kind, fields in head["states"])
        group = Group(events=self._events, key=head["key"], keys_decide=head["keys_decide"], states=states)
        return Translation(group=group, ignored=head["ignored"])
