"""The log on disk: segments, each with the events of one commit, written and read whole.

A segment keeps its events as columns of text (see `schema/1.sql`, and `segment_columns.py` for how); the few
details have a table of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

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
from oneshotd.store.sqlite import details
from oneshotd.store.sqlite.connection import corrupt

#: Greatest number of events in a segment: retention deletes, and a scrape reads, whole segments.
SEGMENT_EVENTS = 2000

#: Greatest number of events, and of bytes of text, in a run of small segments that is read as one.
RUN_EVENTS = 2000
RUN_BYTES = 4 << 20

#: Number of events from which a segment is read by itself: joining would only copy its text.
LARGE = 50

_COLUMNS = "first, count, clock_at, series, value, ats"

# Joined in the database: fetching a row of a single event costs several times as much as joining it.
# SQLite walks a range of rowids upwards, but does not promise an order here: `decode_run` checks it.
_WITHIN = "FROM segment WHERE first >= ? AND first <= ?"
# Most small segments have one event without a value. A segment with values or times of its own leaves its
# clock out here; then `_JOINED` is queried, too.
_PLAIN = (
    "SELECT group_concat(series, '\n'),"
    f" group_concat(CASE WHEN coalesce(value, ats) IS NULL THEN clock_at END, '{CLOCK_END}') {_WITHIN}"
)
_JOINED = (
    f"SELECT count(*), group_concat(clock_at, '{CLOCK_END}'),"
    f" count(value), group_concat(ifnull(value, ''), '{VALUES_END}'), count(ats) {_WITHIN}"
)
_COUNTS = f"SELECT count {_WITHIN} ORDER BY first"
_OWN_ATS = f"SELECT first, ats {_WITHIN} AND ats IS NOT NULL ORDER BY first"


class LogWriter:
    """Collects the events of a transaction, gives them `seq` and `at`, and writes them as segments.

    :ivar next: seq of the next event.
    :ivar total_size: bytes of text that were ever logged.
    :ivar latest_at: greatest `at` that was ever given.
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
        self._details: dict[int, str] = {}

    def load(self, connection: sqlite3.Connection, pruned: int, pruned_size: int, now: int) -> None:
        """Continue at the end of the log on disk; forget events that were not written.

        :param now: Unix ms. Times beyond it, given to bursts of one series, are read from the log, so
            that no series gets the same `at` twice.
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
            segment = _decode(row)
            for series, at in zip(segment.series, segment.ats, strict=True):
                if at >= now:
                    self._ahead[series] = max(at, self._ahead.get(series, 0))
        rows.close()

    def add(self, series: str, value: str | None, now: int, detail: str = "") -> None:
        """Append one event to the log.

        :param now: acceptance time, Unix ms; a further event of the series in the same millisecond gets
            the next free one.
        """
        at = self._ahead.get(series, 0) + 1
        if at < now:
            at = now
        self._ahead[series] = at
        self._series.append(series)
        self._values.append(value)
        self._ats.append(at)
        if detail:
            self._details[self.next] = detail
        self.next += 1

    def add_all(self, series: Sequence[str], now: int) -> None:
        """Append events without values to the log, as `add` does."""
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
        """Return the least time (Unix ms) that no series has whose last event is deleted up to `horizon`.

        It is zero unless the wall clock stood still, or a burst ran ahead of it, for the whole hold.
        """
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM segment WHERE first <= ? AND latest_at >= ?", (horizon, now)
        )
        segments = (_decode(row) for row in rows)
        lasts = (
            at
            for part in segments
            for series, at in zip(part.series, part.ats, strict=True)
            if at >= now and at == self._ahead.get(series)
        )
        return max(lasts, default=-1) + 1

    def flush(self, connection: sqlite3.Connection, up: int, now: int) -> None:
        """Write the collected events, as part of the caller's transaction."""
        total = len(self._series)
        if not total:
            return
        if self._details:
            details.write(connection, self._details)
        for start in range(0, total, SEGMENT_EVENTS):
            part = slice(start, start + SEGMENT_EVENTS)
            ats = self._ats[part]
            columns = encode(self._series[part], self._values[part], ats, now)
            first = self.next - total + start
            self.total_size += columns.size
            if self._details:
                self.total_size += _size_between(self._details, first, first + len(ats))
            self.latest_at = max(self.latest_at, max(ats))
            connection.execute(
                "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    first,
                    len(ats),
                    self.total_size,
                    up,
                    now,
                    self.latest_at,
                    columns.series,
                    columns.values,
                    columns.ats,
                ),
            )
        self._clear()
        if len(self._ahead) > self._tidy_at:
            # A time that has passed does not restrict the next event of its series.
            self._ahead = {series: at for series, at in self._ahead.items() if at >= now}
            self._tidy_at = 2 * len(self._ahead) + 1000


