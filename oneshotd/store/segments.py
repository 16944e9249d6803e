"""The log on disk: segments of a commit's events, written and read whole.

A segment keeps its events as columns of text (see `schema/1.sql`); reading one is a `split`.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from sys import byteorder

from attrs import frozen

from oneshotd.core.event import Event
from oneshotd.store.database import corrupt
from oneshotd.store.soundness import fault_in

#: Events a segment holds at most: the grain of pruning, and of what a scrape reads too much.
SEGMENT_EVENTS = 2000

_COLUMNS = "first, count, clock_at, series, value, ats"


@frozen(kw_only=True)
class Segment:
    """A part of the log in memory; the columns are parallel."""

    first: int
    series: list[str]
    values: list[str | None]
    ats: list[int]

    def events(self) -> Iterator[Event]:
        """The events, ascending by seq."""
        for index, (series, value, at) in enumerate(zip(self.series, self.values, self.ats, strict=True)):
            yield Event(self.first + index, at, series, value)


class LogWriter:
    """Collects the events of a transaction, gives them `seq` and `at`, writes them as segments.

    :ivar next: seq that the next event gets.
    :ivar total_size: bytes of text ever logged.
    :ivar latest_at: greatest `at` ever given.
    """

    def __init__(self) -> None:
        self.next = 1
        self.total_size = 0
        self.latest_at = 0
        self._ahead: dict[str, int] = {}
        self._tidy_at = 1000
        self._clear()

    def _clear(self) -> None:
        self._series: list[str] = []
        self._values: list[str | None] = []
        self._ats: list[int] = []

    def load(self, connection: sqlite3.Connection, pruned: int, pruned_size: int, now: int) -> None:
        """Go on where the log on disk ends, and forget what was not written.

        :param now: Unix ms. Where bursts of one series were given times beyond it, those are
            read back, so that no `at` of a series is given twice.
        """
        self._clear()
        self._ahead = {}
        last = connection.execute(
            "SELECT first + count, total_size, latest_at FROM segment ORDER BY first DESC LIMIT 1"
        ).fetchone()
        self.next, self.total_size, self.latest_at = last or (pruned + 1, pruned_size, 0)
        rows = connection.execute(f"SELECT latest_at, {_COLUMNS} FROM segment ORDER BY first DESC")
        for latest_at, *row in rows:
            if latest_at < now:
                break  # it only falls from here on
            segment = _decode(*row)
            for series, at in zip(segment.series, segment.ats, strict=True):
                if at >= now:
                    self._ahead[series] = max(at, self._ahead.get(series, 0))
        rows.close()

    def add(self, series: str, value: str | None, now: int) -> None:
        """Put one event at the end of the log.

        :param now: acceptance time, Unix ms; a further event of the series in the same
            millisecond gets the next free one.
        """
        at = self._ahead.get(series, 0) + 1
        if at < now:
            at = now
        self._ahead[series] = at
        self._series.append(series)
        self._values.append(value)
        self._ats.append(at)
        self.next += 1

    def add_all(self, series: Sequence[str], now: int) -> None:
        """Put events without values at the end of the log, as `add` does."""
        fresh = dict.fromkeys(series, now)
        if len(fresh) < len(series) or not self._ahead.keys().isdisjoint(fresh):
            for each in series:
                self.add(each, None, now)
            return
        self._ahead |= fresh
        self._series += series
        self._values += [None] * len(series)
        self._ats += [now] * len(series)
        self.next += len(series)

    def outlived(self, connection: sqlite3.Connection, horizon: int, now: int) -> int:
        """The least time (Unix ms) that no series which is gone with the log up to `horizon` has had.

        Zero, unless the wall clock stood still or a burst ran ahead of it for the whole hold.
        """
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM segment WHERE first <= ? AND latest_at >= ?", (horizon, now)
        )
        segments = (_decode(*row) for row in rows)
        lasts = (
            at
            for part in segments
            for series, at in zip(part.series, part.ats, strict=True)
            if at >= now and at == self._ahead.get(series)
        )
        return max(lasts, default=-1) + 1

    def flush(self, connection: sqlite3.Connection, up: int, now: int) -> None:
        """Write what was collected; part of the caller's transaction."""
        total = len(self._series)
        if not total:
            return
        for start in range(0, total, SEGMENT_EVENTS):
            part = slice(start, start + SEGMENT_EVENTS)
            series, values, ats = self._series[part], self._values[part], self._ats[part]
            series_text = "\n".join(series)
            value_text = "\n".join(value or "" for value in values) if any(values) else None
            self.total_size += len(series_text.encode()) + 1 + len(value_text or "")
            self.latest_at = max(self.latest_at, max(ats))
            connection.execute(
                "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self.next - total + start,
                    len(series),
                    self.total_size,
                    up,
                    now,
                    self.latest_at,
                    series_text,
                    value_text,
                    None if ats.count(now) == len(ats) else _pack(ats),
                ),
            )
        self._clear()
        if len(self._ahead) > self._tidy_at:
            # Times that have passed bind nobody any more.
            self._ahead = {series: at for series, at in self._ahead.items() if at >= now}
            self._tidy_at = 2 * len(self._ahead) + 1000


