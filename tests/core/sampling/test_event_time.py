"""Samples with the time of their event: on failure, a scraper drops some, or counts some twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from oneshotd.core.events import Pending, Sample
from oneshotd.core.exposition import STAMP_SIZE, head_size, line_size, openmetrics, text
from oneshotd.core.sampling.event_time import MAX_AHEAD, SAFE_AGE, plan_event_time, shown_after
from oneshotd.core.sampling.plan import Caps

A, B, C = 'e{x="a"}', 'e{x="b"}', "other"
NOW = 1_700_000_000_000
EDGE = NOW - SAFE_AGE

# A row is (series, value, ms after NOW); what is shown is (series, value, ms after NOW)
Row = tuple[str, str | None, int]
Shown = list[tuple[str, str, int]]


def pending(rows: Sequence[Row], owed: int = 0, **facts: Any) -> Pending:
    """Rows with seqs 1, 2, …"""
    seqs = range(1, len(rows) + 1)
    facts = {"owed_total": owed, "cursor": owed, "end": len(rows)} | facts
    return Pending(
        seqs=seqs,
        series=[series for series, _, _ in rows],
        values=[value for _, value, _ in rows],
        ats=[NOW + after for _, _, after in rows],
        owed=owed,
        **facts,
    )


def samples(shown: Shown) -> list[Sample]:
    return [Sample(series, value, NOW + after) for series, value, after in shown]


# What is pending, what goes to a scraper that takes several samples of a series, what to one that
# does not, and which seqs then wait
WALKS: list[Any] = [
    pytest.param([], [], [], [], id="nothing pending, nothing sent"),
    pytest.param(
        [(A, None, -30), (A, None, -20), (A, None, -10)],
        [(A, "1", -30), (A, "1", -20), (A, "1", -10)],
        [(A, "3", -10)],
        [],
        id="a burst: each at its time, or their count at the time of the last",
    ),
    pytest.param(
        [(A, "7", -30), (A, "7", -20), (A, None, -10)],
        [(A, "7", -30), (A, "7", -20), (A, "1", -10)],
        [(A, "7", -30)],
        [2, 3],
        id="values: each at its time, or one after another",
    ),
    pytest.param(
        [(A, None, -30), (A, None, -20), (A, "7", -10), (A, None, -5)],
        [(A, "1", -30), (A, "1", -20), (A, "7", -10), (A, "1", -5)],
        [(A, "2", -20)],
        [3, 4],
        id="a value ends a count",
    ),
    pytest.param(
        [(A, None, -30), (C, "7", -25), (B, None, -20), (A, None, -10)],
        [(A, "1", -30), (A, "1", -10), (C, "7", -25), (B, "1", -20)],
        [(A, "2", -10), (C, "7", -25), (B, "1", -20)],
        [],
        id="the samples of a series stand together",
    ),
    pytest.param(
        [(A, None, MAX_AHEAD), (B, None, MAX_AHEAD + 1), (B, None, MAX_AHEAD + 2), (C, None, 0)],
        [(A, "1", MAX_AHEAD), (C, "1", 0)],
        [(A, "1", MAX_AHEAD), (C, "1", 0)],
        [2, 3],
        id="what is too far ahead of the clock waits, and other events go out",
    ),
    pytest.param(
        [(A, None, MAX_AHEAD), (A, None, MAX_AHEAD + 1)],
        [(A, "1", MAX_AHEAD)],
        [(A, "1", MAX_AHEAD)],
        [2],
        id="a count does not reach beyond the horizon",
    ),
    pytest.param(
        [(A, None, -SAFE_AGE), (B, None, -SAFE_AGE - 1), (C, "7", -9 * SAFE_AGE)],
        [(A, "1", -SAFE_AGE), (B, "1", -SAFE_AGE), (C, "7", -SAFE_AGE)],
        [(A, "1", -SAFE_AGE), (B, "1", -SAFE_AGE), (C, "7", -SAFE_AGE)],
        [],
        id="what is older than the safe age is shown at its edge",
    ),
]


@pytest.mark.parametrize(("rows", "several", "one", "waiting"), WALKS)
def test_walk(rows: list[Row], several: Shown, one: Shown, waiting: list[int]) -> None:
    """Each kind of scraper gets the samples of the table, and the other events wait."""
    seqs = set(range(1, len(rows) + 1))
    ahead = {seq for seq in seqs if rows[seq - 1][2] > MAX_AHEAD}
    for takes_several, shown, waits in ((True, several, ahead), (False, one, set(waiting))):
        planned = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=takes_several)
        assert list(planned.samples) == samples(shown)
        assert planned.newly_owed == sorted(waits)
        assert planned.ats == [NOW + rows[seq - 1][2] for seq in sorted(seqs - waits)]
        assert planned.cursor == len(rows)
        assert planned.latest == max((NOW + after for _, _, after in shown), default=0)


def test_late_events_keep_apart_and_in_order() -> None:
    """Of two samples at one time one is lost, and a descending one is dropped."""
    rows: list[Row] = [(A, "1", -9 * SAFE_AGE), (A, "2", -2 * SAFE_AGE), (B, None, -2 * SAFE_AGE)]
    rows += [(A, "3", -SAFE_AGE + 1), (A, "4", -SAFE_AGE + 9)]
    planned = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=True)
    assert planned.samples == [
        Sample(A, "1", EDGE),
        Sample(A, "2", EDGE + 1),
        Sample(A, "3", EDGE + 2),  # its own time is taken by the one before
        Sample(A, "4", EDGE + 9),
        Sample(B, "1", EDGE),
    ]
    assert planned.floor == EDGE + 3, "the next response begins after what was moved"


def test_late_events_that_are_counted_need_one_time() -> None:
    """A count of late events is at the edge, not as far behind it as there are events."""
    rows: list[Row] = [(A, None, -9 * SAFE_AGE + n) for n in range(50)]
    planned = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=False)
    assert (planned.samples, planned.floor) == ([Sample(A, "50", EDGE)], EDGE + 1)


@pytest.mark.parametrize("several", [True, False])
def test_no_sample_is_before_the_floor(several: bool) -> None:
    """Before the floor the scraper has samples already, and drops later ones that are older."""
    rows: list[Row] = [(A, None, -5_000), (B, "7", -4_000), (C, "8", -1_000)]
    planned = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=several, floor=NOW - 2_000)
    assert planned.samples == samples([(A, "1", -2_000), (B, "7", -2_000), (C, "8", -1_000)])
    assert planned.floor == NOW - 1_999


@pytest.mark.parametrize("floor", [0, NOW - 60_000])
def test_the_floor_stays_where_nothing_was_moved(floor: int) -> None:
    """A higher floor would move samples that were shown before: they would count twice."""
    rows: list[Row] = [(A, None, -5_000), (A, None, -4_000)]
    for some in (rows[:0], rows):
        planned = plan_event_time(pending(some), Caps(), now_ms=NOW, several=True, floor=floor)
        assert planned.floor == floor


def test_a_floor_in_the_future_is_waited_for() -> None:
    """The clock was set back: samples beyond the scraper's clock would be dropped."""
    rows: list[Row] = [(A, None, -5), (A, None, 0)]
    planned = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=True, floor=NOW + MAX_AHEAD)
    assert planned.samples == samples([(A, "1", MAX_AHEAD)])
    later = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=True, floor=NOW + MAX_AHEAD + 1)
    assert (later.samples, later.newly_owed, later.latest) == ([], [1, 2], 0)


