"""CloudEvents 1.0 over HTTP: https://github.com/cloudevents/spec.

==========  ======================================================  ==============================
mode        told by                                                 attributes
==========  ======================================================  ==============================
binary      the header ``ce-specversion``                           headers; the body is the data
structured  ``Content-Type: application/cloudevents+json``          members of the body
batch       ``Content-Type: application/cloudevents-batch+json``    members of its elements
==========  ======================================================  ==============================

`source` and `id` make the key of an event. Its data is dropped; a mapping reads it (`decoded`).
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.parsing.formats import MAX_EVENTS, MAX_NAMED, Rules
from oneshotd.core.parsing.grammar import event, quoted
from oneshotd.core.parsing.json_format import decode, decode_body, is_object
from oneshotd.errors import Refused
from oneshotd.ingest.dialects.details import fitted
from oneshotd.ingest.dialects.keys import event_key
from oneshotd.ingest.dialects.translation import Answer, Context, Message, Translation

NAME = "cloudevents"
VERSION = "1.0"

#: Beginning of the media types of the structured and the batch mode.
MEDIA = "application/cloudevents"
STRUCTURED, BATCH = f"{MEDIA}+json", f"{MEDIA}-batch+json"
#: Tells the binary mode.
BINARY = "ce-specversion"

#: Characters of a time that are kept.
MAX_TIME = 64

#: The attributes that become labels.
LABELS = ("type", "source", "subject")

#: Attributes that an event has to have.
REQUIRED = ("specversion", "id", "source", "type")

_TEXTS = (*REQUIRED, "subject", "time", "datacontenttype")
_PREFIX = "ce-"
_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")
_ORIGIN = re.compile(r"[!-~]{1,255}")

_Made = TypeVar("_Made")
_Attributes = Mapping[str, object]


def translate(message: Message, context: Context) -> Translation:
    """Translate a message with one event or a batch of them.

    :raises Refused: it is none, or one of its events is not of the form; then none is stored.
    """

    def make(item: object) -> NewEvent:
        return _made(_checked(_members(item)), message.principal, context.rules)

    mode = _mode(message)
    if mode == BINARY:
        events = [_made(_checked(_of_headers(message.headers)), message.principal, context.rules)]
    else:
        events = _each(_items(message, mode), make)
    return Translation(group=Group(events=events, keys_decide=True) if events else None)


def decoded(message: Message) -> Sequence[object]:
    """Return the events as JSON objects of `json_format.decode`, whatever the mode, for a mapping.

    The attributes are members, and so is `data`: as JSON where it is JSON, as text where it is UTF-8. Other
    data is in `data_base64`.

    :raises Refused: as from `translate`; also for data that is not of its type.
    """
    mode = _mode(message)
    if mode != BINARY:
        return _each(_items(message, mode), _with_data)
    attributes = _checked(_of_headers(message.headers))
    item = decode(json.dumps(attributes).encode())
    assert isinstance(item, list)
    if message.body:
        item.append(_data(message.body, attributes))
    return [item]


def key(attributes: Mapping[str, object], principal: str) -> str:
    """Return the idempotency key of an event; the name of the hook plays no part in it."""
    return event_key(NAME, principal, str(attributes["source"]), str(attributes["id"]))


def handshake(message: Message) -> Answer:
    """Answer OPTIONS, by which a sender asks whether it may send (CloudEvents' HTTP webhooks, section 4).

    Who may send is decided at each delivery, so any origin and rate are allowed.

    :raises Refused: the origin is not one.
    """
    headers = {"Allow": "OPTIONS, POST"}
    origin = message.headers.get("webhook-request-origin")
    if origin is not None:
        if not _ORIGIN.fullmatch(origin):
            raise Refused(f"WebHook-Request-Origin: expected a name, got {quoted(origin)}", reason="syntax")
        headers["WebHook-Allowed-Origin"] = origin
        headers["WebHook-Allowed-Rate"] = "*"
    return Answer(body=b"", headers=headers)


# ---- modes


def _mode(message: Message) -> str:
    """Return BINARY, STRUCTURED or BATCH."""
    kind = message.headers.get("content-type", "")
    media = _media(kind)
    if media.startswith(MEDIA):
        if media not in (STRUCTURED, BATCH):
            raise _wrong_type(f"expected {STRUCTURED} or {BATCH}, got {quoted(media)}")
        charset = re.search(r";\s*charset\s*=\s*\"?([^\s;\"]+)", kind, re.IGNORECASE)
        if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
            raise _wrong_type(f"expected charset=utf-8, got {quoted(charset[1])}")
        return media
    if BINARY not in message.headers:
        raise _wrong_type(f"expected {STRUCTURED}, {BATCH}, or another one with the header {BINARY}")
    return BINARY


def _wrong_type(text: str) -> Refused:
    return Refused(f"Content-Type: {text}", reason="type", status=415)


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _items(message: Message, mode: str) -> Sequence[object]:
    """Return the decoded events of a body, not checked."""
    body = decode_body(message.body)
    if mode == STRUCTURED:
        return [body]
    if not isinstance(body, list) or is_object(body):
        raise Refused("a batch is a JSON array of events", reason="syntax")
    if len(body) > MAX_EVENTS:
        text = f"there are {len(body)} events in the batch, more than {MAX_EVENTS}"
        raise Refused(text, reason="limit", status=413)
    return body


def _each(items: Sequence[object], make: Callable[[object], _Made]) -> list[_Made]:
    """Make something of each item.

    :raises Refused: names the bad ones; its reason is that of the first.
    """
    if len(items) == 1:
        return [make(items[0])]
    made: list[_Made] = []
    faults: list[Refused] = []
    texts: list[str] = []
    for number, item in enumerate(items, 1):
        try:
            made.append(make(item))
        except Refused as refused:
            faults.append(refused.with_traceback(None))
            if len(texts) < MAX_NAMED:
                texts.append(f"event {number}: {refused.text}")
    if faults:
        if len(faults) > len(texts):
            texts.append(f"and {len(faults) - len(texts)} more")
        raise Refused("; ".join(texts), reason=faults[0].reason, status=faults[0].status)
    return made


# ---- attributes


def _members(item: object) -> _Attributes:
    """Return the members of an event of the structured mode by name; a null is none."""
    if not isinstance(item, list) or not is_object(item):
        raise Refused("an event is a JSON object", reason="syntax")
    members: dict[str, object] = {}
    for name, value in item:
        if name in members:
            raise Refused(f"{quoted(name)} is given twice", reason="syntax")
        members[name] = value
    if "data" in members and members.get("data_base64") is not None:
        raise Refused("data and data_base64: expected one of them, got both", reason="syntax")
    return members


def _of_headers(headers: Mapping[str, str]) -> _Attributes:
    """Return the attributes of an event of the binary mode."""
    found: dict[str, object] = {}
    for header, value in headers.items():
        name = header.removeprefix(_PREFIX)
        # Its type is in Content-Type, and data is no attribute.
        if name != header and _ATTRIBUTE.fullmatch(name) and name not in ("datacontenttype", "data"):
            found[name] = _header_text(header, value)
    if kind := headers.get("content-type"):
        found["datacontenttype"] = kind
    return found


def _header_text(header: str, value: str) -> str:
    """Decode the value of a header: a quoted string of earlier versions, then percent escapes.

    HTTP protocol binding, section 3.1.3.2.
    """
    text = value.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError:
        raise Refused(f"{header}: {quoted(text)} is not UTF-8", reason="encoding") from None


def _checked(attributes: _Attributes) -> _Attributes:
    """Return the attributes.

    :raises Refused: one that is needed is missing, or one has not its type.
    """
    for name in _TEXTS:
        value = attributes.get(name)
        if value is None:
            if name in REQUIRED:
                raise Refused(f"{name} is missing", reason="syntax")
            continue
        if type(value) is not str:  # a JSON number is a subclass of it
            raise Refused(f"{name}: expected a text, got {_kind(value)}", reason="syntax")
        if not value and name in REQUIRED:
            raise Refused(f"{name} is empty", reason="syntax")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused(f"{name} has half of a surrogate pair in it", reason="encoding") from None
    if attributes["specversion"] != VERSION:
        text = f"specversion: expected {VERSION}, got {quoted(str(attributes['specversion']))}"
        raise Refused(text, reason="syntax")
    return attributes


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "an object" if is_object(value) else "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"the number {quoted(str(value))}"


def _made(attributes: _Attributes, principal: str, rules: Rules) -> NewEvent:
    """Return the event with the usual labels."""
    labels = [(name, str(attributes.get(name) or "")) for name in LABELS]
    time = str(attributes.get("time") or "")[:MAX_TIME]
    made = event([*labels, *fitted({"time": time})], rules)
    return made._replace(key=key(attributes, principal))


# ---- data, for a mapping


def _with_data(item: object) -> object:
    """Return an event of the structured mode with its `data`, where that was in Base64."""
    attributes = _checked(_members(item))
    encoded = attributes.get("data_base64")
    if encoded is not None:
        if type(encoded) is not str:
            raise Refused(f"data_base64: expected a text, got {_kind(encoded)}", reason="syntax")
        try:
            data = binascii.a2b_base64(encoded.encode("ascii"), strict_mode=True)
        except ValueError:  # binascii.Error, UnicodeEncodeError
            raise Refused("data_base64 is not Base64", reason="encoding") from None
        name, value = _data(data, attributes)
        if name == "data":
            assert isinstance(item, list)
            item.append((name, value))
    return item


def _data(data: bytes, attributes: _Attributes) -> tuple[str, object]:
    """Return the data of an event as a member of its JSON object.

    :raises Refused: its type is JSON, and it is not.
    """
    kind = _media(str(attributes.get("datacontenttype") or ""))
    if kind.endswith(("/json", "+json")):
        return "data", decode_body(data)
    try:
        return "data", data.decode()
    except UnicodeDecodeError:
        return "data_base64", binascii.b2a_base64(data, newline=False).decode("ascii")
