"""The tables of a PostgreSQL store as records: their columns, and the conversion of a row.

`COLUMNS` and `LEFT_OUT` have every column of the schema, which a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from oneshotd.errors import StoreRefused
from oneshotd.store.segment_columns import pack, unpack
from oneshotd.store.transfer_records import (
    DetailRecord,
    KeyedStateRecord,
    KeyRecord,
    LossRecord,
    OwedRecord,
    Record,
    ScraperRecord,
    SegmentRecord,
    ShownRecord,
    StateRecord,
    own_times,
    values_of,
)

#: Fields that a PostgreSQL store does not keep.
LACKS: Mapping[type[Record], frozenset[str]] = {}


@frozen
class Table:
    """A table: its columns with their types, in the order of the record's fields.

    :param order: of the records; texts by their bytes.
    :param source: what is read, where that is not the table itself.
    """

    name: str
    columns: Mapping[str, str]
    order: str = ""
    source: str = ""
    read: Mapping[str, str] = field(factory=dict)

    def query(self) -> str:
        """Return the query that reads it."""
        columns = ", ".join(self.read.get(column, column) for column in self.columns)
        order = f" ORDER BY {self.order}" if self.order else ""
        return f"SELECT {columns} FROM {self.source or self.name}{order}"


# The name is that of the scraper, in the place of its number.
_OF_SCRAPER = {"scraper": "s.name"}

#: Table -> its columns. `LEFT_OUT` has the others.
COLUMNS: Mapping[type[Record], Table] = {
    StateRecord: Table(
        "state",
        {
            **{"pruned": "int8", "pruned_size": "int8", "at": "int8", "up": "int8"},
            **{"corrected_at": "int8", "corrected_ms": "int8", "corrected_up": "int8"},
        },
    ),
    SegmentRecord: Table(
        "segment",
        {
            **{"first": "int8", "count": "int4", "total_size": "int8", "up": "int8", "clock_at": "int8"},
            **{"series": "bytea", "value": "bytea", "offsets": "bytea"},
        },
        order="first",
    ),
    ScraperRecord: Table(
        "scraper",
        {
            **{"name": "text", "named": "bool", "timed": "bool", "answered": "int8", "cursor": "int8"},
            **{"seen_up": "int8", "seen_at": "int8", "event_time": "bool", "floor_at": "int8"},
            **{"latest_at": "int8", "timed_up": "int8", "shown_end": "int8", "delivered": "int8"},
            **{"returned": "int8", "revoked": "int8", "uncertain": "int8", "superseded": "int8"},
            "queueing": "int4",
        },
        order='name COLLATE "C"',
    ),
    OwedRecord: Table(
        "owed",
        {"scraper": "text", "seq": "int8", "at": "int8", "series": "bytea", "value": "bytea"},
        order='s.name COLLATE "C", seq',
        source="owed JOIN scraper s ON s.id = owed.scraper AND owed.gone IS NULL",
        read=_OF_SCRAPER,
    ),
    ShownRecord: Table(
        "shown",
        {"scraper": "text", "series": "bytea", "at": "int8", "up": "int8", "ahead": "bool"},
        order='s.name COLLATE "C", series',
        source="shown JOIN scraper s ON s.id = shown.scraper",
        read=_OF_SCRAPER,
    ),
    KeyRecord: Table(
        "key",
        {
            **{"key": "bytea", "digest": "bytea", "stored": "int4", "duplicates": "int4", "first": "int8"},
            "up": "int8",
        },
        order="key",
    ),
    DetailRecord: Table(
        "detail",
        {"seq": "int8", "detail": "bytea"},
        order="seq",
        # Details of deleted events are deleted later.
        source="detail JOIN state ON detail.seq > state.pruned",
    ),
    KeyedStateRecord: Table(
        "keyed_state", {"key": "bytea", "value": "int8", "until_up": "int8"}, order="key"
    ),
    LossRecord: Table(
        "loss",
        {"scraper": "text", "reason": "text", "events": "int8", "up": "int8"},
        order='scraper COLLATE "C", reason COLLATE "C"',
    ),
}

#: Columns that are not copied: those of leases, what the target sets itself, and the times of the last few
#: scrapes, which the next ones replace.
LEFT_OUT = {
    "state": {"id", "layout", "oldest", "touched"},
    "segment": {"latest_at", "touched", "daemon", "batch"},
    "scraper": {
        *("id", "owed", "token", "ended", "state", "until_up", "holder", "visit_timed", "was_cursor"),
        *("was_answered", "was_owed", "was_event_time", "was_floor_at", "was_latest_at", "was_lost"),
        *("was_shown_end", "undone", "final", "late", "sent", "visit_ups", "overlap_ups", "overlap_token"),
    },
    "owed": {"born", "gone"},
}

#: Columns of bytes that are texts in the records.
_TEXTS = frozenset({"series", "value", "key", "detail"})


def from_row(table: type[Record]) -> Callable[[Sequence[Any]], Record]:
    """Return a function that makes a record of a row of `Table.query`."""
    if table is SegmentRecord:
        return _segment_from
    converters = [
        (place, _text if column in _TEXTS else bytes)
        for place, (column, kind) in enumerate(COLUMNS[table].columns.items())
        if kind == "bytea"
    ]

    def made(row: Sequence[Any]) -> Record:
        values = list(row)
        for place, convert in converters:
            values[place] = convert(values[place])  # psycopg gives buffers
        return table(*values)

    return made


def _segment_from(row: Sequence[Any]) -> Record:
    first, count, total_size, up, clock_at, series, value, offsets = row
    ats = (
        None if offsets is None else own_times((clock_at + each for each in unpack(bytes(offsets))), clock_at)
    )
    text = _text(series)
    assert text is not None
    return SegmentRecord(first, count, total_size, up, clock_at, text, _text(value), ats)


def to_row(table: type[Record]) -> Callable[[Record], Sequence[Any]]:
    """Return a function that makes a row of `Table.columns`; a segment's latest time is behind it."""
    if table is SegmentRecord:
        return _segment_to
    columns = COLUMNS[table].columns.items()
    texts = [place for place, (column, kind) in enumerate(columns) if kind == "bytea" and column in _TEXTS]
    values = values_of(table)

    def made(record: Record) -> Sequence[Any]:
        row = list(values(record))
        for place in texts:
            row[place] = _bytes(row[place])
        return row

    return made


def _segment_to(record: Record) -> Sequence[Any]:
    """Return the columns of a segment, and its latest time."""
    assert isinstance(record, SegmentRecord)
    *plain, series, values, ats = values_of(SegmentRecord)(record)
    offsets = None if ats is None else pack([at - record.clock_at for at in unpack(ats)])
    return (*plain, _bytes(series), _bytes(values), offsets, record.latest_at)


def _text(data: bytes | None) -> str | None:
    try:
        return None if data is None else bytes(data).decode()
    except UnicodeDecodeError as error:
        raise StoreRefused(f"the store is damaged: a text is no UTF-8 ({error.reason})") from error


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
