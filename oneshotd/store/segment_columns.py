r"""Encode the events of a commit as the columns of a segment, and decode them. Pure.

A segment is a part of the log in consecutive order of `seq`. Its columns are

=========  ===========================================================================
series     series texts, one a line (they are never empty and have no raw newline)
values     values, one a line, an empty line for none; None: no event has a value
ats        `at` of each event, signed 64 bit, little endian; None: all are `clock_at`
=========  ===========================================================================

A backlog of single events is thousands of segments of one event. A back end therefore reads a *run* of
small segments at once: the database joins each column over the rows, and `decode_run` splits the text.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, repeat
from sys import byteorder

from attrs import frozen

from oneshotd.core.events import Event
from oneshotd.store.soundness import fault_in

#: Separators of a run's acceptance times and values, which contain neither.
CLOCK_END = ","
VALUES_END = ";"


class ColumnsDamaged(ValueError):
    """The columns do not fit together: the file was damaged since they were written."""


@frozen(kw_only=True)
class Segment:
    """A part of the log in memory; the columns are parallel."""

    first: int
    series: list[str]
    values: list[str | None]
    ats: list[int]

    def events(self) -> Iterator[Event]:
        """Iterate over the events, ascending by seq."""
        for index, (series, value, at) in enumerate(zip(self.series, self.values, self.ats, strict=True)):
            yield Event(self.first + index, at, series, value)

    def part(self, first: int, last: int) -> Segment:
        """Return the part with seqs from `first` to `last`, or this object if it is the whole segment."""
        start, end = max(0, first - self.first), last + 1 - self.first
        if start == 0 and end >= len(self.series):
            return self
        part = slice(start, max(start, end))
        return Segment(
            first=self.first + start, series=self.series[part], values=self.values[part], ats=self.ats[part]
        )


@frozen(kw_only=True)
class Columns:
    """The columns of a segment.

    :param size: bytes of its text, as `Limits.max_bytes` counts them.
    """

    series: str
    values: str | None
    ats: bytes | None
    size: int


def encode(series: Sequence[str], values: Sequence[str | None], ats: Sequence[int], clock_at: int) -> Columns:
    """Encode events as columns.

    :param clock_at: acceptance time of the commit (Unix ms), not repeated for each event.
    """
    series_text = "\n".join(series)
    value_text = "\n".join(value or "" for value in values) if any(values) else None
    return Columns(
        series=series_text,
        values=value_text,
        ats=None if ats.count(clock_at) == len(ats) else pack(ats),
        size=len(series_text.encode()) + 1 + len(value_text or ""),
    )


def decode(
    first: int, count: int, clock_at: int, series: str, values: str | None, ats: bytes | None
) -> Segment:
    """Decode one segment.

    :raises ColumnsDamaged: the columns do not fit together, or are of a wrong type.
    """
    try:
        lines = series.split("\n")
        if len(lines) != count:
            raise ColumnsDamaged(f"segment {first} has {len(lines)} events instead of {count}")
        times = [clock_at] * count if ats is None else unpack(ats)
        numbers = _values(values or "", count)
        if not len(numbers) == len(times) == count:
            raise ColumnsDamaged(f"the columns of segment {first} differ in length")
        if fault := fault_in(series, (clock_at,) if ats is None else times):
            raise ColumnsDamaged(f"segment {first} {fault}")
        return Segment(first=first, series=lines, values=numbers, ats=times)
    except (TypeError, AttributeError) as error:  # a database may give back whatever type it finds
        raise ColumnsDamaged(f"segment {first} is nonsense") from error


def decode_run(
    first: int,
    end: int,
    counts: Sequence[int],
    series: str,
    clock_ats: str,
    values: str | None = None,
    ats: Sequence[tuple[int, bytes]] = (),
) -> Segment:
    """Decode many segments that follow each other without a gap, as one.

    :param first: seq of the first event.
    :param end: seq after the last event.
    :param counts: number of events of each segment.
    :param series: the texts, joined by newlines, in the order of the log.
    :param clock_ats: the acceptance times, joined by `CLOCK_END`.
    :param values: the values, joined by `VALUES_END`, an empty text for a segment without any; None: no
        segment has values.
    :param ats: first seq and column of each segment that has times of its own.
    :raises ColumnsDamaged: the segments do not follow each other, or one is damaged; decoding them one by
        one tells which.
    """
    try:
        lines = series.split("\n")
        times: list[int] = json.loads(f"[{clock_ats}]")
        # If the database joined the rows in the opposite order, the clock runs backwards here. If the clock
        # itself was set back, the segments are read one by one.
        if not (
            len(lines) == sum(counts) == end - first and len(times) == len(counts) and times[0] <= times[-1]
        ):
            raise ColumnsDamaged(f"the segments from {first} to {end - 1} are no run")
        if fault := fault_in(series, times):
            raise ColumnsDamaged(f"the segments from {first} to {end - 1}: {fault}")
        if len(lines) > len(times):
            times = list(chain.from_iterable(map(repeat, times, counts)))
        return Segment(
            first=first,
            series=lines,
            values=[None] * len(lines) if values is None else _joined_values(values, counts),
            ats=_with_own(times, counts, first, ats) if ats else times,
        )
    except ColumnsDamaged:
        raise
    except (TypeError, AttributeError, ValueError, IndexError) as error:
        raise ColumnsDamaged(f"the segments from {first} to {end - 1} are nonsense") from error


def _joined_values(joined: str, counts: Sequence[int]) -> list[str | None]:
    texts = joined.split(VALUES_END)
    if "\n" not in joined and len(texts) == len(counts) == sum(counts):
        return [text or None for text in texts]
    values: list[str | None] = []
    for text, count in zip(texts, counts, strict=True):
        part = _values(text, count)
        if len(part) != count:
            raise ColumnsDamaged("the values of a run differ in number from its series")
        values += part
    return values


def _with_own(
    times: list[int], counts: Sequence[int], first: int, ats: Sequence[tuple[int, bytes]]
) -> list[int]:
    events = dict(zip(accumulate(counts, initial=first), counts, strict=False))
    for start, packed in ats:
        own = unpack(packed)
        if events.get(start) != len(own):
            raise ColumnsDamaged(f"segment {start} has {len(own)} times instead of {events.get(start)}")
        if fault := fault_in("", own):
            raise ColumnsDamaged(f"segment {start} {fault}")
        times[start - first : start - first + len(own)] = own
    return times


def _values(text: str, count: int) -> list[str | None]:
    """Return a value or None for each event; an empty text means that no event has a value."""
    return [value or None for value in text.split("\n")] if text else [None] * count


def pack(ats: Sequence[int]) -> bytes:
    """Encode the times of a segment's events as its column."""
    packed = array("q", ats)
    if byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack(packed: bytes) -> list[int]:
    """Decode the column of times."""
    unpacked = array("q", packed[: len(packed) // 8 * 8])
    if byteorder == "big":
        unpacked.byteswap()
    return unpacked.tolist()
