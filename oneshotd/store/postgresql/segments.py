"""The log in PostgreSQL: rows of segments, written in one statement and read in bounded parts.

A session does not know a segment's acceptance time before it is written, so the times of its events are
kept as offsets to it. See `segment_columns.py` for the other columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import evolve, frozen

from oneshotd.core.events import Event
from oneshotd.errors import StoreUnavailable
from oneshotd.store.postgresql.link import Link
from oneshotd.store.segment_columns import (
    CLOCK_END,
    VALUES_END,
    ColumnsDamaged,
    Segment,
    decode,
    decode_run,
    encode,
    pack,
)

#: Greatest number of events in a segment: retention deletes, and a scrape reads, whole segments.
SEGMENT_EVENTS = 2000

#: Greatest number of events, and of bytes of text, that are read at once.
PART_EVENTS = 2000
PART_BYTES = 4 << 20

#: Number of events from which a segment is decoded by itself.
LARGE = 50

COLUMNS = "first, count, clock_at, series, value, offsets"

_START = """
SELECT first, total_size FROM segment WHERE first = coalesce(
  (SELECT max(first) FROM segment WHERE first <= %s), (SELECT min(first) FROM segment))"""
_PART = f"""
SELECT {COLUMNS}, total_size FROM segment
WHERE first >= %(start)s AND first < %(start)s::bigint + %(events)s AND first <= %(head)s
  AND (first = %(start)s OR total_size <= %(size)s) ORDER BY first"""
_NEXT = f"SELECT {COLUMNS}, total_size FROM segment WHERE first >= %s AND first <= %s ORDER BY first LIMIT 1"
_BACK = f"SELECT {COLUMNS}, latest_at FROM segment WHERE first <= %s ORDER BY first DESC LIMIT 1"


@frozen
class Row:
    """A new segment of a batch.

    :param start: place of its first event in the batch, from 0.
    :param size: bytes of text of the batch up to its end.
    :param latest: its greatest offset.
    """

    start: int
    count: int
    size: int
    latest: int
    series: bytes
    value: bytes | None
    offsets: bytes | None


def rows_of(
    series: Sequence[str],
    values: Sequence[str | None],
    offsets: Sequence[int],
    details: Sequence[tuple[int, bytes]] = (),
) -> list[Row]:
    """Encode the events of a batch as segments.

    :param details: place of an event, and its text, which counts in the size of its segment.
    """
    rows = []
    total = 0
    for start in range(0, len(series), SEGMENT_EVENTS):
        part = slice(start, start + SEGMENT_EVENTS)
        columns = encode(series[part], values[part], offsets[part], 0)
        end = start + SEGMENT_EVENTS
        total += columns.size + sum(len(text) for place, text in details if start <= place < end)
        rows.append(
            Row(
                start,
                len(series[part]),
                total,
                max(offsets[part]),
                columns.series.encode(),
                None if columns.values is None else columns.values.encode(),
                columns.ats,
            )
        )
    return rows


def segment_of(row: Sequence[Any]) -> Segment:
    """Decode one row of `COLUMNS`."""
    first, count, clock_at, series, value, offsets = row[:6]
    try:
        text = None if value is None else value.decode()
        if offsets is None:
            return decode(first, count, clock_at, series.decode(), text, None)
        segment = decode(first, count, 0, series.decode(), text, offsets)
        return evolve(segment, ats=[clock_at + offset for offset in segment.ats])
    except (ColumnsDamaged, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"the log is damaged: {error}") from error


def _run_of(rows: Sequence[Sequence[Any]]) -> list[Segment]:
    """Decode rows of small segments that follow each other, as one."""
    if len(rows) == 1 or max(row[1] for row in rows) >= LARGE:
        return [segment_of(row) for row in rows]
    end = rows[-1][0] + rows[-1][1]
    valued = any(row[4] is not None for row in rows)
    try:
        own = [(row[0], pack(segment_of(row).ats)) for row in rows if row[5] is not None]
        return [
            decode_run(
                rows[0][0],
                end,
                [row[1] for row in rows],
                b"\n".join([row[3] for row in rows]).decode(),
                CLOCK_END.join([str(row[2]) for row in rows]),
                VALUES_END.join([(row[4] or b"").decode() for row in rows]) if valued else None,
                own,
            )
        ]
    except (ColumnsDamaged, UnicodeDecodeError):
        return [segment_of(row) for row in rows]


def read(link: Link, after: int, head: int, events: int, size: int = 1 << 60) -> Iterator[Segment]:
    """Read the log beyond seq `after` up to `head`, in parts: a segment, or a run of small ones.

    :param events: number of events wanted in a part; its last segment may exceed it.
    :param size: bytes of text wanted in all; beyond, each part is a single segment.
    """
    found = link.one(_START, (after + 1,)) if after < head else None
    if found is None:
        return
    start, read_size = found
    wanted = min(max(events, 1), PART_EVENTS)
    size = read_size + size
    while start <= head:
        bound = min(size, read_size + PART_BYTES)
        values = {"start": start, "events": wanted, "head": head, "size": bound}
        rows = link.execute(_PART, values).fetchall() or link.execute(_NEXT, (start, head)).fetchall()
        if not rows:
            return
        read_size = rows[-1][6]
        for segment in _run_of(rows):
            start = segment.first + len(segment.series)
            if start > after + 1:
                yield segment.part(after + 1, start)


def read_back(link: Link, end: int) -> Iterator[tuple[Segment, int]]:
    """Read the log up to seq `end`, newest segment first, each with its own greatest `at`."""
    while end > 0:
        row = link.one(_BACK, (end,))
        if row is None:
            return
        segment = segment_of(row)
        yield segment.part(segment.first, end), row[6]
        end = segment.first - 1


def seq_before(link: Link, time: int, pruned: int, column: str = "up") -> int:
    """Return the greatest seq that was accepted before this time (`pruned` if none is held).

    :param column: the kind of time, "up" or "clock_at"; both ascend along the log.
    """
    order = "up DESC, first DESC" if column == "up" else "first DESC"
    row = link.one(
        f"SELECT first + count - 1 FROM segment WHERE {column} < %s ORDER BY {order} LIMIT 1", (time,)
    )
    return pruned if row is None else max(int(row[0]), pruned)


def events_at(link: Link, seqs: Sequence[int]) -> list[Event]:
    """Return events as the log has them now; those that it does not hold any more are left out."""
    return [
        event
        for seq in sorted(seqs)
        for part in read(link, seq - 1, seq, 1)
        for event in part.part(seq, seq).events()
    ]
