"""Pending events -> the samples of one scrape response, in scrape-time mode.

The text format and every scraper demand at most one sample of a series in a response. What happens
to an event depends only on what its series has had in this response so far:

=================  =======================  =====================
so far             event without a value    event with a value
=================  =======================  =====================
nothing            opens a counting sample  is a sample, closes
counting sample    is counted in it         waits, closes
closed             waits                    waits
=================  =======================  =====================

So no event ever overtakes an earlier one of its series. Where the walk ends, and which events are
owed or passed over, is in `core/sampling/plan.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container

from oneshotd.core.batches import CountSamples
from oneshotd.core.events import Pending, Sample, metric_of
from oneshotd.core.exposition import head_size, line_size
from oneshotd.core.sampling.plan import (
    COUNT,
    Caps,
    Plan,
    ResponseBudget,
    Sieve,
    build_plan,
    cursor_after,
    readable,
)
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits


def plan(
    pending: Pending, caps: Caps, limits: ScrapeLimits = NO_LIMITS, blocked: Container[str] = ()
) -> Plan:
    """Plan one response in scrape-time mode.

    :param limits: of the scraper; sizes are of the events' part of the response.
    :param blocked: series whose events wait (`core/sampling/ahead.py`).
    """
    counted = None if blocked else _all_counted(pending, caps, limits)
    return counted or _walk(pending, caps, Sieve.of(limits), blocked)


def _walk(pending: Pending, caps: Caps, sieve: Sieve | None, blocked: Container[str] = ()) -> Plan:
    owed = pending.owed
    rows = walked = readable(pending)
    budget = ResponseBudget(caps)
    counts: dict[str, int] = {}  # every series that has a sample, in order of appearance
    valued: dict[str, str] = {}
    closed: set[str] = set()
    waiting: list[int] = []
    for row, series, value in zip(range(rows), pending.series, pending.values, strict=False):
        if sieve is not None and sieve.stops(row, series, value):
            continue
        if series not in counts and series not in blocked:
            if not budget.take(series, line_size(series, COUNT if value is None else value)):
                if counts or not budget.holds_alone(series, line_size(series, value or "1")):
                    walked = row
                    break
                closed.add(series)  # alone in the response, with no space for a longer count
            counts[series] = 1
            if value is not None:
                valued[series] = value
                closed.add(series)
        elif value is None and series not in closed and series not in blocked:
            counts[series] += 1
        elif row >= owed and len(waiting) >= caps.owed:  # all waiting events become owed
            walked = row
            break
        else:
            closed.add(series)
            waiting.append(row)
    shown: dict[str, int | str] = {**counts, **valued}
    samples = list(map(Sample, shown, map(str, shown.values())))
    return build_plan(pending, walked, waiting, samples, sieve)


def _all_counted(pending: Pending, caps: Caps, limits: ScrapeLimits) -> Plan | None:
    """Plan by columns, with the result of `_walk`, in the common case; return None in all others.

    The common case: no event has a value, none is owed, and either all series fit, or the first
    `caps.samples` events have different series.
    """
    if pending.owed_total or any(pending.values):
        return None
    rows, series = len(pending), pending.series
    first = series[: caps.samples]
    seen = set(first)
    if len(seen) == len(first) and (rows == len(first) or series[len(first)] not in seen):
        shown, values, rows = first, ["1"] * len(first), len(first)
    else:
        counts = Counter(series)
        if len(counts) > caps.samples:
            return None
        shown, values = list(counts), list(map(str, counts.values()))
    if limits is not NO_LIMITS and (rows < len(pending) or any(map(limits.series_fault, shown))):
        return None  # only a walk finds the events to pass over
    lines = "\n".join(shown)
    size = (len(lines) if lines.isascii() else len(lines.encode())) + len(shown) * (2 + len(COUNT))
    names = _names(lines, shown)
    if size + sum(map(head_size, names)) > caps.bytes:
        return None
    return Plan(
        samples=CountSamples(shown, values) if len(names) == 1 else list(map(Sample, shown, values)),
        ats=pending.ats[:rows],
        cursor=cursor_after(pending, rows),
        newly_owed=[],
        went_out=[],
        queueing={},
    )


def _names(lines: str, series: Collection[str]) -> set[str]:
    """Return the metric names of these series.

    :param lines: the series, one a line.
    """
    name = metric_of(lines.partition("\n")[0])
    if lines.startswith(name + "{") and lines.count(f"\n{name}{{") == len(series) - 1:
        return {name}
    return set(map(metric_of, series))