def read(connection: sqlite3.Connection, after: int) -> Iterator[Segment]:
    """The log beyond seq `after`, a segment (or what is left of the first one) at a time."""
    start = connection.execute("SELECT max(first) FROM segment WHERE first <= ?", (after + 1,)).fetchone()[0]
    cursor = connection.execute(
        f"SELECT {_COLUMNS} FROM segment WHERE first >= ? ORDER BY first", (start or 0,)
    )
    for row in cursor:
        segment = _decode(*row)
        skip = after + 1 - segment.first
        if skip >= len(segment.series):
            continue
        if skip > 0:
            segment = Segment(
                first=after + 1,
                series=segment.series[skip:],
                values=segment.values[skip:],
                ats=segment.ats[skip:],
            )
        yield segment


def decoded(connection: sqlite3.Connection, after: int) -> Iterator[Segment]:
    """The segments behind which an `at` is later than this time (Unix ms), ascending."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM segment WHERE latest_at > ? ORDER BY first", (after,)
    )
    return (_decode(*row) for row in rows)


def redate(connection: sqlite3.Connection, now: int) -> dict[int, int]:
    """Set every `at` that is later than this time (Unix ms) to what follows it, a millisecond apart
    within a series; seq -> new `at`."""
    ats: dict[int, int] = {}
    last: dict[str, int] = {}
    latest = now
    firsts = connection.execute("SELECT first FROM segment WHERE latest_at > ? ORDER BY first", (now,))
    for (first,) in firsts.fetchall():
        row = connection.execute(f"SELECT {_COLUMNS} FROM segment WHERE first = ?", (first,)).fetchone()
        segment = _decode(*row)
        new = []
        for event in segment.events():
            at = event.at
            if at > now:
                at = last[event.series] = last.get(event.series, now) + 1
                ats[event.seq] = at
            new.append(at)
        latest = max(latest, *new)
        connection.execute(
            "UPDATE segment SET clock_at = min(clock_at, ?), latest_at = ?, ats = ? WHERE first = ?",
            (now, latest, _pack(new), first),
        )
    return ats


def read_back(connection: sqlite3.Connection, end: int) -> Iterator[tuple[Segment, int]]:
    """The log up to seq `end`, newest segment first, each with the greatest `at` up to its end."""
    cursor = connection.execute(
        f"SELECT latest_at, {_COLUMNS} FROM segment WHERE first <= ? ORDER BY first DESC", (end,)
    )
    for latest_at, *row in cursor:
        segment = _decode(*row)
        keep = end + 1 - segment.first
        if keep < len(segment.series):
            segment = Segment(
                first=segment.first,
                series=segment.series[:keep],
                values=segment.values[:keep],
                ats=segment.ats[:keep],
            )
        yield segment, latest_at


def seq_before(connection: sqlite3.Connection, time: int, pruned: int, head: int, column: str = "up") -> int:
    """The greatest seq that was accepted before this time (`pruned` if none is held).

    :param column: which time, "up" or "clock_at"; both only grow along the log.
    """
    low, high = pruned, head
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(
            f"SELECT {column}, first + count - 1 FROM segment WHERE first <= ? ORDER BY first DESC LIMIT 1",
            (middle,),
        ).fetchone()
        if row is not None and row[0] < time:
            low = max(middle, row[1])
        else:
            high = middle - 1
    return low


def accepted_at(connection: sqlite3.Connection, seq: int) -> int | None:
    """Return when the first held event from this seq on was accepted (Unix ms), None if there is none.

    Two look-ups by `first`; a condition on ``first + count`` would walk the whole log.
    """
    row = connection.execute(
        "SELECT clock_at, first + count FROM segment WHERE first <= ? ORDER BY first DESC LIMIT 1", (seq,)
    ).fetchone()
    if row is None or row[1] <= seq:
        row = connection.execute(
            "SELECT clock_at FROM segment WHERE first > ? ORDER BY first LIMIT 1", (seq,)
        ).fetchone()
    return None if row is None else int(row[0])


def _pack(ats: list[int]) -> bytes:
    packed = array("q", ats)
    if byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _decode(
    first: int, count: int, clock_at: int, series_text: str, value_text: str | None, packed: bytes | None
) -> Segment:
    try:
        series = series_text.split("\n")
        if len(series) != count:
            raise corrupt(f"segment {first} has {len(series)} events instead of {count}")
        if packed is None:
            ats = [clock_at] * count
        else:
            unpacked = array("q", packed[: len(packed) // 8 * 8])
            if byteorder == "big":
                unpacked.byteswap()
            ats = unpacked.tolist()
        values: list[str | None] = [None] * count
        if value_text is not None:
            values = [value or None for value in value_text.split("\n")]
        if not len(values) == len(ats) == count:
            raise corrupt(f"the columns of segment {first} differ in length")
        if fault := fault_in(series_text, (clock_at,) if packed is None else ats):
            raise corrupt(f"segment {first} {fault}")
        return Segment(first=first, series=series, values=values, ats=ats)
    except (TypeError, AttributeError) as error:  # SQLite gives back whatever type it finds
        raise corrupt(f"segment {first} is nonsense") from error
