"""The plan of a reading: owed events first, then the log, and where it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oneshotd.core.events import Event, Pending
from oneshotd.store.reading_plan import collect_pending
from oneshotd.store.segment_columns import Segment

OWED = [Event(2, 102, "a", None), Event(4, 104, "b", "1")]
LOG = [
    Segment(first=11, series=["c", "d", "c"], values=[None, "2", None], ats=[111, 112, 113]),
    Segment(first=14, series=["e"], values=[None], ats=[114]),
    Segment(first=20, series=["f", "g"], values=[None, None], ats=[120, 121]),
]


def reading(max_events: int = 100, max_bytes: int = 100, max_series: int = 100) -> Pending:
    def read_log(events: int, size: int) -> Iterator[Segment]:
        assert events > 0
        assert size > 0
        yield from LOG

    return collect_pending(
        OWED,
        read_log,
        cursor=10,
        owed_total=2,
        max_events=max_events,
        max_bytes=max_bytes,
        max_series=max_series,
    )


def test_all_that_is_pending_is_read_in_order() -> None:
    """An event would be lost, or shown with another's time or value."""
    assert reading() == Pending(
        seqs=[2, 4, 11, 12, 13, 14, 20, 21],
        series=list("abcdcefg"),
        values=[None, "1", None, "2", None, None, None, None],
        ats=[102, 104, 111, 112, 113, 114, 120, 121],
        owed=2,
        owed_total=2,
        cursor=10,
        end=21,
    )


@pytest.mark.parametrize(
    ("bounds", "seqs", "end"),
    [
        ({"max_events": 1}, [2], 10),
        ({"max_events": 2}, [2, 4], 10),
        ({"max_events": 4}, [2, 4, 11, 12], 12),
        ({"max_events": 5}, [2, 4, 11, 12, 13], 13),
        ({"max_bytes": 1}, [2], 10),
        ({"max_bytes": 2}, [2, 4], 10),
        ({"max_bytes": 3}, [2, 4, 11, 12, 13], 13),
        ({"max_bytes": 6}, [2, 4, 11, 12, 13, 14], 14),
        ({"max_series": 1}, [2, 4, 11, 12, 13], 13),
        ({"max_series": 2}, [2, 4, 11, 12, 13, 14], 14),
        ({"max_series": 3}, [2, 4, 11, 12, 13, 14, 20, 21], 21),
    ],
)
def test_a_bound_ends_the_reading(bounds: dict[str, int], seqs: list[int], end: int) -> None:
    """One response would take memory without end; or events behind the bound would be passed over."""
    pending = reading(**bounds)
    assert (pending.seqs, pending.end) == (seqs, end)


def test_nothing_pending_leaves_the_cursor_where_it_is() -> None:
    """The cursor would go back, and all events would come again."""
    pending = collect_pending(
        (), lambda *_: (), cursor=10, owed_total=0, max_events=5, max_bytes=5, max_series=5
    )
    assert (len(pending), pending.cursor, pending.end) == (0, 10, 10)
