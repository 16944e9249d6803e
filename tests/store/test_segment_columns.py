"""Columns of a segment: what is coded is decoded, alone or as part of a run; damage is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.events import Event
from oneshotd.store.segment_columns import (
    CLOCK_END,
    VALUES_END,
    Columns,
    ColumnsDamaged,
    Segment,
    decode,
    decode_run,
    encode,
)

NOW = 1_700_000_000_000
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", 'b{c="d"}', "é", 'nul{x="\0"}', 'm{t="a;b,c"}']),
        st.sampled_from([None, None, "1", "-Inf", "1e+30"]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=5,
)


def coded(events: list[tuple[str, str | None, int]], clock_at: int) -> Columns:
    series, values, ahead = zip(*events, strict=True)
    return encode(series, values, [clock_at + each for each in ahead], clock_at)


def joined(segments: list[Columns], counts: list[int], clocks: list[int], first: int = 1) -> Segment:
    """What a database would join, decoded."""
    starts = [first + sum(counts[:number]) for number in range(len(counts))]
    return decode_run(
        first,
        first + sum(counts),
        counts,
        "\n".join(each.series for each in segments),
        CLOCK_END.join(map(str, clocks)),
        VALUES_END.join(each.values or "" for each in segments) if any(s.values for s in segments) else None,
        [(start, each.ats) for start, each in zip(starts, segments, strict=True) if each.ats is not None],
    )


@given(events=EVENTS)
def test_a_segment_is_read_as_it_was_written(events: list[tuple[str, str | None, int]]) -> None:
    """An event would be shown with another's value or time."""
    columns = coded(events, NOW)
    segment = decode(7, len(events), NOW, columns.series, columns.values, columns.ats)
    assert list(segment.events()) == [
        Event(7 + index, NOW + ahead, series, value) for index, (series, value, ahead) in enumerate(events)
    ]
    assert columns.size == len(columns.series.encode()) + 1 + len(columns.values or "")


@given(batches=st.lists(EVENTS, min_size=1, max_size=5))
def test_a_run_is_read_as_its_segments_one_by_one(batches: list[list[tuple[str, str | None, int]]]) -> None:
    """A backlog that trickled in would be shown wrong."""
    clocks = [NOW + 10 * number for number in range(len(batches))]
    segments = [coded(batch, clock) for batch, clock in zip(batches, clocks, strict=True)]
    run = joined(segments, list(map(len, batches)), clocks)
    assert [(event.series, event.value, event.at) for event in run.events()] == [
        (series, value, clock + ahead)
        for batch, clock in zip(batches, clocks, strict=True)
        for series, value, ahead in batch
    ]


@pytest.mark.parametrize(("first", "last", "seqs"), [(0, 99, "5678"), (6, 7, "67"), (9, 99, ""), (5, 4, "")])
def test_a_part_of_a_segment(first: int, last: int, seqs: str) -> None:
    """A scraper would get an event twice, or never."""
    whole = Segment(first=5, series=list("5678"), values=[None] * 4, ats=[NOW] * 4)
    part = whole.part(first, last)
    assert "".join(part.series) == seqs
    assert [str(event.seq) for event in part.events()] == list(seqs)
    assert (part is whole) == (seqs == "5678")


@pytest.mark.parametrize(
    ("count", "series", "values", "ats"),
    [
        (2, "a", None, None),
        (1, "a\nb", None, None),
        (2, "a\nb", "1", None),
        (1, "a", None, b"\0" * 16),
        (1, "a", None, b"\0"),
        (1, b"a", None, None),
        (1, None, None, None),
        ("x", "a", None, None),
        (1, "a", 5, None),
    ],
)
def test_columns_that_do_not_fit_are_refused(count: int, series: str, values: str, ats: bytes) -> None:
    """A file that has rotted would be read as something that nobody sent."""
    with pytest.raises(ColumnsDamaged):
        decode(1, count, NOW, series, values, ats)


@pytest.mark.parametrize(
    ("end", "counts", "series", "clocks", "values", "ats"),
    [
        (4, [1, 1], "a\nb", "1,2", None, ()),  # a gap
        (3, [1, 1], "a\nb\nc", "1,2", None, ()),
        (3, [1, 1], "a\nb", "1", None, ()),
        (3, [1, 1], "a\nb", "2,1", None, ()),  # in the opposite order
        (3, [1, 1], "a\nb", "1,x", None, ()),
        (3, [1, 1], "a\nb", None, None, ()),
        (3, [1, 1], None, "1,2", None, ()),
        (3, [1, 1], "a\nb", "1,2", "1", ()),
        (3, [1, 1], "a\nb", "1,2", "1\n2;3", ()),
        (4, [2, 1], "a\nb\nc", "1,2", "1;2", ()),
        (3, [1, 1], "a\nb", "1,2", None, [(2, b"\0" * 16)]),
        (3, [1, 1], "a\nb", "1,2", None, [(9, b"\0" * 8)]),
        (1, [], "", "", None, ()),
    ],
)
def test_what_is_no_run_is_refused(
    end: int, counts: list[int], series: str, clocks: str, values: str, ats: list[tuple[int, bytes]]
) -> None:
    """Events would move to the seqs, values or times of others."""
    with pytest.raises(ColumnsDamaged):
        decode_run(1, end, counts, series, clocks, values, ats)
