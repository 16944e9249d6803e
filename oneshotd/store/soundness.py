"""Find damage in series texts and times that the database itself accepts.

SQLite has no checksums. A flipped bit in a segment is noticed if it makes an invalid escape, which would
make a scraper reject the whole response, or a time that no calendar has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The last millisecond of the year 9999, where RFC 3339 ends.
LATEST_TIME = 253_402_300_799_999

_ESCAPE = re.compile(r'\\[\\n"]')


def fault_in(series: str, ats: Sequence[int]) -> str | None:
    """Return what is wrong with series texts, one per line, or with times (Unix ms); None if nothing."""
    if type(series) is not str or not {*map(type, ats)} <= {int}:
        return "is nonsense"  # SQLite gives back whatever type it finds
    if "\\" in series and "\\" in _ESCAPE.sub("", series):
        return "has an escape that is none"
    if ats and not 0 <= min(ats) <= max(ats) <= LATEST_TIME:
        return "has a time that is none"
    return None
