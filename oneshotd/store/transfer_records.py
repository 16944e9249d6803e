"""The records of a store that is copied: each table has one record type.

A record says what its row means, not how a back end keeps it: texts are `str`, times of events absolute, and
a scraper is named instead of numbered. Times called `up` (ms of the service's up-time) are copied as they
are, and the target continues from `StateRecord.up`, so that everything keeps its age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from attrs import field, fields, frozen

from oneshotd.store.segment_columns import pack, unpack


@frozen
class Record:
    """A row of a table."""


@frozen
class StateRecord(Record):
    """The one row of a store.

    :param pruned: seq up to which the log was deleted.
    :param pruned_size: bytes of text that were ever logged up to there.
    :param at: no event gets an earlier time (Unix ms).
    :param up: the present up-time.
    :param corrected_at: when a clock that was ahead was last corrected (Unix ms); `corrected_ms`: by how
        much; `corrected_up`: up-time of that. None: it never was.
    """

    pruned: int
    pruned_size: int
    at: int
    up: int
    corrected_at: int | None = None
    corrected_ms: int | None = None
    corrected_up: int | None = None


@frozen
class SegmentRecord(Record):
    """A segment of the log, with the columns of `segment_columns`.

    :param ats: None if all events have the time `clock_at`.
    """

    first: int
    count: int
    total_size: int
    up: int
    clock_at: int
    series: str
    values: str | None
    ats: bytes | None

    @property
    def latest_at(self) -> int:
        """The latest time of its events (Unix ms)."""
        return self.clock_at if self.ats is None else max(unpack(self.ats))


@frozen
class ScraperRecord(Record):
    """A scraper; `IStore`, `TimestampHistory` and the schemas explain the fields.

    Fields with a default are kept where daemons share the store; elsewhere a daemon has them in memory.
    """

    name: str
    named: bool = field(converter=bool)
    timed: bool = field(converter=bool)
    answered: int
    cursor: int
    seen_up: int
    seen_at: int
    event_time: bool = field(converter=bool)
    floor_at: int
    latest_at: int
    timed_up: int = -1
    shown_end: int = 0
    delivered: int = 0
    returned: int = 0
    revoked: int = 0
    uncertain: int = 0
    superseded: int = 0
    queueing: int = 0


@frozen
class OwedRecord(Record):
    """An event behind a scraper's cursor that it has yet to get."""

    scraper: str
    seq: int
    at: int
    series: str
    value: str | None


@frozen
class ShownRecord(Record):
    """The time of the latest sample of a series that a scraper has got; see the schemas."""

    scraper: str
    series: str
    at: int
    up: int
    ahead: bool = field(converter=bool)


@frozen
class KeyRecord(Record):
    """An idempotency key with its first answer; see `planning.Known`."""

    key: str
    digest: bytes
    stored: int
    duplicates: int
    first: int
    up: int


@frozen
class DetailRecord(Record):
    """The text beside an event (`NewEvent.detail`); an event without any has no record."""

    seq: int
    detail: str


@frozen
class KeyedStateRecord(Record):
    """A state of a sender; see `planning.State`.

    :param until_up: up-time after which it is expired.
    """

    key: str
    value: int
    until_up: int


@frozen
class LossRecord(Record):
    """The number of events that a scraper missed for one reason."""

    scraper: str
    reason: str
    events: int
    up: int


#: The tables in the order of copying. The records of a table ascend by their first field or fields, where
#: texts are compared by their bytes in UTF-8.
TABLES: tuple[type[Record], ...] = (
    *(StateRecord, SegmentRecord, ScraperRecord, OwedRecord, ShownRecord, KeyRecord),
    *(DetailRecord, KeyedStateRecord, LossRecord),
)

#: Table -> the name of its records in messages.
NAMES: Mapping[type[Record], str] = {
    StateRecord: "state",
    SegmentRecord: "events",
    ScraperRecord: "scrapers",
    OwedRecord: "owed events",
    ShownRecord: "timestamps of samples",
    KeyRecord: "idempotency keys",
    DetailRecord: "details",
    KeyedStateRecord: "keyed states",
    LossRecord: "losses",
}


def values_of(table: type[Record]) -> Callable[[Record], tuple[Any, ...]]:
    """Return a function that returns the fields of a record of a table, in their order."""
    return attrgetter(*(each.name for each in fields(table)))


def own_times(ats: Iterable[int], clock_at: int) -> bytes | None:
    """Return the times of a segment's events as `SegmentRecord.ats`."""
    times = list(ats)
    return None if times.count(clock_at) == len(times) else pack(times)
