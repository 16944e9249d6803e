"""Make a client's text safe to show on one line: in an answer, a log line or a page."""

from __future__ import annotations

#: Characters of the client's text that a refusal repeats.
MAX_QUOTED = 60


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
