"""What a scraper was shown while the clock was ahead, and what becomes of the next events of these series.

A clock that was ahead and is corrected leaves samples in the scrapers' databases whose time is still
to come. A sample with an earlier time would be dropped there as out of order, without a word. So the
events of such a series wait until the clock has passed it; where that is longer than events are held,
they count as lost. All other series go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

from attrs import evolve, field, frozen

from oneshotd.core.events import Pending
from oneshotd.core.sampling.plan import Plan, readable

#: Why a scraper will never get an event: its series has a sample too far ahead of the clock.
CLOCK = "clock"


@frozen(kw_only=True)
class Ahead:
    """What one scraper was shown ahead of the clock.

    :param times: series -> time (Unix ms) of its latest sample, where the clock was ahead then.
    :param hold_ms: an event does not wait for longer than this (ms).
    """

    times: Mapping[str, int] = field(factory=dict)
    hold_ms: int = 0

    def blocked(self, now_ms: int) -> frozenset[str]:
        """The series whose events cannot go now."""
        return frozenset(series for series, at in self.times.items() if at >= now_ms)

    def hopeless(self, now_ms: int) -> frozenset[str]:
        """The series whose events would have to wait for longer than the hold."""
        return frozenset(series for series, at in self.times.items() if at - now_ms > self.hold_ms)


#: Of a scraper to which nothing of the kind has happened.
NOT_AHEAD = Ahead()


def without(pending: Pending, series: frozenset[str]) -> tuple[Pending, Sequence[int], Sequence[int]]:
    """The pending events without those of some series; and the seqs of these, owed ones and others."""
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
    """The plan of what is left, with the losses that its delivery settles.

    :param pending: all that was pending; its log rows count as far as the plan has come.
    """
    passed = [seq for seq in others if seq <= planned.cursor] if readable(pending) == len(pending) else []
    lost = [*owed, *passed]
    return evolve(planned, lost={**planned.lost, CLOCK: lost}) if lost else planned