def test_a_count_that_may_have_been_read_does_not_grow() -> None:
    """The response was returned, but perhaps read: 2 and then 3 would be 5 for 3 events."""
    rows: list[Row] = [(A, None, -30), (A, None, -20), (B, None, -20)]
    first = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=False)
    rows += [(A, None, -10), (A, None, -5), (C, None, -5), (C, None, -4)]
    shown = shown_after({}, first, delivered=False, now_ms=NOW)
    again = plan_event_time(pending(rows), Caps(), now_ms=NOW + 1000, several=False, shown=shown)
    assert again.samples == [*first.samples, *samples([(C, "2", -4)])]
    assert again.newly_owed == [4, 5]


def test_counts_that_may_have_been_read_are_remembered_until_they_arrive() -> None:
    """Later, a delivered count may start again, and an old one gets another time."""
    rows: list[Row] = [(A, None, -30), (A, None, -20), (B, None, -20), (C, "7", -20)]
    whole = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=False)
    part = plan_event_time(pending(rows), Caps(samples=1), now_ms=NOW, several=False)
    both = {A: NOW - 20, B: NOW - 20}
    assert shown_after({}, whole, delivered=False, now_ms=NOW) == both
    assert shown_after(both, part, delivered=False, now_ms=NOW) == both
    assert shown_after(both, part, delivered=True, now_ms=NOW) == {B: NOW - 20}
    assert shown_after(both, whole, delivered=True, now_ms=NOW) == {}
    assert shown_after(both, part, delivered=False, now_ms=NOW + SAFE_AGE - 20) == {}
    several = plan_event_time(pending(rows), Caps(), now_ms=NOW, several=True)
    assert shown_after({}, several, delivered=False, now_ms=NOW) == {}


