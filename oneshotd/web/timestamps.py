"""Reads and writes points in time: RFC 3339, Unix seconds and Unix milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999
_MS = re.compile(r"[0-9]{12,15}")
# `date +%s` and `time.time()`; as milliseconds, up to eleven digits would be the years 1970 to 1973.
_SECONDS = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,9}))?")
# RFC 3339 section 5.6; a space in the place of the sign is a + that the client did not escape.
_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?:([Zz])|([+ -])(\d\d:\d\d))", re.ASCII
)


def rfc3339(ms: int) -> str:
    """Return Unix milliseconds as ``2026-11-22T22:15:00.250Z``, limited to the years 1 to 9999."""
    ms = min(max(ms, _FIRST), _LAST)
    return (_EPOCH + ms * _MILLISECOND).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def moment(text: str) -> int:
    """Read Unix seconds or milliseconds, or a date and time with its offset; return Unix milliseconds.

    A number with at most eleven digits, or with a fraction, is in seconds. Fractions of a millisecond
    are cut off.

    :raises ValueError: "expected …, got …".
    """
    if _MS.fullmatch(text):
        return int(text)
    seconds = _SECONDS.fullmatch(text)
    if seconds is not None:
        return int(seconds[1]) * 1000 + _thousandths(seconds[2] or "")
    found = _DATE_TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        date, time, zulu, sign, offset = found.groups()
        zone = "+00:00" if zulu else ("-" if sign == "-" else "+") + offset
        whole, _, fraction = time.partition(".")
        then = datetime.fromisoformat(f"{date}T{whole}{zone}")
        return (then - _EPOCH) // _MILLISECOND + _thousandths(fraction)
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected Unix seconds, milliseconds or a time such as 2026-11-22T22:15:00Z, got {text[:80]!a}"
        ) from None


def _thousandths(fraction: str) -> int:
    return int(fraction[:3].ljust(3, "0"))
