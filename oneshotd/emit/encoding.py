"""Encode an event as a line of the query-string form: ``type=deploy&version=1.2&value=3``."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from oneshotd.core.parsing.names import ALLOWED, foreign_character
from oneshotd.core.parsing.numbers import canonical

#: What a label's value may be in Python: True is ``true`` and None no label, as in JSON.
Label = str | int | float | bool | None
#: An event's value: a number, or a number's text.
Value = str | int | float | None

#: Names of texts that are kept beside the event begin so, and go on.
_DETAIL = "detail."
_NO_DETAIL = "detail. has no name after it, expected one such as detail.text"

#: Unreserved in RFC 3986 section 2.3; everything else is escaped.
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_ESCAPED = tuple(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256))


def line(pairs: Iterable[tuple[str, Label]], *, value: Value = None, id: str | None = None) -> bytes:
    """Return the line of an event, without a line end.

    Bytes of an argument that are not UTF-8 are sent as they are: the daemon refuses them.

    :param value: the sample's value; None: one occurrence.
    :param id: an idempotency key.
    :raises ValueError: a name is given twice or has characters that no label's name may have, the
        value is no number, or there are neither labels nor a value.
    """
    given: dict[str, str] = {}
    for name, label in pairs:
        _take(given, name, label)
    _take(given, "value", value)
    _take(given, "__id__", id)
    if "value" in given:
        try:
            canonical(given["value"])
        except ValueError as error:
            raise ValueError(f"value: {given['value']!r} {error}") from None
    if not given.keys() - {"__id__"}:
        raise ValueError("there is no event in it, expected a label such as type=deploy")
    return "&".join(f"{escaped(name)}={escaped(text)}" for name, text in given.items()).encode("ascii")


def _take(given: dict[str, str], name: str, label: Label) -> None:
    if label is None:
        return
    if not name:
        raise ValueError("a label's name is empty")
    if name == _DETAIL:
        raise ValueError(_NO_DETAIL)
    if (char := foreign_character(name)) is not None:
        raise ValueError(_foreign(name, char))
    if name in given:
        raise ValueError(f"{name} is given twice")
    given[name] = str(label).lower() if isinstance(label, bool) else str(label)


def escaped(text: str) -> str:
    """Percent-escape all characters that are not unreserved."""
    return "".join(map(_ESCAPED.__getitem__, text.encode("utf-8", "surrogateescape")))


def fault(line: bytes) -> str | None:
    """Return why the daemon would refuse the form or the names of this line, or None.

    UDP senders check this, as datagrams have no answer. Only the daemon checks values.
    """
    for pair in line.removesuffix(b"\n").split(b"&"):
        raw, equals, _ = pair.partition(b"=")
        if not pair:
            continue
        if not equals:
            return f"{_shown(pair)} is not of the form name=value"
        try:
            name = unquote_to_bytes(raw.replace(b"+", b" ")).decode()
        except UnicodeDecodeError:
            return f"{_shown(raw)} is not UTF-8"
        if not name:
            return "a label's name is empty"
        if name == _DETAIL:
            return _NO_DETAIL
        if (char := foreign_character(name)) is not None:
            return _foreign(name, char)
    return None


def _foreign(name: str, char: str) -> str:
    return f"label {name[:60]!r}: {char!r} is none of {ALLOWED}"


def _shown(text: bytes) -> str:
    return repr(text[:60].decode("utf-8", "replace"))


def has_id(line: bytes) -> bool:
    """Return whether the line has an idempotency key (``__id__``)."""
    if b"__id__" not in line and b"%" not in line:
        return False
    return any(unquote_to_bytes(pair.partition(b"=")[0]) == b"__id__" for pair in line.split(b"&"))
