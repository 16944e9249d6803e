"""Read the members of JSON objects that another tool has sent, with their types checked.

A member that is missing or null is empty: senders leave out what they do not know. A member of another type
is refused, and the refusal names its place as a JSON pointer (RFC 6901).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from attrs import frozen

from oneshotd.core.parsing import json_format
from oneshotd.core.parsing.formats import MAX_EVENTS
from oneshotd.core.parsing.grammar import quoted
from oneshotd.errors import Refused

_WHOLE = re.compile(r"[0-9]{1,18}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@frozen
class JSONObject:
    """A JSON object.

    :param at: its place in the text, as a JSON pointer.
    """

    members: Mapping[str, object]
    at: str = ""

    def has(self, name: str) -> bool:
        """Return whether there is such a member, and it is not null."""
        return self.members.get(name) is not None

    def text(self, name: str) -> str:
        """Return a string; a number or boolean as it is written; "" where there is none."""
        return _text(self.members.get(name), self._place(name))

    def needed(self, name: str) -> str:
        """Return a text that may not be empty."""
        text = self.text(name)
        if not text:
            raise Refused(f"expected a text at {self._place(name)}, got none", reason="syntax")
        return text

    def number(self, name: str) -> str | None:
        """Return a number in the digits it was sent in; None where there is none."""
        value = self.members.get(name)
        if value is not None and not _is_number(value):
            raise _unexpected("a number", value, self._place(name))
        return cast("str | None", value)

    def whole(self, name: str) -> int:
        """Return a whole number that is not negative; 0 where there is none."""
        text = self.number(name) or "0"
        if not _WHOLE.fullmatch(text):
            where = self._place(name)
            raise Refused(f"expected a whole number at {where}, got {quoted(text)}", reason="syntax")
        return int(text)

    def flag(self, name: str) -> bool:
        """Return a boolean; False where there is none."""
        value = self.members.get(name)
        if value is not None and not isinstance(value, bool):
            raise _unexpected("true or false", value, self._place(name))
        return bool(value)

    def object(self, name: str) -> JSONObject:
        """Return an object; an empty one where there is none."""
        value = self.members.get(name)
        return JSONObject({}, self._place(name)) if value is None else _object(value, self._place(name))

    def objects(self, name: str) -> Sequence[JSONObject]:
        """Return an array of objects; an empty one where there is none."""
        value, place = self.members.get(name), self._place(name)
        if value is None:
            return []
        if not _is_array(value):
            raise _unexpected("an array", value, place)
        return _objects(cast(Sequence[object], value), place)

    def texts(self) -> Mapping[str, str]:
        """Return all members, each as a text."""
        return {name: _text(value, self._place(name)) for name, value in self.members.items()}

    def _place(self, name: str) -> str:
        return f"{self.at}/{name.replace('~', '~0').replace('/', '~1')}"


def read_object(body: bytes) -> JSONObject:
    """Read a body that is one JSON object.

    :raises Refused: it is not.
    """
    return _object(json_format.decode_body(body), "")


def read_objects(body: bytes) -> tuple[Sequence[JSONObject], bool]:
    """Read a body that is a JSON object, or an array of objects; also return whether it is an array.

    :raises Refused: it is neither.
    """
    value = json_format.decode_body(body)
    if _is_array(value):
        return _objects(cast(Sequence[object], value), ""), True
    return [_object(value, "")], False


def _object(value: object, place: str) -> JSONObject:
    if not json_format.is_object(value):
        raise _unexpected("an object", value, place)
    members: dict[str, object] = {}
    for name, member in cast(Iterable[tuple[str, object]], value):
        if name in members:
            raise Refused(f"{quoted(name)} is given twice at {_shown(place)}", reason="syntax")
        members[name] = member
    return JSONObject(members, place)


def _objects(values: Sequence[object], place: str) -> Sequence[JSONObject]:
    if len(values) > MAX_EVENTS:
        raise Refused(
            f"there are more than {MAX_EVENTS} items at {_shown(place)}", reason="limit", status=413
        )
    return [_object(value, f"{place}/{number}") for number, value in enumerate(values)]


def _text(value: object, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise _unexpected("a text", value, place)
    if _SURROGATE.search(value):
        raise Refused(f"half of a surrogate pair is in the text at {_shown(place)}", reason="encoding")
    return str(value)


def _unexpected(expected: str, value: object, place: str) -> Refused:
    return Refused(f"expected {expected} at {_shown(place)}, got {_kind(value)}", reason="syntax")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a number" if _is_number(value) else "a string"
    return "an array" if _is_array(value) else "an object"


def _is_number(value: object) -> bool:
    """The decoder gives numbers as a subclass of str, in their own digits."""
    return isinstance(value, str) and type(value) is not str


def _is_array(value: object) -> bool:
    return isinstance(value, list) and not json_format.is_object(value)


def _shown(place: str) -> str:
    if not place:
        return "the top"
    return place if place.isprintable() and len(place) <= 200 else quoted(place)
