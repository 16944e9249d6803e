"""Points in time as other tools write them: RFC 3339, Ruby's ``2026-11-28 16:00:00 UTC``, and numbers.

They are only compared with each other and kept as text: the time of an event is that of its acceptance.
"""

from __future__ import annotations

import math
import re
from calendar import timegm

from oneshotd.core.parsing.grammar import quoted
from oneshotd.core.parsing.numbers import canonical
from oneshotd.errors import Refused

#: The end of the year 9999, Unix ms.
_END = 253_402_300_800_000

#: Digits of a number that are looked at: `float` takes a second for a million of them.
_MAX_DIGITS = 40

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?\d{0,9} ?(?:(Z|z|UTC)|([+-]\d\d):?(\d\d))", re.ASCII
)
_BILLION = 1_000_000_000


def unix_ms(name: str, text: str, unit: int) -> int:
    """Return a number of milliseconds or seconds since 1970 as milliseconds.

    :param name: of the field, for the refusal.
    :param unit: milliseconds of the number's unit: 1 or 1000.
    :raises Refused: it is no number, or not before the year 10000.
    """
    try:
        number = float(text) if len(text) <= _MAX_DIGITS and text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number * unit < _END:
        what = "milliseconds" if unit == 1 else "seconds"
        raise Refused(f"{name}: expected {what} since 1970, got {quoted(text)}", reason="syntax")
    return int(number * unit)


def rfc3339_of_ms(ms: int) -> str:
    """Return Unix milliseconds as ``2026-11-22T22:15:00.250Z``.

    :param ms: from 1970 to 9999.
    """
    days, rest = divmod(ms, 86_400_000)
    # The years begin in March, so that the leap day is the last one.
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5 - 1
    year += era * 400 + (month >= 10)
    month += 3 if month < 10 else -9
    hour, minute, second = rest // 3_600_000, rest // 60_000 % 60, rest // 1000 % 60
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}.{rest % 1000:03d}Z"


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
