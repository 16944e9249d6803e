"""The decisions of retention: which part of the log is cut, and what that costs each scraper."""

from __future__ import annotations

import pytest

from oneshotd.store.interface import Loss
from oneshotd.store.limits import Limits
from oneshotd.store.retention_rules import (
    Cut,
    SegmentEnd,
    cut_expired,
    cut_to_bounds,
    fits,
    is_expired,
    loss_of_removal,
    losses_of,
)

#: Four segments of 5 events and 100 bytes each, accepted at 10, 20, 30 and 40 ms of up-time.
SEGMENTS = [SegmentEnd(5 * n, 100 * n, 10 * n) for n in (1, 2, 3, 4)]
NOTHING = Cut()


@pytest.mark.parametrize(
    ("events", "size", "expected"), [(10, 200, True), (11, 200, False), (10, 201, False), (0, 0, True)]
)
def test_a_log_fits_within_both_bounds(events: int, size: int, expected: bool) -> None:
    assert fits(events, size, Limits(max_events=10, max_bytes=200)) is expected


@pytest.mark.parametrize(
    ("max_events", "max_bytes", "reserved", "horizon"),
    [
        (15, 1000, None, 5),
        (14, 1000, None, 10),
        (10, 1000, None, 10),
        (4, 1000, None, 20),
        (100, 300, None, 5),
        (100, 299, None, 10),
        (10, 100, None, 15),
        (10, 1000, 10, 10),
        (10, 1000, 9, 5),  # the delivery may fall back into the second segment
        (10, 1000, 4, 0),
        (10, 1000, 0, 0),
    ],
)
def test_a_log_beyond_its_bounds_is_cut_until_it_fits(
    max_events: int, max_bytes: int, reserved: int | None, horizon: int
) -> None:
    """A disk would fill up, or the events of a delivery in flight would be deleted."""
    limits = Limits(max_events=max_events, max_bytes=max_bytes)
    cut = cut_to_bounds(SEGMENTS, head=20, total_size=400, reserved=reserved, limits=limits)
    assert cut == Cut(horizon, 20 * horizon, horizon // 5)


def test_no_more_segments_are_read_than_are_cut() -> None:
    """A commit to a full log would walk the whole log."""
    segments = iter(SEGMENTS)
    limits = Limits(max_events=15)
    assert cut_to_bounds(segments, head=20, total_size=400, reserved=None, limits=limits).segments == 1
    assert list(segments) == SEGMENTS[1:]


@pytest.mark.parametrize(
    ("cutoff", "cursors", "reserved", "horizon"),
    [
        (0, (), None, 0),
        (10, (), None, 0),
        (11, (), None, 5),
        (31, (), None, 15),
        (99, (), None, 20),
        (99, (20, 12), None, 10),
        (99, (10,), None, 10),
        (99, (9,), None, 5),
        (99, (0, 20), None, 0),
        (99, (20,), 15, 15),
        (99, (), 14, 10),
    ],
)
def test_expired_segments_are_cut_unless_a_scraper_needs_them(
    cutoff: int, cursors: tuple[int, ...], reserved: int | None, horizon: int
) -> None:
    """A scraper that is late would miss events, or the log would never shrink."""
    cut = cut_expired(SEGMENTS, cutoff=cutoff, head=20, cursors=cursors, reserved=reserved)
    assert cut == Cut(horizon, 20 * horizon, horizon // 5)


def test_an_empty_log_is_not_cut() -> None:
    limits = Limits(max_events=0)
    assert cut_to_bounds([], head=0, total_size=0, reserved=None, limits=limits) == NOTHING
    assert cut_expired([], cutoff=99, head=0, cursors=(), reserved=None) == NOTHING


def test_each_scraper_loses_what_it_had_not_read() -> None:
    """A loss that is not counted looks like a delivery."""
    cursors = {"all": 20, "up to the cut": 10, "half": 7, "nothing": 0}
    assert losses_of(Cut(10, 200, 2), cursors) == [
        Loss(scraper="half", reason="log full", events=3),
        Loss(scraper="nothing", reason="log full", events=10),
    ]
    assert losses_of(NOTHING, cursors) == []


@pytest.mark.parametrize(
    ("seen_up", "in_flight", "expected"),
    [(99, False, True), (100, False, False), (101, False, False), (99, True, False)],
)
def test_a_scraper_unseen_for_the_hold_is_removed(seen_up: int, in_flight: bool, expected: bool) -> None:
    assert is_expired(seen_up, 100, in_flight) is expected


def test_only_a_live_scraper_with_pending_events_loses_some_by_its_removal() -> None:
    assert loss_of_removal("p", True, 3) == Loss(scraper="p", reason="away", events=3)
    assert loss_of_removal("p", True, 0) is None
    assert loss_of_removal("192.0.2.7 curl", False, 3) is None
