"""The figures from the times of scrapes: a wrong one misleads the operator about a scraper."""

from __future__ import annotations

import pytest

from oneshotd.core.visits import LAPSE_UNKNOWN, OVERLAP_SECONDS, OVERLAPS, habit_lasts, interval, is_shared


@pytest.mark.parametrize(
    ("visits", "seconds"),
    [((), None), ((5.0, 20.0), None), ((5.0, 20.0, 35.0), 15.0), ((0.0, 15.0, 30.0, 930.0), 15.0)],
)
def test_the_interval_is_the_median(visits: tuple[float, ...], seconds: float | None) -> None:
    """One pause of a scraper would show as its interval."""
    assert interval(visits) == seconds


def test_an_identity_is_shared_after_several_overlaps_within_a_time() -> None:
    """A scraper that lost its connection once would be reported as two."""
    overlaps = [10.0 * number for number in range(OVERLAPS)]
    assert is_shared(overlaps, 30.0)
    assert not is_shared(overlaps[1:], 30.0)
    assert not is_shared(overlaps, OVERLAP_SECONDS)


@pytest.mark.parametrize(("seconds", "lasts"), [(None, LAPSE_UNKNOWN), (1.0, 60.0), (60.0, 300.0)])
def test_the_habit_of_the_timeout_header_lasts_for_some_intervals(
    seconds: float | None, lasts: float
) -> None:
    """A person's curl would take the events of a scraper between two of its scrapes."""
    assert habit_lasts(seconds) == lasts
