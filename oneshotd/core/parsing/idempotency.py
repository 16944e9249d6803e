"""The header ``Idempotency-Key``."""

from __future__ import annotations

import re

from oneshotd.core.parsing.grammar import checked_key, quoted
from oneshotd.errors import Refused

_QUOTED_KEY = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def idempotency_key(header: bytes) -> str:
    r"""Parse an ``Idempotency-Key`` header.

    A string of RFC 8941, ``"…"`` with ``\"`` and ``\\``, as draft-ietf-httpapi-idempotency-key
    asks; or bare, as many clients send it.

    :raises Refused: empty, too long, badly quoted, not UTF-8, or with a control character.
    """
    try:
        text = header.decode().strip(" \t")
    except UnicodeDecodeError:
        raise Refused("Idempotency-Key is not UTF-8", reason="encoding") from None
    if text.startswith('"'):
        found = _QUOTED_KEY.fullmatch(text)
        if found is None:
            raise Refused(f"Idempotency-Key: {quoted(text)} is not a quoted string", reason="key")
        text = re.sub(r"\\(.)", r"\1", found[1])
    if _CONTROL.search(text):
        raise Refused(f"Idempotency-Key: {quoted(text)} has a control character", reason="key")
    return checked_key("Idempotency-Key", text)
