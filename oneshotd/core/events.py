"""The records of the daemon, from a parsed event to a sample.

A *series* is written everywhere as the text in which it is exposed,
``name{a="x",b="y"}``: labels sorted by name, empty values dropped, values escaped. That text
is the identity of the series, what the store keeps and what a scrape answers; behind
`core/parsing/formats.py` the labels are parsed again only for filters and pages (`labels_of`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from attrs import field, frozen

_ESCAPES = {"\\": "\\\\", "\n": "\\n", '"': '\\"'}
_UNESCAPES = {"\\\\": "\\", "\\n": "\n", '\\"': '"'}
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def series_text(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """Return the canonical text of a series.

    :param name: a legal metric name.
    :param labels: (legal label name, any text); empty values are dropped, order does not matter.
    """
    pairs = [f'{key}="{escape(value)}"' for key, value in sorted(labels) if value]
    return f"{name}{{{','.join(pairs)}}}" if pairs else name


def escape(value: str) -> str:
    r"""Escape a label value as the exposition formats do (``\`` ``"`` and newline escaped)."""
    if "\\" in value or '"' in value or "\n" in value:
        return "".join(_ESCAPES.get(char, char) for char in value)
    return value


def metric_of(series: str) -> str:
    """Return the metric name of a series text."""
    return series.partition("{")[0]


def labels_of(series: str) -> dict[str, str]:
    """Return the labels of a series text, unescaped; unknown escapes stay as they are."""
    if "\\" not in series:
        return dict(_LABEL.findall(series))
    return {
        name: re.sub(r"\\.", lambda found: _UNESCAPES.get(found[0], found[0]), value)
        for name, value in _LABEL.findall(series)
    }


def detail_text(details: Mapping[str, str]) -> str:
    """Return names and texts as `NewEvent.detail`: a JSON object without blanks, or "" without any.

    Equal details have equal texts: names are sorted, and only quotes, backslashes and control characters are
    escaped.
    """
    if not details:
        return ""
    return json.dumps(details, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def details_of(detail: str) -> dict[str, str]:
    """Return the names and texts of a `NewEvent.detail`.

    :raises ValueError: the text is none; only a damaged store has one.
    """
    if not detail:
        return {}
    details = json.loads(detail)
    if type(details) is not dict or not all(type(text) is str for text in details.values()):
        raise ValueError("no JSON object of texts")
    return details


class NewEvent(NamedTuple):
    """An event as reported; the store assigns `seq` and `at`.

    A named tuple, not attrs: tens of thousands are created in a second.

    :param series: canonical text of the series.
    :param value: the sample's value as it will be exposed, or None for "one occurrence".
    :param key: the event's own idempotency key (``__id__``), or None.
    :param detail: texts beside the event that are no labels (``detail.*``), see `detail_text`; empty: none. A
        key's digest leaves it out.
    """

    series: str
    value: str | None = None
    key: str | None = None
    detail: str = ""


@frozen(kw_only=True)
class Start:
    """Keep the time of the event, for the `End` of the same key.

    :param event: index of the event in its group. If it is a duplicate, nothing is kept.
    :param key: a digest of what begins, see `ingest.dialects.keys`.
    :param seconds: for how long the time is kept.
    """

    event: int
    key: str
    seconds: float


@frozen(kw_only=True)
class End:
    """Give the event the seconds since the `Start` of the same key as its value, and forget that.

    Without such a start, or if that is too old, the event keeps its value.
    """

    event: int
    key: str


@frozen(kw_only=True)
class Count:
    """Store the event as many times as a count that its sender keeps has grown.

    The last of them has its details. Limits are in `store.planning`.

    :param count: the present count; it is kept, unless a greater one was.
    :param unknown: how many times the event is stored where no count is kept.
    :param seconds: for how long the count is kept.
    """

    event: int
    key: str
    count: int
    unknown: int
    seconds: float


#: Seconds for which a state is kept at most, whatever a `StateChange` says.
MAX_STATE_SECONDS = 7 * 86400.0

#: A change of the keyed state that the store keeps beside the log, asked for by an event.
StateChange = Start | End | Count


@frozen(kw_only=True)
class Group:
    """Events that are stored together or not at all.

    :param events: at least one.
    :param key: one idempotency key for the whole group (``Idempotency-Key``), or None; the
        events of a group with a key have none of their own.
    :param states: what its events need of the store's state, in order; resolved in the transaction that
        stores them. A group with `key` has no `Count`.
    :param keys_decide: a known key is a duplicate whatever the content, instead of a conflict.
    """

    events: Sequence[NewEvent]
    key: str | None = None
    states: Sequence[StateChange] = ()
    keys_decide: bool = False


class Event(NamedTuple):
    """One held event.

    :param seq: its place in the log; grows, never reused.
    :param at: acceptance time in integer Unix milliseconds, unique within the series.
    :param detail: as in `NewEvent`; only the look at the log reads it, a scrape does not.
    """

    seq: int
    at: int
    series: str
    value: str | None
    detail: str = ""


@frozen(kw_only=True)
class Pending:
    """The pending events of a scraper, as parallel columns (a scrape may have 100 000 events).

    The first `owed` rows are the events behind the cursor, the rest come after it; each part
    ascends by seq.

    :param cursor: the scraper's cursor at the time of reading.
    :param end: the seq up to which the log was read (the cursor where nothing new was read).
    :param owed_total: how many events the scraper is owed in all, read here or not.
    """

    seqs: Sequence[int] = ()
    series: Sequence[str] = ()
    values: Sequence[str | None] = ()
    ats: Sequence[int] = ()
    owed: int = 0
    owed_total: int = 0
    cursor: int = field(default=0)
    end: int = field(default=0)

    def __len__(self) -> int:
        return len(self.seqs)

    def rows(self, seqs: set[int]) -> list[Event]:
        """Return the events with these seqs."""
        if not seqs:
            return []
        columns = zip(self.seqs, self.ats, self.series, self.values, strict=True)
        return [Event(*row) for row in columns if row[0] in seqs]


class Sample(NamedTuple):
    """One line of a response.

    :param value: text as exposed.
    :param at: explicit timestamp in Unix milliseconds, or None for "the time of the scrape".
    """

    series: str
    value: str
    at: int | None = None
