"""Choose the timestamp mode of a scraper's next response.

Samples with and without timestamps in one series make some of them fall out of order, so a scraper has
one mode at a time. Prometheus also ends a series whose sample had no timestamp with a staleness marker,
at the time of the next scrape that lacks the series *or fails*. So there may be markers later than the
last response in scrape-time mode, and the daemon does not know of them. Therefore the first response in
event-time mode begins at its own time; events accepted after that keep their times.
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
    """The times that a scraper has been shown; stored with its cursor, and undone with it.

    :param event_time: the last response carried the events' own times.
    :param floor: no sample with an explicit time may be earlier (Unix ms).
    :param latest: the latest time of any sample so far (Unix ms); without timestamps, the time
        of the response. 0 before the first response.
    :param moved: series -> the time to which the response just planned has moved its last sample.
        The store does not keep it.
    """

    event_time: bool = False
    floor: int = 0
    latest: int = 0
    moved: Mapping[str, int] = field(factory=dict)


#: For a new scraper.
NO_HISTORY = TimestampHistory()


def plan_next(
    pending: Pending,
    caps: Caps,
    *,
    wanted: Timestamps,
    several: bool,
    history: TimestampHistory,
    now_ms: int,
    shown: Mapping[str, int],
    ahead: Ahead = NOT_AHEAD,
    limits: ScrapeLimits = NO_LIMITS,
) -> tuple[Plan, TimestampHistory]:
    """Plan a response in the wanted mode, or in the other one until the wanted mode is safe.

    :param several: see `scraper_features.takes_several`.
    :param shown: see `event_time.shown_after`.
    :param ahead: the samples that the scraper has with times ahead of the clock.
    :param limits: see `scrape_time.plan`.
    :returns: the plan, and the history once it is delivered.
    """
    hopeless = ahead.hopeless(now_ms) if ahead.times else None
    if hopeless:
        rest, owed, others = without(pending, hopeless)
        planned, after = _plan_next(rest, caps, wanted, several, history, now_ms, shown, ahead, limits)
        return with_losses(planned, pending, owed, others), after
    return _plan_next(pending, caps, wanted, several, history, now_ms, shown, ahead, limits)


def _plan_next(
    pending: Pending,
    caps: Caps,
    wanted: Timestamps,
    several: bool,
    history: TimestampHistory,
    now_ms: int,
    shown: Mapping[str, int],
    ahead: Ahead,
    limits: ScrapeLimits,
) -> tuple[Plan, TimestampHistory]:
    if wanted is Timestamps.SCRAPE and not (history.event_time and now_ms <= history.latest):
        planned = plan(pending, caps, limits, ahead.blocked(now_ms))
        latest = max(history.latest, now_ms) if planned.samples else history.latest
        return planned, TimestampHistory(event_time=False, floor=history.floor, latest=latest)
    changes = not history.event_time and history.latest > 0
    floor = max(history.floor, history.latest + 1, now_ms) if changes else history.floor
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
        # The markers of this response are at its time, or a few milliseconds before.
        planned = evolve(planned, floor=max(planned.floor, now_ms + 1))
    return planned, TimestampHistory(
        event_time=True,
        floor=planned.floor,
        latest=max(history.latest, planned.latest),
        moved=planned.moved,
    )
