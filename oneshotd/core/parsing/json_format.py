"""The JSON forms of an event: a flat object -> its pairs.

The standard library's decoder made strict: ``NaN`` and half surrogates are refused, a name that is
given twice is noticed, and numbers keep their digits (no rounding, no costly long integers).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import NoReturn

from oneshotd.core.parsing import foreign
from oneshotd.core.parsing.grammar import Pair, quoted
from oneshotd.errors import Refused


class _Object(list[tuple[str, object]]):
    """A JSON object as its members in order: a dict would hide that a name was given twice."""


class _Number(str):
    """A JSON number in its own digits: no rounding, and no time spent on an integer of a million."""


def _no_number(literal: str) -> NoReturn:
    raise Refused(f"{literal} is not JSON; write it as a string", reason="syntax")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_Number, parse_float=_Number, parse_constant=_no_number
)


def decode(text: bytes) -> object:
    """Decode a text that is one JSON value.

    :raises Refused: the text is not JSON; names the format that it seems to have.
    """
    try:
        return _DECODER.decode(text.decode())
    except UnicodeDecodeError:
        raise Refused(f"the JSON is not UTF-8{_hint(text)}", reason="encoding") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        hint = _hint(text, joined=error.msg == "Extra data")
        raise Refused(f"not JSON: {error.msg} ({where}){hint}", reason="syntax") from None
    except RecursionError:
        raise Refused("the JSON is nested too deep", reason="syntax") from None


def decode_body(body: bytes) -> object:
    """Decode a body that another tool has sent; a byte order mark at its beginning is left out.

    :raises Refused: as from `decode`.
    """
    return decode(body.removeprefix(codecs.BOM_UTF8))


def _hint(text: bytes, joined: bool = False) -> str:
    """Return a hint if the text has the form of a common mistake, else "".

    :param joined: whether more text follows a JSON value.
    """
    if foreign.is_utf16(text):
        return f" (this looks like UTF-16; {foreign.SEE})"
    if not joined or text[:1] not in (b"{", b"["):
        return ""
    if b"\n" in text:
        return " (this looks like NDJSON, whose Content-Type is application/x-ndjson)"
    return " (objects without a line end between them: curl -d @FILE deletes it, --data-binary keeps it)"


def only_pairs(item: object) -> Iterator[Pair]:
    """Return the members of a flat JSON object that is the whole body, as `pairs` does.

    :raises Refused: also for an event of Graphite.
    """
    if isinstance(item, _Object):
        foreign.check_graphite(dict(item))
    return pairs(item)


def is_object(item: object) -> bool:
    """Return whether a decoded value is a JSON object."""
    return isinstance(item, _Object)


def pairs(item: object) -> Iterator[Pair]:
    """Return the members of a flat JSON object as pairs."""
    if not isinstance(item, _Object):
        raise Refused("not a JSON object", reason="syntax")
    for name, value in item:
        text: str | None
        if value is None or isinstance(value, str):
            text = value
        elif isinstance(value, bool):
            text = "true" if value else "false"
        else:
            why = "is nested: only flat objects are events"
            raise Refused(f"label {quoted(name)} {why}", reason="syntax")
        if name in ("__name__", "__id__") and text is not None and type(value) is not str:
            reason = "name" if name == "__name__" else "key"
            raise Refused(f"{name}: {quoted(text)} is not a string", reason=reason)
        try:
            f"{name}{text}".encode()
        except UnicodeEncodeError:
            where = f"label {quoted(name)}"
            raise Refused(f"{where} has half of a surrogate pair in it", reason="encoding") from None
        yield name, text
