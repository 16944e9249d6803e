"""Make a client's text safe to show on one line: in an answer, a log line or a page."""

from __future__ import annotations


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
