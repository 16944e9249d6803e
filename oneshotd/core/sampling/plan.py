"""The plan of a scrape response, and what both timestamp modes share to make one.

A response is planned by a walk over the pending events (`core/sampling/scrape_time.py` and
`core/sampling/event_time.py`). The walk ends before the event whose sample does not fit any more, or
that would have to be owed beyond the cap. The remaining events stay where they are, in the owed part
or beyond the cursor. An event that is beyond a limit of the scraper by itself is passed over: it is
lost for this scraper.

An event that waits for a later response is *owed*: the cursor passes it, and the next reservation
lists it before the log. Planning changes nothing; the store settles a plan once its response has
been delivered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, compress

from attrs import field, frozen, validators

from oneshotd.core.events import Pending, Sample, metric_of
from oneshotd.core.exposition import head_size, line_size
from oneshotd.core.scrape_limits import ScrapeLimits

#: Series that `Plan.queueing` names at most: it serves a warning, not a count.
MAX_QUEUEING = 100

#: Space reserved for a count, whose digits are not known when its sample is opened (bytes).
COUNT = "0" * 24


@frozen(kw_only=True)
class Caps:
    """Upper bounds of one response, and of the events that one scraper may be owed.

    :param samples: lines in a response; ``?limit=`` may ask for fewer.
    :param bytes: of these lines with their HELP and TYPE, before compression. A sample that is
        larger than this alone could never be sent: keep this above the largest event's text.
    :param owed: events that a scraper may be owed; at this many its cursor stops. (A revoked
        delivery may take it beyond; then nothing new is owed until it is below again.)
    """

    samples: int = field(default=20_000, validator=validators.ge(1))
    bytes: int = field(default=8 * 2**20, validator=validators.ge(1))
    owed: int = field(default=10_000, validator=validators.ge(0))


@frozen(kw_only=True)
class Plan:
    """One response, and how to settle it once it is delivered.

    :param samples: in order of their series' first appearance; the samples of a series stand
        together. In scrape-time mode there is one a series.
    :param ats: the `at` (Unix ms) of each event in the response, for the latencies.
    :param cursor: the scraper's new cursor (seq).
    :param newly_owed: seqs behind the new cursor that are not in the response; ascending.
    :param went_out: owed seqs that are in the response; ascending.
    :param queueing: series -> how many of its events, among those read, wait behind an earlier
        one; the `MAX_QUEUEING` longest queues.
    :param lost: reason -> seqs of events that this scraper will never get; they are counted as
        lost when the response is delivered. These seqs are in none of the other lists.
    :param lost_series: reason -> the series of the first of these events.
    :param floor: event-time mode: the earliest time (Unix ms) that a sample of the next response
        may have.
    :param latest: event-time mode: the latest time (Unix ms) of a sample in this response; 0 for none.
    :param counted: event-time mode, where a scraper takes one sample a series: series -> `at` of
        the last event that is counted in its sample.
    :param moved: event-time mode: series -> time (Unix ms) of its last sample, where that is not the
        time of its event.
    """

    samples: Sequence[Sample]
    ats: Sequence[int]
    cursor: int
    newly_owed: Sequence[int]
    went_out: Sequence[int]
    queueing: Mapping[str, int]
    lost: Mapping[str, Sequence[int]] = field(factory=dict)
    lost_series: Mapping[str, str] = field(factory=dict)
    floor: int = 0
    latest: int = 0
    counted: Mapping[str, int] = field(factory=dict)
    moved: Mapping[str, int] = field(factory=dict)

    @property
    def events(self) -> int:
        """Return the number of events that the samples stand for."""
        return len(self.ats)


class ResponseBudget:
    """The samples and bytes that are left of a response's caps while it is filled."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._samples = caps.samples
        self._bytes = caps.bytes
        self._names: set[str] = set()

    def take(self, series: str, line: int) -> bool:
        """Reserve space for one more sample; return False if there is none, which ends the walk.

        :param line: bytes of its line.
        """
        self._samples -= 1
        self._bytes -= line
        name = metric_of(series)
        if name not in self._names:
            self._names.add(name)
            self._bytes -= head_size(name)
        return self._samples >= 0 and self._bytes >= 0

    def holds_alone(self, series: str, line: int) -> bool:
        """Whether this sample fits into a response without any other sample."""
        return self._caps.samples >= 1 and head_size(series) + line <= self._caps.bytes


