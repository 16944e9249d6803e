"""Make a client's text safe to show on one line: in an answer, a log line or a page."""

from __future__ import annotations

import re

#: Characters of the client's text that a refusal repeats.
MAX_QUOTED = 60

#: The beginning of a path whose rest names a check of a ping, as it may be escaped, and a credential.
_SECRET = re.compile(
    r"((?:/|%2f)(?:p|%70)(?:(?:i|%69)(?:n|%6e)(?:g|%67))?(?:/|%2f))\S*[^\s\"]", re.ASCII | re.IGNORECASE
)


def quoted(text: str) -> str:
    """Quote a client's text for a refusal: short, on one line, control characters escaped."""
    return repr(text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…")


def escape_unprintable(text: str) -> str:
    r"""Return the text with each unprintable character as a Python escape (``\n``, ``\x1b``, ``\u202e``).

    These are control characters, line ends, blanks other than the space, direction overrides and
    lone surrogates: they end a line, move a terminal's cursor, reorder a label or are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def without_secrets(line: str) -> str:
    """Return a line of a log with ``…`` in the place of what is behind ``/ping/`` and ``/p/`` in its URLs."""
    return _SECRET.sub(r"\1…", line)
