"""Times as senders write them, without a clock."""

from __future__ import annotations

import math

from oneshotd.core.parsing.grammar import quoted
from oneshotd.errors import Refused

#: The end of the year 9999, Unix ms.
_END = 253_402_300_800_000

#: Digits of a number that are looked at: `float` takes a second for a million of them.
_MAX_DIGITS = 40


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


def rfc3339(ms: int) -> str:
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
