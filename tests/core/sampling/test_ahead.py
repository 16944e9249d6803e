"""Series ahead of a corrected clock: on failure, samples are dropped as out of order, or never sent."""

from __future__ import annotations

from typing import Any

import pytest

from oneshotd.core.events import Pending, Sample
from oneshotd.core.sampling.ahead import CLOCK, Ahead
from oneshotd.core.sampling.mode import TimestampHistory, plan_next
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.scraper_features import Timestamps

A, B = 'e{x="a"}', 'e{x="b"}'
NOW = 1_700_000_000_000
HOLD = 3_600_000
EVENT_TIME = TimestampHistory(event_time=True)


def pending(*series: str, owed: int = 0) -> Pending:
    """Return events of a second ago, the first of them owed."""
    seqs = range(1, len(series) + 1)
    return Pending(
        seqs=seqs,
        series=series,
        values=[None] * len(series),
        ats=[NOW - 1000 + seq for seq in seqs],
        owed=owed,
        owed_total=owed,
        cursor=owed,
        end=len(series),
    )


def planned(rows: Pending, ahead: dict[str, int], **how: Any) -> Plan:
    given: dict[str, Any] = {
        "wanted": Timestamps.EVENT,
        "several": True,
        "history": EVENT_TIME,
        "now_ms": NOW,
    }
    given |= {"ahead": Ahead(times=ahead, hold_ms=HOLD)} | how
    return plan_next(rows, Caps(), shown={}, **given)[0]


@pytest.mark.parametrize("several", [False, True])
def test_events_of_a_series_that_is_ahead_wait_and_others_go_out(several: bool) -> None:
    plan = planned(pending(A, B, A), {A: NOW + 10_000}, several=several)
    assert plan.samples == [Sample(B, "1", NOW - 998)]
    assert (plan.newly_owed, plan.lost, plan.cursor) == ([1, 3], {}, 3)


def test_they_go_out_after_the_clock_and_later_than_the_last_sample() -> None:
    plan = planned(pending(A, A, owed=2), {A: NOW - 1})
    assert plan.samples == [Sample(A, "1", NOW), Sample(A, "1", NOW + 1)]
    assert (plan.went_out, plan.floor) == ([1, 2], NOW + 2)


def test_events_that_would_wait_longer_than_the_hold_are_lost() -> None:
    plan = planned(pending(A, B, A, B, owed=2), {A: NOW + HOLD + 1})
    assert [sample.series for sample in plan.samples] == [B, B]
    assert (plan.lost, plan.went_out, plan.newly_owed, plan.cursor) == ({CLOCK: [1, 3]}, [2], [], 4)


def test_lost_events_alone_are_settled() -> None:
    plan = planned(pending(A), {A: NOW + HOLD + 1})
    assert (plan.samples, plan.lost, plan.cursor) == ([], {CLOCK: [1]}, 1)


def test_events_beyond_the_end_of_the_walk_are_not_lost_yet() -> None:
    rows = pending(B, A, "e", A)
    ahead = Ahead(times={A: NOW + HOLD + 1}, hold_ms=HOLD)
    plan, _ = plan_next(
        rows,
        Caps(samples=1),
        wanted=Timestamps.EVENT,
        several=True,
        history=EVENT_TIME,
        now_ms=NOW,
        shown={},
        ahead=ahead,
    )
    assert (plan.cursor, plan.lost) == (1, {})


def test_without_timestamps_they_wait_as_well() -> None:
    how = {"wanted": Timestamps.SCRAPE, "history": TimestampHistory(latest=NOW - 1)}
    plan = planned(pending(A, B, A), {A: NOW + 10_000}, **how)
    assert (plan.samples, plan.newly_owed) == ([Sample(B, "1")], [1, 3])
    plan = planned(pending(A, B, A), {A: NOW - 1}, **how)
    assert plan.samples == [Sample(A, "2"), Sample(B, "1")]
