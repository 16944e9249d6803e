"""A copy is compared with what it was made of, and a damaged log is not copied."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pytest
from attrs import evolve
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from oneshotd.errors import StoreRefused
from oneshotd.store.segment_columns import pack
from oneshotd.store.sqlite.transfer import SQLiteExport, SQLiteImport
from oneshotd.store.transfer import IExport, IImport, copy
from oneshotd.store.transfer_records import (
    NAMES,
    TABLES,
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
)

SEGMENT = SegmentRecord(4, 2, 20, 100, 1000, "a\nb", "1\n", pack([1000, 1001]))
FILLED: Mapping[type[Record], Sequence[Record]] = {
    StateRecord: [StateRecord(3, 10, 0, 200, 900, 60_000, 150)],
    SegmentRecord: [SEGMENT, SegmentRecord(6, 1, 30, 101, 1002, "c", None, None)],
    ScraperRecord: [ScraperRecord("p", True, False, 3, 5, 120, 1010, False, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7)],
    OwedRecord: [OwedRecord("p", 2, 900, "z", None)],
    ShownRecord: [ShownRecord("p", "a", 1000, 90, True)],
    KeyRecord: [KeyRecord("k", b"digest", 1, 0, 4, 100)],
    DetailRecord: [DetailRecord(4, '{"text":"x"}'), DetailRecord(6, '{"a":"y"}')],
    KeyedStateRecord: [KeyedStateRecord("s", 5, 300), KeyedStateRecord("t", 10**15, 10**12)],
    LossRecord: [LossRecord("p", "away", 7, 50)],
}


@implementer(IExport, IImport)
class Lists:
    """A store of lists.

    :param fault: a record that is read back as another one; None: as nothing.
    """

    def __init__(
        self,
        tables: Mapping[type[Record], Iterable[Record]] | None = None,
        *,
        lacks: Mapping[type[Record], frozenset[str]] | None = None,
        fault: tuple[Record, Record | None] | None = None,
    ) -> None:
        self.lacks = lacks or {}
        self.tables: dict[type[Record], list[Record]] = {t: list(r) for t, r in (tables or {}).items()}
        self._fault = fault

    def sizes(self) -> Mapping[type[Record], int]:
        return {table: len(self.tables[table]) for table in TABLES}

    def read(self, table: type[Record]) -> Iterator[Record]:
        for record in self.tables[table]:
            if self._fault is None or record != self._fault[0]:
                yield record
            elif self._fault[1] is not None:
                yield self._fault[1]

    def write(self, table: type[Record], records: Iterable[Record]) -> None:
        self.tables[table] = list(records)

    def end(self) -> None: ...

    def commit(self) -> None: ...

    def close(self) -> None: ...


def quietly(what: str, table: type[Record], done: int, total: int) -> None:
    """Report nothing."""


def test_the_back_ends_keep_the_interface() -> None:
    """The command would fail in the middle."""
    verifyClass(IExport, SQLiteExport, tentative=True)
    verifyClass(IImport, SQLiteImport, tentative=True)
    assert verifyObject(IExport, Lists()) and verifyObject(IImport, Lists())
    assert set(TABLES) == set(NAMES) == set(FILLED)


def test_everything_is_copied_and_counted() -> None:
    """A table would be left out."""
    target = Lists()
    figures = copy(Lists(FILLED), target, quietly)
    assert target.tables == FILLED
    assert figures == {**{table: len(FILLED[table]) for table in TABLES}, SegmentRecord: 3}


@pytest.mark.parametrize("table", TABLES)
def test_a_record_that_is_lost_on_the_way(table: type[Record]) -> None:
    """The operator would start daemons on a copy that lacks something."""
    target = Lists(fault=(FILLED[table][-1], None))
    with pytest.raises(StoreRefused, match="the copy is not equal"):
        copy(Lists(FILLED), target, quietly)


@pytest.mark.parametrize("table", TABLES)
def test_a_record_that_is_changed_on_the_way(table: type[Record]) -> None:
    """The operator would start daemons on a copy with another cursor, time or text."""
    good = FILLED[table][0]
    for name in good.__attrs_attrs__:
        value = getattr(good, name.name)
        other = {str: "x", bytes: b"x", bool: not value, type(None): "x"}.get(type(value), 99)
        target = Lists(fault=(good, evolve(good, **{name.name: other})))
        with pytest.raises(StoreRefused, match="the copy is not equal"):
            copy(Lists(FILLED), target, quietly)


def test_what_a_back_end_does_not_keep_is_not_compared() -> None:
    """A store could not be moved to SQLite, which has no place for the last correction of a clock."""
    good = FILLED[StateRecord][0]
    assert isinstance(good, StateRecord)
    fault = (good, evolve(good, corrected_at=None))
    copy(Lists(FILLED), Lists(lacks={StateRecord: frozenset({"corrected_at"})}, fault=fault), quietly)


@pytest.mark.parametrize(
    ("segment", "why"),
    [
        (evolve(SEGMENT, first=5), "segment 5 does not follow"),
        (evolve(SEGMENT, count=3), "segment 4 has 2 events instead of 3"),
        (evolve(SEGMENT, values="1\n2\n3"), "the columns of segment 4 differ in length"),
        (evolve(SEGMENT, ats=pack([1000])), "the columns of segment 4 differ in length"),
        (evolve(SEGMENT, ats=pack([1000, -1])), "segment 4 has a time that is none"),
        (evolve(SEGMENT, series="a\\\nb"), "segment 4 has an escape that is none"),
        (evolve(SEGMENT, total_size=40), "segment 6 does not follow"),
    ],
)
def test_a_damaged_log_is_not_copied(segment: SegmentRecord, why: str) -> None:
    """A later scrape would fail in the new store, when the old one is gone."""
    tables = {**FILLED, SegmentRecord: [segment, *FILLED[SegmentRecord][1:]]}
    with pytest.raises(StoreRefused, match=f"the log is damaged: {why}"):
        copy(Lists(tables), Lists(), quietly)


@pytest.mark.parametrize(
    ("detail", "why"),
    [
        (DetailRecord(3, "{}"), "3 is of no event in the log"),
        (DetailRecord(7, "{}"), "7 is of no event in the log"),
        (DetailRecord(4, '{"text":"x'), "4 is no JSON object of texts"),
        (DetailRecord(4, '{"text":1}'), "4 is no JSON object of texts"),
        (DetailRecord(4, '["text"]'), "4 is no JSON object of texts"),
    ],
)
def test_a_damaged_detail_is_not_copied(detail: DetailRecord, why: str) -> None:
    """The page and the API of the new store would fail, or another event would get the text."""
    with pytest.raises(StoreRefused, match=f"the log is damaged: the detail of event {why}"):
        copy(Lists({**FILLED, DetailRecord: [detail]}), Lists(), quietly)


def test_progress_is_reported() -> None:
    """A long copy would look as if it hung."""
    segments = [
        SegmentRecord(4 + n * 2000, 2000, 10, 0, 0, "\n".join("a" * 2000), None, None) for n in range(9)
    ]
    told: list[tuple[str, int, int]] = []

    def report(what: str, table: type[Record], done: int, total: int) -> None:
        if table is SegmentRecord:
            told.append((what, done, total))

    source = Lists({**FILLED, SegmentRecord: segments})
    source.sizes = lambda: {**dict.fromkeys(TABLES, 1), SegmentRecord: 18000}  # type: ignore[method-assign]
    copy(source, Lists(), report)
    steps = [6000, 12000, 18000, 18000]
    assert told == [(what, done, 18000) for what in ("copied", "checked") for done in steps]


def test_memory_does_not_grow_with_the_store() -> None:
    """A store of many gigabytes could not be moved."""
    text = "\n".join("a" * 100 for _ in range(2000))

    class Long(Lists):
        written = 0

        def read(self, table: type[Record]) -> Iterator[Record]:
            if table is not SegmentRecord:
                yield from FILLED[table]
                return
            for number in range(30):
                yield SegmentRecord(4 + number * 2000, 2000, 0, 0, 0, text + "", None, None)

        def write(self, table: type[Record], records: Iterable[Record]) -> None:
            for _ in records:
                self.written += 1

    tracemalloc.start()
    try:
        copy(Long(FILLED), long := Long(), quietly)
        assert long.written == 30 + sum(len(FILLED[table]) for table in TABLES if table is not SegmentRecord)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(text)
    finally:
        tracemalloc.stop()
