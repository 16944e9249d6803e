"""Copy a store into an empty one of any kind: what a back end implements for it.

A back end gives `IExport` and `IImport`. `copy` writes all records (`transfer_records.py`) of one into the
other, reads them back, and compares them, in one transaction of the target. Records are streamed, so memory
is bounded by a segment. Leases are not copied: no daemon runs, so a reserved event is pending again, and a
delivery that was settled is final.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from marshal import dumps
from operator import attrgetter

from attrs import fields
from zope.interface import Attribute, Interface

from oneshotd.errors import StoreRefused
from oneshotd.store.segment_columns import ColumnsDamaged, decode
from oneshotd.store.soundness import fault_in_detail
from oneshotd.store.transfer_records import NAMES, TABLES, DetailRecord, Record, SegmentRecord, StateRecord

#: Records between two reports of progress.
STEP = 5000


class IExport(Interface):
    """A store that is read, from one snapshot, while no daemon can use it.

    Methods raise `StoreUnavailable` if the store cannot be read.
    """

    lacks: Mapping[type[Record], frozenset[str]] = Attribute(
        """Table -> fields that this back end does not keep; they have their defaults."""
    )

    def sizes() -> Mapping[type[Record], int]:
        """Return the number of events in the log, and of the records of the other tables."""

    def read(table: type[Record]) -> Iterator[Record]:
        """Read a table, in its order; one at a time."""

    def end() -> None:
        """Shut out whatever a daemon still has under way in the store; call it at the end."""

    def close() -> None:
        """Close the store."""


class IImport(Interface):
    """An empty store that is filled in one transaction.

    Methods raise `StoreUnavailable` if the store cannot be written.
    """

    lacks: Mapping[type[Record], frozenset[str]] = Attribute(
        """Table -> fields that this back end does not keep."""
    )

    def write(table: type[Record], records: Iterable[Record]) -> None:
        """Write all records of a table. Tables are written in the order of `TABLES`."""

    def read(table: type[Record]) -> Iterator[Record]:
        """Read a written table back, before `commit`; one at a time."""

    def commit() -> None:
        """Make everything durable.

        :raises OutcomeUnknown: the connection was lost at that moment.
        """

    def close() -> None:
        """Close the store; without `commit` it is empty as before."""


class Digest:
    """The number and the digest of a table's records.

    :param names: the fields that count.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.records = 0
        self.events = 0
        self._names = tuple(names)
        self._hash = blake2b(digest_size=16)

    def over(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass records on, and count them."""
        values = attrgetter(*self._names)
        for record in records:
            # In version 0, equal values have equal bytes; later ones mark objects that are the same.
            self._hash.update(dumps(values(record), 0))
            self.records += 1
            self.events += record.count if isinstance(record, SegmentRecord) else 1
            yield record

    @property
    def result(self) -> tuple[int, str]:
        """The number of records, and the digest."""
        return self.records, self._hash.hexdigest()


def checked_log(segments: Iterable[Record], pruned: int) -> Iterator[Record]:
    """Pass the segments of a log on, as long as they are whole and follow each other.

    :param pruned: seq up to which the log was deleted.
    :raises StoreRefused: the log is damaged.
    """
    following, size = pruned + 1, 0
    for each in segments:
        assert isinstance(each, SegmentRecord)
        if each.first != following or each.total_size < size:
            raise StoreRefused(f"the log is damaged: segment {each.first} does not follow the one before")
        try:
            decode(each.first, each.count, each.clock_at, each.series, each.values, each.ats)
        except ColumnsDamaged as error:
            raise StoreRefused(f"the log is damaged: {error}") from error
        following, size = each.first + each.count, each.total_size
        yield each


def checked_details(details: Iterable[Record], pruned: int, head: int) -> Iterator[Record]:
    """Pass the details of a log on, as long as they are whole and belong to its events.

    :param pruned: seq up to which the log was deleted.
    :param head: seq of its newest event.
    :raises StoreRefused: one is damaged.
    """
    for each in details:
        assert isinstance(each, DetailRecord)
        fault = fault_in_detail(each.detail) if pruned < each.seq <= head else "is of no event in the log"
        if fault is not None:
            raise StoreRefused(f"the log is damaged: the detail of event {each.seq} {fault}")
        yield each


def copy(
    source: IExport, target: IImport, report: Callable[[str, type[Record], int, int], object]
) -> dict[type[Record], int]:
    """Copy every record, and read all of them back; the caller commits.

    :param report: called with what is done ("copied" or "checked"), the table, and how many of how many
        events or records are done.
    :returns: table -> the number of events, or records.
    :raises StoreRefused: the source is damaged, or what was read back is not what was written.
    """
    sizes = source.sizes()
    written = {}
    pruned = 0
    for table in TABLES:
        digest = written[table] = Digest(_common(table, source, target))
        records = digest.over(source.read(table))
        if table is StateRecord:
            [state] = records
            assert isinstance(state, StateRecord)
            records = iter([state])
            pruned = state.pruned
        elif table is SegmentRecord:
            records = checked_log(records, pruned)
        elif table is DetailRecord:
            records = checked_details(records, pruned, pruned + written[SegmentRecord].events)
        target.write(table, _reported(records, digest, "copied", table, sizes[table], report))
    for table, before in written.items():
        digest = Digest(_common(table, source, target))
        records = digest.over(target.read(table))
        for _ in _reported(records, digest, "checked", table, before.events, report):
            pass
        if digest.result != before.result:
            raise StoreRefused(
                f"the copy is not equal: {before.records} rows of {NAMES[table]} were written,"
                f" {digest.records} were read back, or some of them have other contents"
            )
    return {table: digest.events for table, digest in written.items()}


def _common(table: type[Record], source: IExport, target: IImport) -> list[str]:
    lacking = source.lacks.get(table, frozenset()) | target.lacks.get(table, frozenset())
    return [each.name for each in fields(table) if each.name not in lacking]


def _reported(
    records: Iterator[Record],
    digest: Digest,
    what: str,
    table: type[Record],
    total: int,
    report: Callable[[str, type[Record], int, int], object],
) -> Iterator[Record]:
    """Pass records on, and report how many there were, every some of them and at the end."""
    reported = 0
    for record in records:
        yield record
        if digest.events - reported >= STEP:
            reported = digest.events
            report(what, table, reported, total)
    report(what, table, digest.events, total)
