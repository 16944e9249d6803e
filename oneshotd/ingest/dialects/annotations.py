"""Annotations of charts, as senders post them to Grafana and Graphite -> events with ``type="annotation"``.

| form | posted to | fields |
|---|---|---|
| Grafana | ``/api/annotations`` | time, timeEnd (ms), tags (a list), text, dashboardUID (or Id), panelId |
| Flux | ``/api/annotations`` | when (s), tags (a list), text |
| Graphite | ``/api/annotations/graphite``, ``/events/`` | what, tags (a list or a text), when (s), data |

Other fields are ignored, as Grafana and Graphite ignore them. No sender sends a key; one is made of the
content if that has a time, so that a repeated request counts once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from oneshotd.core.events import Group
from oneshotd.core.parsing import json_format
from oneshotd.core.parsing.grammar import event
from oneshotd.core.parsing.idempotency import idempotency_key
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.details import fitted
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.tags import labels_of_tags
from oneshotd.ingest.dialects.times import rfc3339_of_ms, unix_ms
from oneshotd.ingest.dialects.translation import Answer, Context, Message, Translation
from oneshotd.store.interface import Stored

#: The label `type` of an annotation without a tag ``type:…``.
TYPE = "annotation"

#: Tags of an annotation that are looked at; Grafana's own limit is 500 characters in all.
MAX_TAGS = 1000

#: Between tags in one text: Graphite has blanks, some of its senders commas.
_BETWEEN_TAGS = re.compile(r"[\s,]+")

_Fields = Mapping[str, object]


def grafana(message: Message, context: Context) -> Translation:
    """Translate the body of ``POST /api/annotations``."""
    fields = _object(message.body)
    text = _text(fields, "text")
    if not text:
        hint = " (what: belongs to /api/annotations/graphite and /events/)" if "what" in fields else ""
        raise Refused(f"text: expected one that is not empty, got none{hint}", reason="syntax")
    begin, end = _time(fields, "time", 1), _time(fields, "timeEnd", 1)
    if begin is None:
        begin = _time(fields, "when", 1000)
    place = {
        "dashboard": _text(fields, "dashboardUID") or _number(fields, "dashboardId"),
        "panel": _number(fields, "panelId"),
    }
    return _translated(
        message, context, fields, text, begin, end, place, lambda stored: _added("Annotation added", stored)
    )


def grafana_graphite(message: Message, context: Context) -> Translation:
    """Translate the body of ``POST /api/annotations/graphite``."""
    return _graphite(message, context, lambda stored: _added("Graphite annotation added", stored))


def graphite(message: Message, context: Context) -> Translation:
    """Translate the body of Graphite's own ``POST /events/``, which answers without a body."""
    return _graphite(message, context, lambda stored: Answer(body=b"", content_type="text/plain"))


def _graphite(message: Message, context: Context, answer: Callable[[Stored], Answer]) -> Translation:
    fields = _object(message.body)
    what = _text(fields, "what")
    if not what:
        hint = " (text: belongs to /api/annotations)" if "text" in fields else ""
        raise Refused(f"what: expected one that is not empty, got none{hint}", reason="syntax")
    data = _text(fields, "data")
    text = f"{what}\n{data}" if data else what  # as Grafana shows it
    return _translated(message, context, fields, text, _time(fields, "when", 1000), None, {}, answer)


def _translated(
    message: Message,
    context: Context,
    fields: _Fields,
    text: str,
    begin: int | None,
    end: int | None,
    place: Mapping[str, str],
    answer: Callable[[Stored], Answer],
) -> Translation:
    labels = labels_of_tags(_tags(fields))
    if not any(name == "type" for name, _ in labels):
        labels.append(("type", TYPE))
    details = {
        "text": text,
        "time": "" if begin is None else rfc3339_of_ms(begin),
        "end": "" if end is None or end == begin else rfc3339_of_ms(end),
        **place,
    }
    parts = [
        details["time"],
        details["end"],
        text,
        *place.values(),
        *(f"{name}={tag}" for name, tag in labels),
    ]
    return Translation(
        group=Group(
            events=[event([*labels, *fitted(details)], context.rules)],
            key=_key(message, parts if details["time"] else None),
            keys_decide=True,
        ),
        answer=answer,
    )


def _key(message: Message, parts: list[str] | None) -> str | None:
    sent = message.headers.get("idempotency-key")
    if sent is not None:
        return event_key("annotations", message.principal, "sent", idempotency_key(sent.encode("latin-1")))
    return None if parts is None else event_key("annotations", message.principal, "made", *parts)


def _added(text: str, stored: Stored) -> Answer:
    return Answer(body=json.dumps({"message": text, "id": stored.first}).encode())


# Fields


def _object(body: bytes) -> _Fields:
    """Return the members of the body; of two with one name the last, as Go and Python have it."""
    if not body:
        raise Refused("expected a JSON object, got no body", reason="empty")
    found = json_format.decode_body(body)
    if not json_format.is_object(found):
        raise Refused("expected a JSON object, got another value", reason="syntax")
    return dict(found)  # type: ignore[call-overload, no-any-return]  # is_object


def _scalar(name: str, value: object) -> str:
    """Return a text or a number as text; empty for null."""
    if value is None:
        return ""
    if not isinstance(value, str):
        kind = (
            "an object"
            if json_format.is_object(value)
            else "a list"
            if isinstance(value, list)
            else "a boolean"
        )
        raise Refused(f"{name}: expected a text or a number, got {kind}", reason="syntax")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(f"{name} has half of a surrogate pair in it", reason="encoding") from None
    return value


def _text(fields: _Fields, name: str) -> str:
    return _scalar(name, fields.get(name))


def _number(fields: _Fields, name: str) -> str:
    """Return an id; 0 is Grafana's for none."""
    text = _text(fields, name)
    return "" if text == "0" else text


def _time(fields: _Fields, name: str, unit: int) -> int | None:
    """Return a time in Unix ms; Grafana reads 0 as none, too."""
    text = _text(fields, name)
    return (unix_ms(name, text, unit) or None) if text else None


def _tags(fields: _Fields) -> list[str]:
    value = fields.get("tags")
    if value is None:
        return []
    if isinstance(value, str):
        return [tag for tag in _BETWEEN_TAGS.split(_scalar("tags", value)) if tag]
    if not isinstance(value, list) or json_format.is_object(value):
        raise Refused("tags: expected a list of texts, or one text", reason="syntax")
    if len(value) > MAX_TAGS:
        raise Refused(f"tags: expected at most {MAX_TAGS}, got {len(value)}", reason="limit")
    tags = [_scalar("tags", tag) for tag in value]
    return [tag for tag in tags if tag]
