"""Find damage in series texts and times that the database itself accepts.

SQLite has no checksums. A flipped bit in a segment is noticed if it makes an invalid escape, which would
make a scraper reject the whole response, or a time that no calendar has; one in an event's detail if that
cannot be read any more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from oneshotd.core.events import details_of

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


def fault_in_detail(detail: object) -> str | None:
    """Return what is wrong with the detail of an event (`NewEvent.detail`); None if nothing."""
    if type(detail) is not str:
        return "is nonsense"
    try:
        details_of(detail)
    except ValueError:
        return "is no JSON object of texts"
    return None
