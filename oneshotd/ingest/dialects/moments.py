"""Points in time as other tools write them: RFC 3339, and Ruby's ``2026-11-28 16:00:00 UTC``.

They are only compared with each other and kept as text: the time of an event is that of its acceptance.
"""

from __future__ import annotations

import re
from calendar import timegm

from oneshotd.core.parsing.numbers import canonical

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?\d{0,9} ?(?:(Z|z|UTC)|([+-]\d\d):?(\d\d))", re.ASCII
)
_BILLION = 1_000_000_000


def rfc3339(text: str) -> str:
    """Return the time as RFC 3339 writes it; what is no time unchanged; Go's zero time as ""."""
    found = _TIME.fullmatch(text)
    if found is None:
        return text
    date, time, fraction, zulu, hours, minutes = found.groups()
    if date.startswith("0001"):
        return ""
    return f"{date}T{time}{fraction or ''}{'Z' if zulu else f'{hours}:{minutes}'}"


def nanoseconds(text: str) -> int | None:
    """Return the time as Unix nanoseconds; None for what is no time, or before 1970 (Go's zero time)."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    date, time, fraction, _, hours, minutes = found.groups()
    numbers = [int(part) for part in (*date.split("-"), *time.split(":"))]
    try:
        seconds = timegm((*numbers,))
    except ValueError:  # a month or a year that there is not
        return None
    if hours is not None:
        offset = int(hours[1:]) * 3600 + int(minutes) * 60
        seconds += offset if hours[0] == "-" else -offset
    whole = seconds * _BILLION + int((fraction or ".")[1:].ljust(9, "0"))
    return whole if whole > 0 else None


def seconds_between(start: str, end: str) -> str | None:
    """Return the seconds from one time to another as a sample's value.

    :return: None if one of the times is not known, or the end is before the start.
    """
    begun, ended = nanoseconds(start), nanoseconds(end)
    if begun is None or ended is None or ended < begun:
        return None
    return canonical(f"{(ended - begun) / _BILLION:.3f}")
