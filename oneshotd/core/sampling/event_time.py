"""Pending events -> samples that carry the time of their event (``timestamps=event``).

Each event is a sample with its `at` as explicit timestamp. A scraper that takes several samples of a
series in one response gets all of them. Other scrapers get one sample of a series: events without a
value are counted in it (by the table in `core/sampling/scrape_time.py`), with the `at` of the last one.

A sample that is planned again, because its delivery was returned, has the same time and value again, so
that a scraper that did read it can recognise it. A sample's time is moved only

* up to the *edge*, `SAFE_AGE` before now: scrapers drop samples that are much older;
* up to the *floor*, before which this scraper has other samples already;
* past the samples of its series that this scraper has ahead of the clock (`core/sampling/ahead.py`);
* past the samples of its series that were moved so; they still ascend, a millisecond apart.

The floor follows the moved samples: the next response begins after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType

from attrs import evolve

from oneshotd.core.events import Pending, Sample
from oneshotd.core.exposition import STAMP_SIZE, line_size
from oneshotd.core.sampling.plan import COUNT, Caps, Plan, ResponseBudget, Sieve, build_plan, readable
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits

#: Age in milliseconds beyond which the sample of an event is moved to a later time. Prometheus drops a
#: sample more than an hour older than its newest one, as out of bounds (half of the head's two hours), or
#: fails the whole scrape where an out-of-order window is set (prometheus#13272).
SAFE_AGE = 30 * 60 * 1000

#: Milliseconds that a sample may be ahead of the clock; an event beyond that waits. (The events of a
#: burst in one series are a millisecond apart and can run ahead of the clock, which itself may
#: have been set back.) Prometheus drops samples more than ten minutes ahead of its own clock.
MAX_AHEAD = 5 * 60 * 1000

_NONE: Mapping[str, int] = MappingProxyType({})


def plan_event_time(
    pending: Pending,
    caps: Caps,
    *,
    now_ms: int,
    several: bool,
    floor: int = 0,
    shown: Mapping[str, int] = _NONE,
    ahead: Mapping[str, int] = _NONE,
    limits: ScrapeLimits = NO_LIMITS,
) -> Plan:
    """Plan one response in event-time mode; the walk ends as `core/sampling/plan.py` describes.

    :param now_ms: Unix ms.
    :param several: the scraper takes several samples of a series in one response.
    :param floor: no sample is earlier (Unix ms): `Plan.floor` of this scraper's last delivery,
        or a millisecond after its last response in the other mode.
    :param shown: see `shown_after`; nothing needs it where `several`.
    :param ahead: series -> time of the latest sample that this scraper has of it ahead of the clock
        (`core/sampling/ahead.py`): the next sample is later, and waits until the clock is.
    """
    walk = _Walk(
        several, max(now_ms - SAFE_AGE, floor), now_ms + MAX_AHEAD, ResponseBudget(caps), shown, ahead
    )
    walk.closed.update(series for series, at in ahead.items() if at >= now_ms)
    owed = pending.owed
    rows = walked = readable(pending)
    waiting: list[int] = []
    columns = zip(range(rows), pending.series, pending.values, pending.ats, strict=False)
    sieve = Sieve.of(limits, STAMP_SIZE)
    for row, series, value, at in columns:
        if sieve is not None and sieve.stops(row, series, value):
            continue
        if walk.show(series, value, at):
            continue
        if walk.full or (row >= owed and len(waiting) >= caps.owed):
            walked = row
            break
        walk.closed.add(series)
        waiting.append(row)
    return evolve(
        build_plan(pending, walked, waiting, walk.samples(), sieve),
        floor=max(floor, walk.moved + 1),
        latest=max(walk.times.values(), default=0),
        counted=walk.counted,
        moved=walk.moved_series,
    )


def shown_after(shown: Mapping[str, int], planned: Plan, *, delivered: bool, now_ms: int) -> dict[str, int]:
    """Return the counts that a scraper may have read and that are still pending.

    A scraper may have read a response that was returned or revoked. A later response must not show a
    count of it with further events: 2 and then 3 would add up to 5 for 3 events. (A count with fewer
    events is possible: smaller caps can cut it.)

    :param shown: the result for the previous response; empty at first.
    :param delivered: whether this response was delivered; False after a revocation.
    :return: series -> `at` of the last event in the count that was shown. Only counts younger than
        `SAFE_AGE`: older ones get another time, so that a repetition cannot be recognised.
    """
    if not delivered:
        shown = {**shown, **planned.counted}
    gone = {sample.series for sample in planned.samples} if delivered else ()
    return {series: at for series, at in shown.items() if at > now_ms - SAFE_AGE and series not in gone}


class _Walk:
    """The samples of a response while the walk fills it.

    :ivar times: series -> time of its last sample.
    :ivar counted: series -> `at` of the last event in its sample, where that is a count.
    :ivar closed: series whose next events wait.
    :ivar moved: the latest time to which an event was moved.
    :ivar moved_series: series -> the latest time to which one of its events was moved.
    :ivar full: one more sample did not fit.
    """

    def __init__(
        self,
        several: bool,
        bottom: int,
        horizon: int,
        budget: ResponseBudget,
        shown: Mapping[str, int],
        ahead: Mapping[str, int],
    ) -> None:
        self.times: dict[str, int] = {}
        self.counted: dict[str, int] = {}
        self.closed: set[str] = set()
        self.moved = -1
        self.moved_series: dict[str, int] = {}
        self._ahead = ahead
        self.full = False
        self._several = several
        self._bottom = bottom
        self._horizon = horizon
        self._budget = budget
        self._shown = shown
        self._lines: dict[str, list[Sample]] = {}
        self._counts: dict[str, int] = {}

    def show(self, series: str, value: str | None, at: int) -> bool:
        """Add the event to the response; return False if it must wait."""
        time = at if at > self._bottom else self._bottom
        if self._ahead:
            time = max(time, self._ahead.get(series, -1) + 1)
        if self._several and time <= self.times.get(series, -1):
            time = self.times[series] + 1
        if time > self._horizon or series in self.closed:
            return False
        if self._several:
            if not self._open(Sample(series, "1" if value is None else value, time)):
                return False
        elif value is not None:
            if series in self.times or not self._open(Sample(series, value, time)):
                return False
            self.closed.add(series)
        elif series not in self.times:
            if not self._open(Sample(series, COUNT, time)):
                return False
            self._counts[series] = 1
        elif at > self._shown.get(series, at):
            return False
        else:
            self._counts[series] += 1
        if series in self._counts:
            self.counted[series] = at
        self.times[series] = time
        if time != at:
            self.moved_series[series] = time
            self.moved = max(self.moved, time)
        return True

    def _open(self, sample: Sample) -> bool:
        series, value, _ = sample
        self.full = not self._budget.take(series, line_size(series, value) + STAMP_SIZE)
        if self.full and not self._lines:
            # Alone in the response, perhaps with no space for a longer count.
            least = line_size(series, "1" if value == COUNT else value) + STAMP_SIZE
            self.full = not self._budget.holds_alone(series, least)
            if value == COUNT:
                self.closed.add(series)
        if not self.full:
            self._lines.setdefault(series, []).append(sample)
        return not self.full

    def samples(self) -> list[Sample]:
        """Return all samples, grouped by series and ascending."""
        for series, count in self._counts.items():
            self._lines[series] = [Sample(series, str(count), self.times[series])]
        return list(chain.from_iterable(self._lines.values()))
