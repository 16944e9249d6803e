"""Events that exceed a scraper's limits by themselves are passed over; all others are delivered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from oneshotd.core.events import Pending, Sample, labels_of, metric_of, series_text
from oneshotd.core.exposition import STAMP_SIZE, openmetrics, text
from oneshotd.core.sampling.event_time import plan_event_time
from oneshotd.core.sampling.plan import Caps, Plan, least_size
from oneshotd.core.sampling.scrape_time import plan
from oneshotd.core.scrape_limits import ScrapeLimits

NOW = 1_700_000_000_000
FEW, MANY = 'm{a="x"}', 'm{a="x",b="x",c="x"}'
LONG = f'm{{a="{"v" * 300}"}}'


def pending(*rows: str | tuple[str, str], owed: int = 0) -> Pending:
    """These events, the first of them owed; a row is a series, or a series and a value."""
    pairs = [(row, None) if isinstance(row, str) else row for row in rows]
    return Pending(
        seqs=list(range(1, len(rows) + 1)),
        series=[series for series, _ in pairs],
        values=[value for _, value in pairs],
        ats=[NOW - len(rows) + n for n in range(len(rows))],
        owed=owed,
        owed_total=owed,
        cursor=owed,
        end=len(rows),
    )


def planned(rows: Pending, limits: ScrapeLimits, mode: str = "scrape", caps: Caps | None = None) -> Plan:
    caps = caps or Caps()
    if mode == "scrape":
        return plan(rows, caps, limits)
    return plan_event_time(rows, caps, now_ms=NOW, several=mode == "several", limits=limits)


MODES = pytest.mark.parametrize("mode", ["scrape", "event", "several"])


@MODES
def test_an_event_that_no_response_can_hold_is_lost_and_others_go_out(mode: str) -> None:
    """One event of 1,100 characters would cost a whole scrape with forty others."""
    rows = pending(FEW, MANY, LONG, (MANY, "2"), FEW)
    made = planned(rows, ScrapeLimits(labels=4, value_length=100), mode)
    assert made.lost == {"label_limit": [2, 4], "label_value_length_limit": [3]}
    assert made.lost_series == {"label_limit": MANY, "label_value_length_limit": LONG}
    assert {sample.series for sample in made.samples} == {FEW}
    assert (made.events, made.cursor, made.newly_owed, made.queueing) == (2, 5, [], {})


@MODES
def test_owed_events_that_no_response_can_hold_are_lost(mode: str) -> None:
    made = planned(pending(MANY, FEW, MANY, owed=2), ScrapeLimits(labels=4), mode)
    assert (made.lost, made.went_out, made.newly_owed) == ({"label_limit": [1, 3]}, [2], [])


@MODES
@pytest.mark.parametrize("row", [LONG, (LONG, "17")], ids=["occurrence", "value"])
def test_an_event_of_exactly_the_limit_goes_out(mode: str, row: Any) -> None:
    """An event that the scraper would take must not count as lost."""
    rows = pending(row, "b")
    stamp = 0 if mode == "scrape" else STAMP_SIZE
    least = least_size(rows.series[0], rows.values[0], stamp)
    for size, lost in ((least, {}), (least - 1, {"body_size_limit": [1]})):
        made = planned(rows, ScrapeLimits(body=size), mode, Caps(bytes=size))
        assert made.lost == lost
        assert made.samples[0].series == ("b" if lost else LONG)
        assert len(openmetrics(made.samples)) <= size


def test_an_event_that_does_not_fit_beside_others_waits() -> None:
    """An event that fits into the next response would count as lost."""
    rows = pending(FEW, LONG)
    limits = ScrapeLimits(body=least_size(LONG, None))
    made = planned(rows, limits, caps=Caps(bytes=limits.body or 0))
    assert (made.lost, made.cursor, made.events) == ({}, 1, 1)


def test_a_lost_event_does_not_delay_its_series() -> None:
    """Later values of the series would wait for an event that never goes out."""
    rows = pending(("a", "9" * 200), ("a", "1"))
    limits = ScrapeLimits(body=least_size("a", "1"))
    made = planned(rows, limits, caps=Caps(bytes=limits.body or 0))
    assert (made.lost, made.samples) == ({"body_size_limit": [1]}, [Sample("a", "1")])


NAMES = st.sampled_from(["a", "bb", "job", "a_long_name_of_a_label"])
SERIES = st.builds(
    series_text,
    st.sampled_from(["m", "a_longer_metric_name"]),
    st.dictionaries(NAMES, st.sampled_from(["x", "ö" * 20, "y" * 90, "="]), max_size=4).map(
        lambda labels: list(labels.items())
    ),
)
ROWS = st.lists(st.tuples(SERIES, st.sampled_from([None, None, "1", "2.5e-300"])), max_size=12)
LIMITS = st.builds(
    ScrapeLimits,
    body=st.none() | st.integers(150, 600),
    labels=st.none() | st.integers(3, 7),
    name_length=st.none() | st.integers(8, 24),
    value_length=st.none() | st.integers(1, 100),
    extra_labels=st.integers(0, 1),
)


@examples(300)
@given(rows=ROWS, limits=LIMITS, mode=st.sampled_from(["scrape", "event", "several"]), owed=st.integers(0, 3))
def test_each_event_is_delivered_or_lost_once_and_responses_keep_the_limits(
    rows: list[tuple[str, str | None]], limits: ScrapeLimits, mode: str, owed: int
) -> None:
    """Responses one after the other, until nothing is left: none is beyond a limit, none is empty
    while events remain, and lost is what is beyond a limit alone."""
    left = [(seq, series, value) for seq, (series, value) in enumerate(rows, 1)]
    stamp = 0 if mode == "scrape" else STAMP_SIZE
    for _ in range(len(rows) + 1):
        if not left:
            break
        now = Pending(
            seqs=[seq for seq, _, _ in left],
            series=[series for _, series, _ in left],
            values=[value for _, _, value in left],
            ats=[NOW - 100 + seq for seq, _, _ in left],
            owed=min(owed, len(left)),
            owed_total=min(owed, len(left)),
            end=left[-1][0],
        )
        made = planned(now, limits, mode, Caps(bytes=limits.body or Caps().bytes))
        assert len((text if mode == "scrape" else openmetrics)(made.samples)) <= (limits.body or 10**9)
        for sample in made.samples:
            assert limits.label_fault(metric_of(sample.series), labels_of(sample.series)) is None
        lost = {seq: reason for reason, seqs in made.lost.items() for seq in seqs}
        for seq, series, value in left:
            too_large = limits.body is not None and least_size(series, value, stamp) > limits.body
            fault = limits.series_fault(series) or ("body_size_limit" if too_large else None)
            assert lost.get(seq, fault) == fault
        gone = {seq for seq in now.seqs[now.owed :] if seq <= made.cursor}
        gone = gone - set(made.newly_owed) | set(made.went_out) | lost.keys()
        assert gone, "nothing moves"
        assert made.events == len(gone) - len(lost)
        left = [row for row in left if row[0] not in gone]
    assert not left


def test_a_value_that_has_no_room_even_alone_stays_pending() -> None:
    """It would leave the log without having been in a response."""
    made = planned(pending((FEW, "1234567")), ScrapeLimits(), "event", Caps(bytes=8))
    assert (made.samples, made.cursor, made.newly_owed, made.lost) == ([], 0, [], {})
