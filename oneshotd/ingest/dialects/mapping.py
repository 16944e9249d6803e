"""A mapping: which parts of a JSON body become which events. `mapping_file.py` reads it.

What is not mapped is dropped. A source that finds nothing, or `null`, gives nothing: no label, no detail, an
event without a value. A key has to be complete.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import evolve, frozen

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.parsing.details import MAX_DETAIL_BYTES
from oneshotd.core.parsing.formats import MAX_EVENTS
from oneshotd.core.parsing.grammar import Pair, event, quoted
from oneshotd.core.parsing.json_format import decode_body
from oneshotd.errors import Refused
from oneshotd.ingest.dialects import cloudevents
from oneshotd.ingest.dialects.conditions import Condition
from oneshotd.ingest.dialects.details import fitted
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.pointers import (
    Document,
    Element,
    Place,
    Pointer,
    Source,
    parse_place,
)
from oneshotd.ingest.dialects.translation import Context, Message, Translation

#: Characters of all events of a message: a text of the body can be in each of 10,000 events.
MAX_CHARACTERS = 8 * 1024 * 1024

#: Places of a key.
MAX_PLACES = 16

#: The form of a body, unless its hook has another one.
JSON = "json"

#: Form of a body -> its decoded bodies; pointers are relative to each of them.
FORMS: Mapping[str, Callable[[Message], Sequence[object]]] = {
    JSON: lambda message: [decode_body(message.body)],
    "cloudevents": cloudevents.decoded,
}

#: What an element costs for each of its sources, as so many characters of its event do.
_SOURCE_COST = 10

_PLACE = re.compile(r"\{([^{}]*)\}")


@frozen
class KeyTemplate:
    """The parts of a key: texts, and places in braces."""

    written: str
    parts: Sequence[str | Place]

    @classmethod
    def parse(cls, text: str) -> KeyTemplate:
        """Parse a template such as ``{/id}-{/state}``.

        :raises ValueError: "expected …, got …".
        """
        pieces = _PLACE.split(text)
        if len(pieces) == 1 or any("{" in piece or "}" in piece for piece in pieces[::2]):
            raise ValueError(f'expected pointers in braces, such as "{{/id}}-{{/state}}", got {text[:80]!a}')
        if len(pieces) > 2 * MAX_PLACES + 1:
            raise ValueError(f"expected at most {MAX_PLACES} pointers, got {len(pieces) // 2}")
        parts = [parse_place(piece) if number % 2 else piece for number, piece in enumerate(pieces)]
        return cls(text, parts)

    def fill(self, document: Document, element: Element) -> Sequence[str]:
        """Return the parts of the key of an element.

        :raises Refused: one is missing or empty, so that other events would have the same key.
        """
        found = []
        for part in self.parts:
            text = part if isinstance(part, str) else document.text("key", part, element)
            if not text and not isinstance(part, str):
                raise Refused(f"key: {part} finds nothing", reason="key")
            found.append(text or "")
        return found


@frozen(kw_only=True)
class EventMapping:
    """A mapping.

    :param form: how a body is read, of `FORMS`.
    :param each: leads to the array or object whose elements become events; None: the body becomes one.
    :param when: all have to hold.
    :param key: None: an event has no key, and each repetition counts.
    :param metric: None: the daemon's usual one.
    :param labels, detail: name -> source.
    """

    form: str = JSON
    each: Pointer | None = None
    when: Sequence[Condition] = ()
    key: KeyTemplate | None = None
    value: Source | None = None
    metric: str | None = None
    labels: Mapping[str, Source] = {}
    detail: Mapping[str, Source] = {}

    @property
    def weight(self) -> int:
        """What an element costs, in the cost of a source."""
        return 4 + len(self.labels) + len(self.detail) + len(self.when)


class Outgrown(Exception):
    """A small body has become more work than its caller allows."""


@frozen(kw_only=True)
class Outcome:
    """What became of one element.

    :param path: where it stands in the body, as a pointer; empty: it is the body.
    :param event: None: it was left out.
    :param why: it was left out.
    :param key: the texts that the event's key is made of, joined.
    :param absent: the names of labels, details and ``value`` that found nothing.
    """

    path: str
    event: NewEvent | None = None
    why: str = ""
    key: str | None = None
    absent: Sequence[str] = ()


def outcomes(
    mapping: EventMapping, name: str, message: Message, context: Context, *, work: float = math.inf
) -> Iterator[Outcome]:
    """Yield what becomes of each element of a message.

    :param name: of the hook.
    :param work: how much it may be, in characters of events.
    :raises Refused: the body is not JSON, or an element cannot be an event; names its pointer.
    :raises Outgrown: it is more: elements can repeat a common text, and Base64 hides how many there are.
    """
    made = characters = 0
    cost = _SOURCE_COST * mapping.weight
    for document, element in _elements(mapping, message):
        try:
            outcome = _outcome(mapping, name, message.principal, context, document, element)
        except Refused as refused:
            raise _placed(refused, element) from None
        work -= cost
        if outcome.event is not None:
            made += 1
            characters += len(outcome.event.series) + len(outcome.event.detail)
            if made > MAX_EVENTS:
                raise Refused(f"there are more than {MAX_EVENTS} events", reason="limit", status=413)
            if characters > MAX_CHARACTERS:
                text = f"the events have more than {MAX_CHARACTERS} characters"
                raise Refused(text, reason="limit", status=413)
        if work < characters:
            raise Outgrown
        yield outcome


def _elements(mapping: EventMapping, message: Message) -> Iterator[tuple[Document, Element]]:
    bodies = FORMS[mapping.form](message)
    for number, body in enumerate(bodies):
        document = Document(body, message.headers)
        for element in document.elements(mapping.each):
            if len(bodies) > 1:
                element = evolve(element, path=f"/{number}{element.path}")
            yield document, element


def translate(
    mapping: EventMapping, name: str, message: Message, context: Context, *, work: float = math.inf
) -> Translation:
    """Translate a message by a mapping.

    :raises Refused, Outgrown: as from `outcomes`.
    """
    events, ignored = [], 0
    for outcome in outcomes(mapping, name, message, context, work=work):
        if outcome.event is None:
            ignored += 1
        else:
            events.append(outcome.event)
    group = Group(events=events, keys_decide=True) if events else None
    return Translation(group=group, ignored=ignored)


def _placed(refused: Refused, element: Element) -> Refused:
    if not element.path:
        return refused
    return Refused(f"{quoted(element.path)}: {refused.text}", reason=refused.reason, status=refused.status)


def _outcome(
    mapping: EventMapping,
    name: str,
    principal: str,
    context: Context,
    document: Document,
    element: Element,
) -> Outcome:
    for condition in mapping.when:
        why = condition.fault(document, element)
        if why is not None:
            return Outcome(path=element.path, why=why)
    pairs: list[Pair] = [
        (label, document.text(label, source, element)) for label, source in mapping.labels.items()
    ]
    found = {
        label: document.text(f"detail.{label}", source, element) for label, source in mapping.detail.items()
    }
    # No detail is longer; the rest of a long text is not looked at for each element again.
    details = {label: text[: MAX_DETAIL_BYTES + 1] for label, text in found.items() if text}
    if mapping.value is not None:
        pairs.append(("value", document.text("value", mapping.value, element) or None))
    absent = [label for label, text in pairs if text is None]
    absent += [f"detail.{label}" for label, text in found.items() if text is None]
    pairs += fitted(details)
    if mapping.metric is not None:
        pairs.append(("__name__", mapping.metric))
    parts = None
    if mapping.key is not None:
        parts = mapping.key.fill(document, element)
    if mapping.metric is None and not any(text for _, text in pairs[: len(mapping.labels)]):
        raise Refused("no label of the hook finds a text", reason="empty")
    try:
        made = event(pairs, context.rules)
    except Refused as refused:
        raise _sourced(refused, mapping) from None
    if parts is not None:
        made = made._replace(key=event_key(name, principal, *parts))
    return Outcome(
        path=element.path,
        event=made,
        key=None if parts is None else "".join(parts),
        absent=absent,
    )


def _sourced(refused: Refused, mapping: EventMapping) -> Refused:
    """Add the source of the label that a refusal of the grammar is about."""
    texts = {f"label {quoted(name)}: ": source for name, source in mapping.labels.items()}
    if mapping.value is not None:
        texts["value: "] = mapping.value
    for start, source in texts.items():
        if refused.text.startswith(start):
            text = f"{refused.text} (from {source})"
            return Refused(text, reason=refused.reason, status=refused.status)
    return refused
