"""Statements that the server plans once a connection, and their values as text.

Several of them are one message of the simple protocol, `EXECUTE s1(…); EXECUTE s2(…)`. With values as
parameters of the extended protocol, the server would begin the first one before it has the others: a daemon
that stops meanwhile would hold the locks of the first one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from attrs import frozen

#: Values of a statement; None: it is sent as it is, and not prepared.
Values = Sequence[Any] | Mapping[str, Any] | None

_PLACE = re.compile(r"%\((\w+)\)s|%s")


@frozen
class Statement:
    """A statement with its places as the server counts them.

    :param text: with $1, $2, …
    :param names: of the places, in this order; empty if they have no names.
    """

    text: str
    names: tuple[str, ...]

    def call(self, name: str, values: Sequence[Any] | Mapping[str, Any]) -> bytes:
        """Return the statement that executes it, prepared under this name, with values."""
        if isinstance(values, Mapping):
            values = [values[each] for each in self.names]
        if not values:
            return b"EXECUTE " + name.encode()
        return b"EXECUTE %b(%b)" % (name.encode(), b",".join([literal(value) for value in values]))


@lru_cache(maxsize=256)
def statement(query: str) -> Statement:
    """Return a statement that was written with places such as ``%s`` or ``%(name)s``."""
    names: dict[str, int] = {}
    count = 0

    def place(match: re.Match[str]) -> str:
        nonlocal count
        if match[1] is None:
            count += 1
            return f"${count}"
        return f"${names.setdefault(match[1], len(names) + 1)}"

    return Statement(_PLACE.sub(place, query), tuple(names))


def literal(value: object) -> bytes:
    """Return a value as SQL, given ``standard_conforming_strings``.

    Bytes that are a text are written as one: half as long as in hexadecimal digits.

    :raises ValueError: a text with U+0000, which PostgreSQL cannot have.
    """
    if value is None:
        return b"NULL"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a text for PostgreSQL has a character U+0000")
        return b"'%b'" % value.encode().replace(b"'", b"''")
    if isinstance(value, bytes):
        if b"\0" in value or not _is_text(value):
            return b"'\\x%b'" % value.hex().encode()
        return b"'%b'" % value.replace(b"\\", b"\\\\").replace(b"'", b"''")
    if isinstance(value, Sequence):
        return _array(value)
    raise TypeError(f"no literal for {type(value).__name__}")


def _is_text(value: bytes) -> bool:
    if value.isascii():
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


_ARRAYS = {bytes: b"bytea[]", str: b"text[]", bool: b"boolean[]", int: b"bigint[]"}


def _array(values: Sequence[object]) -> bytes:
    if not values:
        return b"'{}'"
    return b"ARRAY[%b]::%b" % (b",".join([literal(each) for each in values]), _ARRAYS[type(values[0])])
