"""What a comparison of events with samples finds: losses, repetitions, and what is the edge of the window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from attrs import frozen

from oneshotd.core.way import Way
from oneshotd.ctl.audit_comparison import (
    ANY_AGE,
    Compared,
    Events,
    Function,
    Matching,
    Samples,
    Verdict,
    compare,
    key,
    window,
)

#: The range of the tests, Unix ms: ten minutes.
SINCE, UNTIL = 1_700_000_000_000, 1_700_000_600_000
LAG, SKEW = 15.0, 2.0
HELD = UNTIL - 3_600_000

#: Labels that a scrape adds.
TARGET = {"job": "oneshotd", "instance": "edge-1:8090"}

#: Seconds after SINCE, and whether the event has a value.
Row = tuple[float, bool]


def made(
    rows: Sequence[Row],
    *,
    sum: float | None = None,
    count: float | None = None,
    way: Way = Way.SCRAPE,
    cursor: int | None = None,
    owed_from: float | None = None,
    lag: float | None = LAG,
    held: int = HELD,
) -> Compared:
    """Compare one series: its events, and what the store says."""
    events = Events(
        window=window(SINCE, UNTIL, way, lag=lag, skew=SKEW),
        cursor=len(rows) if cursor is None else cursor,
        owed_from=None if owed_from is None else SINCE + round(owed_from * 1000),
    )
    for seq, (seconds, valued) in enumerate(rows, 1):
        events.add(seq, SINCE + round(seconds * 1000), "m", {"a": "x"}, valued=valued)
    samples = Samples(events.series)
    for function, number in ((Function.SUM, sum), (Function.COUNT, count)):
        if number is not None:
            samples.add("m", {**TARGET, "a": "x"}, function, number)
    (found,) = compare(events, samples, way, held=held)
    return found


COUNTED = [(10.0, False), (20.0, False), (20.001, False)]
VALUED = [(10.0, True), (20.0, True)]
EARLY, LATE, INSIDE = (-16.0, False), (601.0, False), (300.0, False)


@frozen(kw_only=True)
class Case:
    rows: Sequence[Row]
    verdict: Verdict
    sum: float | None = None
    count: float | None = None
    way: Way = Way.SCRAPE
    cursor: int | None = None
    owed_from: float | None = None
    lag: float | None = LAG
    held: int = HELD


CASES = {
    "counted": Case(rows=COUNTED, sum=3, verdict=Verdict.EQUAL),
    "counted, in event time": Case(rows=COUNTED, sum=3, way=Way.EVENT, verdict=Verdict.EQUAL),
    "counted, one is lost": Case(rows=COUNTED, sum=2, verdict=Verdict.MISSING),
    "counted, the store has none": Case(rows=COUNTED, verdict=Verdict.MISSING),
    "counted, one came twice": Case(rows=COUNTED, sum=4, verdict=Verdict.SURPLUS),
    "values": Case(rows=VALUED, count=2, sum=79.0, verdict=Verdict.EQUAL),
    "values that are no numbers": Case(rows=VALUED, count=2, sum=float("nan"), verdict=Verdict.EQUAL),
    "a value is lost": Case(rows=VALUED, count=1, sum=2.0, verdict=Verdict.MISSING),
    "a value came twice": Case(rows=VALUED, count=3, verdict=Verdict.SURPLUS),
    "both kinds in a series": Case(rows=[*COUNTED, *VALUED], sum=82, count=4, verdict=Verdict.MIXED),
    "both kinds, pushed": Case(rows=[*COUNTED, *VALUED], count=5, way=Way.PUSH, verdict=Verdict.EQUAL),
    "pushed": Case(rows=COUNTED, count=3, way=Way.PUSH, verdict=Verdict.EQUAL),
    "pushed, one is lost": Case(rows=COUNTED, count=2, way=Way.PUSH, verdict=Verdict.MISSING),
    "pushed, one is there twice": Case(rows=COUNTED, count=4, way=Way.PUSH, verdict=Verdict.SURPLUS),
    "pending, not there": Case(rows=COUNTED, sum=2, cursor=2, verdict=Verdict.EQUAL),
    "pending, there since": Case(rows=COUNTED, sum=3, cursor=2, verdict=Verdict.EDGE),
    "none is delivered": Case(rows=COUNTED, cursor=0, verdict=Verdict.EQUAL),
    "owed, not there": Case(rows=VALUED, count=1, owed_from=20.0, verdict=Verdict.EQUAL),
    "owed, and one more is lost": Case(rows=VALUED, count=0, owed_from=20.0, verdict=Verdict.MISSING),
    "an early event's sample is in the window": Case(rows=[EARLY, INSIDE], sum=2, verdict=Verdict.EDGE),
    "an early event's sample is before it": Case(rows=[EARLY, INSIDE], sum=1, verdict=Verdict.EQUAL),
    "more than the early events explain": Case(rows=[EARLY, INSIDE], sum=3, verdict=Verdict.SURPLUS),
    "a late event's sample is in the window": Case(rows=[INSIDE, LATE], sum=2, verdict=Verdict.EDGE),
    "too early for the window": Case(rows=[(-20.0, False), INSIDE], sum=2, verdict=Verdict.SURPLUS),
    "pushed, early": Case(rows=[EARLY, INSIDE], count=1, way=Way.PUSH, verdict=Verdict.EQUAL),
    "pushed, on the left edge of Prometheus 2": Case(
        rows=[(-0.001, False), INSIDE], count=2, way=Way.PUSH, verdict=Verdict.EDGE
    ),
    "pushed, on both ends": Case(
        rows=[(0.0, False), (600.0, False)], count=2, way=Way.PUSH, verdict=Verdict.EQUAL
    ),
    "no lag, an old event": Case(rows=[(-900.0, False), INSIDE], sum=2, lag=None, verdict=Verdict.EDGE),
    "no lag, one is lost": Case(rows=[(-900.0, False), INSIDE], sum=0, lag=None, verdict=Verdict.MISSING),
    "no lag, one came twice": Case(rows=[INSIDE], sum=2, lag=None, verdict=Verdict.SURPLUS),
    "events of the edge may be deleted": Case(rows=[INSIDE], sum=2, held=SINCE, verdict=Verdict.EDGE),
}


@pytest.mark.parametrize("name", CASES)
def test_a_series_is_compared(name: str) -> None:
    """A loss would be taken for the edge of the window, or the edge for a loss."""
    case = CASES[name]
    found = made(
        case.rows,
        sum=case.sum,
        count=case.count,
        way=case.way,
        cursor=case.cursor,
        owed_from=case.owed_from,
        lag=case.lag,
        held=case.held,
    )
    assert found.verdict is case.verdict, found


def test_the_window_has_every_sample_of_the_range() -> None:
    scraped = window(SINCE, UNTIL, Way.SCRAPE, lag=LAG, skew=SKEW)
    assert (scraped.begins, scraped.ends) == (SINCE - 2000, UNTIL + 17_000)
    assert (scraped.earliest, scraped.latest) == (SINCE - 19_000, UNTIL + 19_000)
    assert scraped.length == 619_001
    dated = window(SINCE, UNTIL, Way.EVENT, lag=LAG, skew=SKEW)
    assert (dated.begins, dated.ends, dated.earliest) == (SINCE, UNTIL + 17_000, SINCE - 17_000)
    pushed = window(SINCE, UNTIL, Way.PUSH, lag=LAG, skew=SKEW)
    assert (pushed.begins, pushed.ends, pushed.length) == (SINCE, UNTIL, 600_001)
    assert window(SINCE, UNTIL, Way.SCRAPE, lag=None, skew=SKEW).earliest == ANY_AGE


SERIES: list[dict[str, str]] = [
    {},
    {"type": "a"},
    {"type": "b"},
    {"type": "a", "host": "h"},
    {"type": "a", "job": "nightly"},
    {"type": "a", "exported_job": "x"},
    {"type": "a", "exported_job": "x", "job": "y"},
]


@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ({}, {}),
        ({**TARGET}, {}),
        ({**TARGET, "type": "a"}, {"type": "a"}),
        ({**TARGET, "type": "a", "host": "h"}, {"type": "a", "host": "h"}),
        ({**TARGET, "type": "a", "host": "other", "cluster": "c"}, {"type": "a"}),
        ({**TARGET, "type": "a", "exported_job": "nightly"}, {"type": "a", "job": "nightly"}),
        ({"job": "nightly", "type": "a"}, {"type": "a", "job": "nightly"}),  # honor_labels
        ({**TARGET, "type": "a", "exported_job": "x"}, {"type": "a", "exported_job": "x"}),
        (
            {**TARGET, "type": "a", "exported_exported_job": "y", "exported_job": "x"},
            {"type": "a", "exported_job": "x", "job": "y"},
        ),
        ({"type": "a", "job": "y", "exported_job": "x"}, {"type": "a", "exported_job": "x", "job": "y"}),
        ({"__name__": "m", "type": "b"}, {"type": "b"}),
        ({**TARGET, "type": "c"}, {}),
    ],
)
def test_labels_that_a_scrape_adds_are_ignored(stored: Mapping[str, str], meant: Mapping[str, str]) -> None:
    """A series would be missing because its target has a label more."""
    matching = Matching(key("m", labels) for labels in SERIES)
    assert matching.find("m", stored) == key("m", meant)


def test_a_series_that_the_daemon_does_not_have_is_a_difference() -> None:
    events = Events(window=window(SINCE, UNTIL, Way.SCRAPE, lag=LAG, skew=SKEW), cursor=9)
    events.add(1, SINCE + 5, "m", {"a": "x"}, valued=False)
    samples = Samples(events.series)
    samples.add("m", {**TARGET, "a": "x"}, Function.SUM, 1)
    samples.add("m", {**TARGET, "a": "z"}, Function.SUM, 2)
    samples.add("m", {**TARGET, "a": "y"}, Function.SUM, 0)
    own, other = compare(events, samples, Way.SCRAPE, held=HELD)
    assert own.verdict is Verdict.EQUAL and own.known
    assert (other.verdict, other.known, other.found) == (Verdict.SURPLUS, False, 2)
    assert other.labels == {**TARGET, "a": "z"}


def test_several_targets_are_added() -> None:
    events = Events(window=window(SINCE, UNTIL, Way.SCRAPE, lag=LAG, skew=SKEW), cursor=9)
    for seq in (1, 2, 3):
        events.add(seq, SINCE + seq, "m", {}, valued=False)
    samples = Samples(events.series)
    samples.add("m", {"instance": "a"}, Function.SUM, 1)
    samples.add("m", {"instance": "b"}, Function.SUM, 2)
    (found,) = compare(events, samples, Way.SCRAPE, held=HELD)
    assert found.verdict is Verdict.EQUAL


def test_memory_grows_with_the_series_only() -> None:
    """A million events would need gigabytes."""
    events = Events(window=window(SINCE, UNTIL, Way.SCRAPE, lag=LAG, skew=SKEW), cursor=10**6)
    for seq in range(1, 1001):
        events.add(seq, SINCE + seq, "m", {"a": str(seq % 3)}, valued=False)
    assert len(events.series) == 3
    assert sum(series.least for series in events.series.values()) == 1000
    assert events.head == 1000
    assert events.metrics() == {"m": (True, False)}
