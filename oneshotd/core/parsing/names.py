"""The characters of a label's name, for the daemon and for the emitter.

Tools write names with letters of any script, digits and ``_ - . / :``. Scrapers accept fewer
characters, so the grammar replaces the others of these by ``_``. A name with any other character is
the start of a line in another format (syslog, StatsD ...): each such line would create a series,
often with a new label name each second.
"""

from __future__ import annotations

import re

#: Bytes of a label's name as it is exposed. VictoriaMetrics takes 256, Mimir 1024.
MAX_NAME_BYTES = 128

#: How a refusal calls the allowed characters.
ALLOWED = "letters, digits and _ - . / :"

_UNUSUAL = re.compile(r"[^a-zA-Z0-9_./:-]")


def foreign_character(name: str) -> str | None:
    """Return the first character that no label's name may have, or None.

    Only as much of a longer name is looked at as a name may have.
    """
    for char in _UNUSUAL.findall(name[: MAX_NAME_BYTES + 1]):
        if not (char.isalpha() or char.isdecimal() or _is_mark(char)):
            return str(char)
    return None


def _is_mark(char: str) -> bool:
    """Whether this is a combining mark, as in many scripts and in macOS' decomposed accents."""
    if char.isascii():
        return False
    import unicodedata  # here: the emitter starts without it

    return unicodedata.category(char).startswith("M")
