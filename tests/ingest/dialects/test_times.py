"""Times of senders: read as numbers, kept as RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.errors import Refused
from oneshotd.ingest.dialects.times import nanoseconds, rfc3339, rfc3339_of_ms, seconds_between, unix_ms

SECOND = 1_000_000_000


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_written_as_a_calendar_has_it(ms: int) -> None:
    """A wrong date beside an event would be believed."""
    known = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert rfc3339_of_ms(ms) == f"{int(known[:4]):04d}{known[4:]}.{ms % 1000:03d}Z"


@pytest.mark.parametrize(
    "day", ["2000-02-29", "1999-12-31", "2024-03-01", "2100-02-28", "1970-01-01", "9999-12-31"]
)
def test_days_at_the_edges_of_months_and_years(day: str) -> None:
    ms = int(datetime.fromisoformat(f"{day}T23:59:59+00:00").timestamp()) * 1000
    assert rfc3339_of_ms(ms) == f"{day}T23:59:59.000Z"


@pytest.mark.parametrize(
    ("text", "unit", "ms"),
    [
        ("1507037197339", 1, 1507037197339),
        ("1467844481", 1000, 1467844481000),
        ("1467844481.25", 1000, 1467844481250),
        ("1.467844481e9", 1000, 1467844481000),
        ("0", 1, 0),
    ],
)
def test_numbers(text: str, unit: int, ms: int) -> None:
    assert unix_ms("when", text, unit) == ms


@pytest.mark.parametrize(
    "text", ["", "now", "-1", "nan", "inf", "1e400", "1_000", "١", "9" * 1_000_000, "253402300800000"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^when: expected milliseconds since 1970, got '"):
        unix_ms("when", text, 1)


@pytest.mark.parametrize(
    ("text", "at", "written"),
    [
        ("2026-11-28T16:00:00Z", 1795881600 * SECOND, "2026-11-28T16:00:00Z"),
        ("2026-11-28t16:00:00.25z", 1795881600 * SECOND + 250_000_000, "2026-11-28T16:00:00.25Z"),
        ("2026-11-28T16:00:00.123456789Z", 1795881600 * SECOND + 123_456_789, None),
        ("2026-11-28T17:00:00+01:00", 1795881600 * SECOND, "2026-11-28T17:00:00+01:00"),
        ("2026-11-28T12:30:00-03:30", 1795881600 * SECOND, "2026-11-28T12:30:00-03:30"),
        ("2026-11-28 16:00:00 UTC", 1795881600 * SECOND, "2026-11-28T16:00:00Z"),
        ("2026-11-28 17:00:00 +0100", 1795881600 * SECOND, "2026-11-28T17:00:00+01:00"),
        ("2024-02-29T00:00:00Z", 1709164800 * SECOND, None),
        ("0001-01-01T00:00:00Z", None, ""),  # Go's zero time
        ("1969-12-31T23:59:59Z", None, None),
        ("2026-13-01T00:00:00Z", None, None),
        ("2026-11-28T16:00:00", None, None),
        ("2026-11-28", None, None),
        ("1795881600", None, None),
        ("soon", None, None),
        ("", None, None),
        ("٢026-11-28T16:00:00Z", None, None),
    ],
)
def test_a_time_is_read_and_written(text: str, at: int | None, written: str | None) -> None:
    """A length would be wrong by hours, or a page would show a time that readers cannot parse.

    :param written: None: as it was.
    """
    assert nanoseconds(text) == at
    assert rfc3339(text) == (text if written is None else written)


@pytest.mark.parametrize(
    ("start", "end", "value"),
    [
        ("2026-11-28T16:00:00Z", "2026-11-28T16:02:05Z", "125"),
        ("2026-11-28T16:00:00.25Z", "2026-11-28T16:00:00.5Z", "0.25"),
        ("2026-11-28T16:00:00Z", "2026-11-28T17:00:01+01:00", "1"),
        ("2026-11-28T16:00:00Z", "2026-11-28T16:00:00Z", "0"),
        ("2026-11-28T16:00:01Z", "2026-11-28T16:00:00Z", None),
        ("2026-11-28T16:00:00Z", "0001-01-01T00:00:00Z", None),
        ("", "2026-11-28T16:00:00Z", None),
        ("2026-11-28T16:00:00Z", "", None),
    ],
)
def test_seconds_are_between_two_known_times(start: str, end: str, value: str | None) -> None:
    """An alert would have fired for a negative time, or since the year 1."""
    assert seconds_between(start, end) == value
