"""Which times a scraper has been shown, and the mode of its next response.

Mixing samples with and without timestamps in one series makes some of them fall out of order, so
a scraper has one mode at a time. Prometheus also ends a series whose sample had no timestamp, by a
marker at the time of the next scrape that lacks it, *or fails*; so beyond the last response in
scrape-time mode there may be markers that nobody here knows of. The first response in event-time
mode therefore begins at its own time, as in the mode before, and the events from then on have
theirs.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen

from oneshotd.core.events import Pending
from oneshotd.core.sampling.ahead import NOT_AHEAD, Ahead, with_losses, without
from oneshotd.core.sampling.event_time import plan_event_time
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.sampling.scrape_time import plan
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits
from oneshotd.core.scraper_features import Timestamps


@frozen(kw_only=True)
class TimestampHistory:
    """What a scraper has been shown so far; kept with its cursor, and undone with it.

    :param event_time: its last response carried the events' own times.
    :param floor: no sample with a time of its own may be earlier (Unix ms).
    :param latest: the latest time of any sample so far (Unix ms); without timestamps, the time
        of the response. 0 where it has had none.
    :param moved: series -> the time to which the response just planned has moved a sample of it. Not
        part of what is given back later.
    """

    event_time: bool = False
    floor: int = 0
    latest: int = 0
    moved: Mapping[str, int] = field(factory=dict)


#: Of a newcomer.
NO_HISTORY = TimestampHistory()


def plan_next(
    pending: Pending,
    caps: Caps,
    *,
    wanted: Timestamps,
    several: bool,
    past: TimestampHistory,
    now_ms: int,
    shown: Mapping[str, int],
    ahead: Ahead = NOT_AHEAD,
    limits: ScrapeLimits = NO_LIMITS,
) -> tuple[Plan, TimestampHistory]:
    """Plan a response in the mode that is wanted, as soon as that may be.

    :param several: see `abilities.takes_several`.
    :param shown: see `event_time.shown_after`.
    :param ahead: what it was shown while the clock was ahead.
    :param limits: see `sampling.plan`.
    :returns: the plan, and the past once it is delivered.
    """
    hopeless = ahead.hopeless(now_ms) if ahead.times else None
    if hopeless:
        rest, owed, others = without(pending, hopeless)
        planned, after = _plan_next(rest, caps, wanted, several, past, now_ms, shown, ahead, limits)
        return with_losses(planned, pending, owed, others), after
    return _plan_next(pending, caps, wanted, several, past, now_ms, shown, ahead, limits)


def _plan_next(
    pending: Pending,
    caps: Caps,
    wanted: Timestamps,
    several: bool,
    past: TimestampHistory,
    now_ms: int,
    shown: Mapping[str, int],
    ahead: Ahead,
    limits: ScrapeLimits,
) -> tuple[Plan, TimestampHistory]:
    if wanted is Timestamps.SCRAPE and not (past.event_time and now_ms <= past.latest):
        planned = plan(pending, caps, limits, ahead.blocked(now_ms))
        latest = max(past.latest, now_ms) if planned.samples else past.latest
        return planned, TimestampHistory(event_time=False, floor=past.floor, latest=latest)
    changes = not past.event_time and past.latest > 0
    floor = max(past.floor, past.latest + 1, now_ms) if changes else past.floor
    planned = plan_event_time(
        pending,
        caps,
        now_ms=now_ms,
        several=several,
        floor=floor,
        shown=shown,
        ahead=ahead.times,
        limits=limits,
    )
    if changes:
        # The markers of this very response are at its time, or a little before.
        planned = evolve(planned, floor=max(planned.floor, now_ms + 1))
    return planned, TimestampHistory(
        event_time=True,
        floor=planned.floor,
        latest=max(past.latest, planned.latest),
        moved=planned.moved,
    )
