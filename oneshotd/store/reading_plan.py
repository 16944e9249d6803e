"""Read the pending events for one response: owed events first, then the log, within bounds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from oneshotd.core.events import Event, Pending
from oneshotd.store.segment_columns import Segment

#: Reads the log behind the cursor: (events wanted at a time, bytes wanted in all) -> its parts.
ReadLog = Callable[[int, int], Iterable[Segment]]


def collect_pending(
    owed: Iterable[Event],
    read_log: ReadLog,
    *,
    cursor: int,
    owed_total: int,
    max_events: int,
    max_bytes: int,
    max_series: int,
) -> Pending:
    """Read a scraper's pending events.

    Reading stops behind the part of the log in which a bound is reached, so that it may exceed `max_bytes`
    and `max_series` by one part, and never `max_events`. If the owed events reach a bound, the log is not
    read: an older event of the same series may be among the owed ones that were left out.

    :param owed: its owed events, ascending by seq.
    :param read_log: reads the log behind the cursor; not called if the owed events reach a bound.
    :param cursor: seq behind which its part of the log begins.
    :param owed_total: number of all its owed events.
    :param max_bytes: bytes of series text.
    :param max_series: different series read from the log.
    """
    seqs: list[int] = []
    ats: list[int] = []
    series: list[str] = []
    values: list[str | None] = []
    size = 0
    for event in owed:
        seqs.append(event.seq)
        ats.append(event.at)
        series.append(event.series)
        values.append(event.value)
        size += len(event.series)
        if len(seqs) >= max_events or size >= max_bytes:
            break
    count, end = len(seqs), cursor
    different: set[str] = set()
    if count < max_events and size < max_bytes:
        for segment in read_log(min(max_events - count, max_series), max_bytes - size):
            part = segment.part(segment.first, segment.first + max_events - len(seqs) - 1)
            end = part.first + len(part.series) - 1
            seqs += range(part.first, end + 1)
            ats += part.ats
            series += part.series
            values += part.values
            size += sum(map(len, part.series))
            different.update(segment.series)
            if len(seqs) >= max_events or size >= max_bytes or len(different) > max_series:
                break
    return Pending(
        seqs=seqs,
        series=series,
        values=values,
        ats=ats,
        owed=count,
        owed_total=owed_total,
        cursor=cursor,
        end=end,
    )
