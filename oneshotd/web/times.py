"""Points in time as people write and read them: RFC 3339, and Unix milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MS = re.compile(r"[0-9]{1,15}")
# RFC 3339 section 5.6; a space where a sign can stand is a + that a client forgot to escape.
_DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?:([Zz])|([+ -])(\d\d:\d\d))", re.ASCII
)


def rfc3339(ms: int) -> str:
    """``2026-11-22T22:15:00.250Z``, of Unix milliseconds."""
    return (_EPOCH + ms * _MILLISECOND).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def moment(text: str) -> int:
    """Unix milliseconds, of digits that are just that or of a date and time with its offset.

    What is finer than a millisecond is cut off.

    :raises ValueError: "expected …, got …".
    """
    if _MS.fullmatch(text):
        return int(text)
    found = _DATE_TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        date, time, zulu, sign, offset = found.groups()
        zone = "+00:00" if zulu else ("-" if sign == "-" else "+") + offset
        whole, _, fraction = time.partition(".")
        then = datetime.fromisoformat(f"{date}T{whole}{zone}")
        return (then - _EPOCH) // _MILLISECOND + int(fraction[:3].ljust(3, "0"))
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected Unix milliseconds or a time such as 2026-11-22T22:15:00Z, got {text[:80]!a}"
        ) from None
