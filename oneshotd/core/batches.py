"""Records stored by column: sequences that create a record only when one is read.

A body may have 10 000 events and a response 100 000 samples. The parsers, the store and the
exposition read the columns directly, so that no record is created for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, overload

from oneshotd.core.events import NewEvent, Sample

_Row = TypeVar("_Row")


class _Columns(Sequence[_Row]):
    """A sequence of rows over parallel columns; equal to a list of the same rows."""

    _row: Callable[..., _Row]

    def __init__(self, *columns: Sequence[str]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns[0])

    @overload
    def __getitem__(self, index: int) -> _Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[_Row]: ...

    def __getitem__(self, index: int | slice) -> _Row | Sequence[_Row]:
        if isinstance(index, slice):
            return type(self)(*(column[index] for column in self._columns))
        return self._row(*(column[index] for column in self._columns))

    def __iter__(self) -> Iterator[_Row]:
        return map(self._row, *self._columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # unhashable, as a list is


class SeriesBatch(_Columns[NewEvent]):
    """Events that have neither a value nor a key, as the column of their series."""

    _row = NewEvent

    def __init__(self, series: Sequence[str]) -> None:
        super().__init__(series)
        self.series = series


class CountSamples(_Columns[Sample]):
    """Samples of one metric without explicit timestamps, as the columns of series and values."""

    _row = Sample

    def __init__(self, series: Sequence[str], values: Sequence[str]) -> None:
        super().__init__(series, values)
        self.series, self.values = series, values
