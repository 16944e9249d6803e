"""Datagrams with more lines than are looked at."""

from __future__ import annotations

import pytest

from oneshotd.core.parsing.formats import MAX_DATAGRAM_LINES, Rules, line_count, parse_datagram


@pytest.mark.parametrize("beyond", [-1, 0, 1, 5000])
@pytest.mark.parametrize(("line", "good"), [(b"a=b", True), (b"a", False)])
def test_lines_beyond_the_limit_are_counted_and_not_looked_at(line: bytes, good: bool, beyond: int) -> None:
    """One datagram would hold up everything else for a quarter of a second; and no line is lost
    without being counted."""
    lines = MAX_DATAGRAM_LINES + beyond
    data = b"\n \r\n".join([line] * lines)  # blank lines are none
    events, refusals = parse_datagram(data, rules=Rules())
    reasons = [refused.reason for refused in refusals]
    looked_at = min(lines, MAX_DATAGRAM_LINES)
    assert len(events) == (looked_at if good else 0)
    assert reasons.count("limit") == max(0, beyond)
    assert reasons.count("syntax") == (0 if good else looked_at)
    assert line_count(data) == lines