def test_sample_cap_counts_every_sample_of_a_series() -> None:
    """`?limit=2`: a third sample would make Prometheus discard the whole response."""
    rows: list[Row] = [(A, None, -9), (A, None, -8), (A, None, -7)]
    planned = plan_event_time(pending(rows), Caps(samples=2), now_ms=NOW, several=True)
    assert (len(planned.samples), planned.cursor, planned.newly_owed) == (2, 2, [])
    counted = plan_event_time(pending(rows), Caps(samples=2), now_ms=NOW, several=False)
    assert (len(counted.samples), counted.cursor) == (1, 3)


@pytest.mark.parametrize("several", [True, False])
def test_byte_cap_counts_timestamps(several: bool) -> None:
    """The response fits into its cap in either format."""
    rows: list[Row] = [(A, "37.5", -9), (B, "1", -8), (C, "2", -7)]
    whole = head_size(A) + head_size(C) + sum(line_size(row[0], row[1] or "") + STAMP_SIZE for row in rows)
    planned = plan_event_time(pending(rows), Caps(bytes=whole), now_ms=NOW, several=several)
    assert (len(planned.samples), len(openmetrics(planned.samples))) == (3, whole)
    less = plan_event_time(pending(rows), Caps(bytes=whole - 1), now_ms=NOW, several=several)
    assert (len(less.samples), less.cursor) == (2, 2)


def test_owed_cap_stops_the_cursor() -> None:
    """A burst that is hours ahead of the clock would fill the scraper's owed events."""
    rows: list[Row] = [*((A, None, MAX_AHEAD + n) for n in range(5)), (B, None, 0)]
    planned = plan_event_time(pending(rows), Caps(owed=2), now_ms=NOW, several=True)
    assert (planned.cursor, planned.newly_owed) == (3, [2, 3])
    assert planned.samples == samples([(A, "1", MAX_AHEAD)])


def test_owed_events_come_first() -> None:
    """Owed events that still wait would be owed twice, or overtaken by events of the log."""
    rows: list[Row] = [(A, None, -5), (A, None, MAX_AHEAD + 1), (A, None, MAX_AHEAD + 2), (B, None, -1)]
    planned = plan_event_time(pending(rows, 2), Caps(), now_ms=NOW, several=True)
    assert planned.samples == samples([(A, "1", -5), (B, "1", -1)])
    assert (planned.went_out, planned.newly_owed, planned.cursor) == ([1], [3], 4)
    unread = plan_event_time(pending(rows, 2, owed_total=3), Caps(), now_ms=NOW, several=True)
    assert (unread.went_out, unread.newly_owed, unread.cursor) == ([1], [], 2)


def test_a_response_with_times_is_read_in_both_formats() -> None:
    """The formats would show different times."""
    planned = plan_event_time(pending([(A, "7", 5)]), Caps(), now_ms=NOW, several=True)
    assert text(planned.samples).endswith(b" 7 1700000000005\n")
    assert openmetrics(planned.samples).endswith(b" 7 1700000000.005\n")
