"""Events of series that a scraper has with times ahead of the clock, after the clock was corrected.

A clock that was ahead and is corrected leaves samples in the scrapers' databases whose times are in the
future. A scraper drops a sample with an earlier time as out of order, without an error. So the events of
such a series wait until the clock has passed its latest sample; if that takes longer than events are
held, they count as lost. All other series are delivered as usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

from attrs import evolve, field, frozen

from oneshotd.core.events import Pending
from oneshotd.core.sampling.plan import Plan, readable

#: Reason of a loss: the series has a sample too far ahead of the clock.
CLOCK = "clock"


@frozen(kw_only=True)
class Ahead:
    """The samples that one scraper has with times ahead of the clock.

    :param times: series -> time (Unix ms) of its latest sample, where the clock was ahead then.
    :param hold_ms: the longest time that an event waits (ms).
    """

    times: Mapping[str, int] = field(factory=dict)
    hold_ms: int = 0

    def blocked(self, now_ms: int) -> frozenset[str]:
        """Return the series whose events must wait."""
        return frozenset(series for series, at in self.times.items() if at >= now_ms)

    def hopeless(self, now_ms: int) -> frozenset[str]:
        """Return the series whose events would have to wait longer than the hold."""
        return frozenset(series for series, at in self.times.items() if at - now_ms > self.hold_ms)


#: For a scraper that has no samples ahead of the clock.
NOT_AHEAD = Ahead()


def without(pending: Pending, series: frozenset[str]) -> tuple[Pending, Sequence[int], Sequence[int]]:
    """Remove some series from the pending events; return the rest and the removed seqs (owed, others)."""
    keep = [each not in series for each in pending.series]
    gone = [not each for each in keep]
    owed = pending.owed
    gone_owed = list(compress(pending.seqs[:owed], gone[:owed]))
    rest = evolve(
        pending,
        seqs=list(compress(pending.seqs, keep)),
        series=list(compress(pending.series, keep)),
        values=list(compress(pending.values, keep)),
        ats=list(compress(pending.ats, keep)),
        owed=owed - len(gone_owed),
        owed_total=pending.owed_total - len(gone_owed),
    )
    return rest, gone_owed, list(compress(pending.seqs[owed:], gone[owed:]))


def with_losses(planned: Plan, pending: Pending, owed: Sequence[int], others: Sequence[int]) -> Plan:
    """Add the removed events to a plan as lost, so that its delivery settles them.

    :param planned: of the events that `without` left.
    :param pending: the events before `without`.
    :param owed: the removed owed seqs; all of them are lost.
    :param others: the removed seqs of the log; lost up to the plan's cursor.
    """
    passed = [seq for seq in others if seq <= planned.cursor] if readable(pending) == len(pending) else []
    lost = [*owed, *passed]
    return evolve(planned, lost={**planned.lost, CLOCK: lost}) if lost else planned
