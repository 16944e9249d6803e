"""Times of senders: read as numbers, kept as RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.errors import Refused
from oneshotd.ingest.dialects.times import rfc3339, unix_ms


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_written_as_a_calendar_has_it(ms: int) -> None:
    """A wrong date beside an event would be believed."""
    known = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert rfc3339(ms) == f"{int(known[:4]):04d}{known[4:]}.{ms % 1000:03d}Z"


@pytest.mark.parametrize(
    "day", ["2000-02-29", "1999-12-31", "2024-03-01", "2100-02-28", "1970-01-01", "9999-12-31"]
)
def test_days_at_the_edges_of_months_and_years(day: str) -> None:
    ms = int(datetime.fromisoformat(f"{day}T23:59:59+00:00").timestamp()) * 1000
    assert rfc3339(ms) == f"{day}T23:59:59.000Z"


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