class Sieve:
    """Finds the events that exceed a scraper's limits by themselves: no response can hold them.

    :param limits: of the scraper; `body` is the limit of the events' part of a response.
    :param stamp: bytes of an explicit timestamp.
    :ivar rows: reason -> rows of the pending events that exceed a limit, ascending.
    """

    def __init__(self, limits: ScrapeLimits, stamp: int = 0) -> None:
        self.rows: dict[str, list[int]] = {}
        self._limits = limits
        self._stamp = stamp
        self._faults: dict[str, str | None] = {}

    @classmethod
    def of(cls, limits: ScrapeLimits, stamp: int = 0) -> Sieve | None:
        """Return a sieve if one of the limits can be exceeded by one event, else None."""
        return cls(limits, stamp) if set(limits.names) - {"sample_limit"} else None

    def stops(self, row: int, series: str, value: str | None) -> bool:
        """Whether the event exceeds a limit; if so, add its row to `rows`."""
        if series not in self._faults:
            self._faults[series] = self._limits.series_fault(series)
        reason = self._faults[series] or self._size_fault(series, value)
        if reason is not None:
            self.rows.setdefault(reason, []).append(row)
        return reason is not None

    def _size_fault(self, series: str, value: str | None) -> str | None:
        most = self._limits.body
        if most is None or least_size(series, value, self._stamp) <= most:
            return None
        return self._limits.body_name


def least_size(series: str, value: str | None, stamp: int = 0) -> int:
    """Return the bytes of a response with this one event and nothing else.

    :param stamp: bytes of an explicit timestamp.
    """
    return head_size(series) + line_size(series, "1" if value is None else value) + stamp


def readable(pending: Pending) -> int:
    """Return how many rows a walk may read.

    If the store did not read all owed events (``pending.owed < pending.owed_total``), the missing ones
    may be earlier events of any series. Then a walk must not read log rows; the store sends none.
    """
    return pending.owed if pending.owed < pending.owed_total else len(pending)


def build_plan(
    pending: Pending,
    walked: int,
    waiting: Sequence[int],
    samples: Sequence[Sample],
    sieve: Sieve | None = None,
) -> Plan:
    """Return the plan after a walk.

    :param walked: the number of rows that the walk has passed.
    :param waiting: the rows among them whose events wait for another response; ascending.
    :param sieve: has the rows among them whose events this scraper will never get.
    """
    passed_over = {} if sieve is None else sieve.rows
    owed = pending.owed
    goes = bytearray(b"\1") * walked
    for row in chain(waiting, *passed_over.values()):
        goes[row] = 0
    queueing = Counter(pending.series[row] for row in waiting)
    return Plan(
        samples=samples,
        ats=list(compress(pending.ats, goes)),
        cursor=cursor_after(pending, walked),
        newly_owed=[pending.seqs[row] for row in waiting if row >= owed],
        went_out=list(compress(pending.seqs, goes[:owed])),
        queueing=dict(queueing.most_common(MAX_QUEUEING)),
        lost={reason: [pending.seqs[row] for row in rows] for reason, rows in passed_over.items()},
        lost_series={reason: pending.series[rows[0]] for reason, rows in passed_over.items()},
    )


def cursor_after(pending: Pending, walked: int) -> int:
    """Return the cursor (seq) after this many rows."""
    if walked == len(pending):
        return pending.end  # the store may have read the log beyond the last row for this scraper
    return pending.seqs[walked - 1] if walked > pending.owed else pending.cursor
