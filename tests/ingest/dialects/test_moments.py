"""Times as tools write them: Go, Ruby, protocol buffers."""

from __future__ import annotations

import pytest

from oneshotd.ingest.dialects.moments import nanoseconds, rfc3339, seconds_between

SECOND = 1_000_000_000


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