def read(
    connection: sqlite3.Connection, after: int, events: int = RUN_EVENTS, size: int = 1 << 62
) -> Iterator[Segment]:
    """Read the log beyond seq `after`, in parts.

    A part is one segment or a run of small ones; the first part begins behind `after`.

    :param events: number of events wanted in a part; its last segment may exceed it.
    :param size: bytes of text wanted in all; beyond, each part is a single segment.
    """
    start, count, read_size = _last_before(connection, after + 2) or _oldest(connection) or (0, 0, 0)
    events, size = min(events, RUN_EVENTS), read_size + size
    while True:
        last = _last_before(connection, start + events) if count < LARGE else None
        if last is not None and last[0] > start and last[2] <= min(size, read_size + RUN_BYTES):
            parts, (_, count, read_size) = _read_run(connection, start, last), last
        else:
            one = connection.execute(
                f"SELECT total_size, {_COLUMNS} FROM segment WHERE first >= ? ORDER BY first LIMIT 1",
                (start,),
            ).fetchone()
            if one is None:
                return
            parts = [_decode(one[1:])]
            count, read_size = len(parts[0].series), _whole(one[0])
        for part in parts:
            start = part.first + len(part.series)
            if start > after + 1:
                yield part.part(after + 1, start)


def _last_before(connection: sqlite3.Connection, seq: int) -> tuple[int, int, int] | None:
    """Return `first`, `count` and `total_size` of the last segment that starts before this seq."""
    row = connection.execute(
        "SELECT first, count, total_size FROM segment WHERE first < ? ORDER BY first DESC LIMIT 1", (seq,)
    ).fetchone()
    return row and (row[0], _whole(row[1]), _whole(row[2]))


def _oldest(connection: sqlite3.Connection) -> tuple[int, int, int] | None:
    row = connection.execute("SELECT first FROM segment ORDER BY first LIMIT 1").fetchone()
    return row and _last_before(connection, row[0] + 1)


def _whole(value: object) -> int:
    if not isinstance(value, int):  # SQLite gives back whatever type it finds
        raise corrupt(f"{value!r} is no number of events or bytes")
    return value


def _read_run(connection: sqlite3.Connection, start: int, last: tuple[int, int, int]) -> list[Segment]:
    """Read the segments from seq `start` to the last one, as one if they follow each other."""
    first, count, _ = last
    within, end = (start, first), first + count
    series, clock_ats = connection.execute(_PLAIN, within).fetchone()
    try:
        if count == 1:  # then the run has no more events than wanted, even if a count is damaged
            with suppress(ColumnsDamaged):
                return [decode_run(start, end, [1] * (end - start), series, clock_ats)]
        rows, clock_ats, valued, values, timed = connection.execute(_JOINED, within).fetchone()
        counts = [1] * rows
        if rows != end - start:
            counts = [each for (each,) in connection.execute(_COUNTS, within)]
        own = connection.execute(_OWN_ATS, within).fetchall() if timed else ()
        return [decode_run(start, end, counts, series, clock_ats, values if valued else None, own)]
    except ColumnsDamaged:
        rows = connection.execute(f"SELECT {_COLUMNS} {_WITHIN} ORDER BY first", within).fetchall()
        return [_decode(row) for row in rows]


def decoded(connection: sqlite3.Connection, after: int) -> Iterator[Segment]:
    """Iterate over the segments up to which some `at` is later than this time (Unix ms), ascending."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM segment WHERE latest_at > ? ORDER BY first", (after,))
    return (_decode(row) for row in rows)


def redate(connection: sqlite3.Connection, now: int, last: dict[str, int]) -> dict[int, int]:
    """Replace every `at` later than this time (Unix ms) by one behind it, a ms apart within a series.

    :param last: series -> the last of the new times that it has already; updated.
    :returns: seq -> new `at`.
    """
    ats: dict[int, int] = {}
    latest = now
    firsts = connection.execute("SELECT first FROM segment WHERE latest_at > ? ORDER BY first", (now,))
    for (first,) in firsts.fetchall():
        row = connection.execute(f"SELECT {_COLUMNS} FROM segment WHERE first = ?", (first,)).fetchone()
        segment = _decode(row)
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
            (now, latest, pack(new), first),
        )
    return ats


def read_back(connection: sqlite3.Connection, end: int) -> Iterator[tuple[Segment, int]]:
    """Read the log up to seq `end`, newest segment first, each with the greatest `at` up to its end."""
    cursor = connection.execute(
        f"SELECT latest_at, {_COLUMNS} FROM segment WHERE first <= ? ORDER BY first DESC", (end,)
    )
    for latest_at, *row in cursor:
        segment = _decode(row)
        yield segment.part(segment.first, end), latest_at


def seq_before(connection: sqlite3.Connection, time: int, pruned: int, head: int, column: str = "up") -> int:
    """Return the greatest seq that was accepted before this time (`pruned` if none is held).

    :param column: the kind of time, "up" or "clock_at"; both ascend along the log.
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
    """Return the acceptance time (Unix ms) of the first held event from this seq on; None without one.

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


def _size_between(texts: Mapping[int, str], first: int, end: int) -> int:
    return sum(len(text.encode()) for seq, text in texts.items() if first <= seq < end)


def _decode(row: Sequence[Any]) -> Segment:
    try:
        return decode(*row)
    except ColumnsDamaged as error:
        raise corrupt(str(error)) from error
