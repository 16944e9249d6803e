"""Render one response to a scrape: the events, then the daemon's own metrics, within one limit for both."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from oneshotd.core import exposition
from oneshotd.core.negotiation import Format
from oneshotd.core.sampling.mode import TimestampHistory, plan_next
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.sampling.suspects import Search, Turn
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits
from oneshotd.core.scrape_request import Wanted
from oneshotd.core.scraper_features import Timestamps
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import Reservation, StoreStats


@frozen(kw_only=True)
class Response:
    """A response, and how to settle it.

    :param history: what the scraper has been shown once this response is delivered.
    :param turn: the events from which the response was planned.
    :param own_beyond: the limits that the daemon's own metrics exceed, even without events.
    """

    body: bytes
    plan: Plan
    history: TimestampHistory
    turn: Turn
    own_beyond: tuple[str, ...] = ()


def respond(
    reservation: Reservation,
    wanted: Wanted,
    *,
    telemetry: Telemetry,
    stats: StoreStats | None,
    caps: Caps,
    default: Timestamps,
    now_ms: int,
    shown: Mapping[str, int],
    search: Search | None = None,
) -> Response:
    """Plan and render a response; the reservation and the search stay as they are.

    The own metrics get at most half of what the scraper's limits allow. If not even one event has
    room beside them, the events are planned first, and the own metrics get the rest.

    :param stats: None: the store did not answer.
    :param now_ms: Unix ms.
    :param shown: see `event_time.shown_after`.
    :param search: the search for a sample that the scraper refuses, which decides which events may be
        shown. None: all.
    """
    limits = wanted.limits
    metrics = telemetry.own_metrics(stats, wanted.format)
    alone = limits.less(0, len(metrics.end))
    mode = wanted.timestamps or default

    def plan_within(budget: ScrapeLimits) -> tuple[Plan, TimestampHistory, Turn]:
        turn = (search or Search()).choose(
            reservation.pending,
            _within(caps, budget),
            several=wanted.several and mode is Timestamps.EVENT,
        )
        planned, history = plan_next(
            turn.pending,
            turn.caps,
            wanted=mode,
            several=wanted.several,
            history=reservation.history,
            now_ms=now_ms,
            shown=shown,
            ahead=reservation.ahead,
            limits=alone,
        )
        return turn.complete(planned), history, turn

    own, samples = metrics.within(limits.half())
    planned, history, turn = plan_within(limits.less(samples, len(own)))
    if not planned.samples and samples and len(reservation.pending) and limits is not NO_LIMITS:
        without_own = plan_within(alone)
        if without_own[0].samples:
            (planned, history, turn), samples = without_own, 0
    write = exposition.openmetrics if wanted.format is Format.OPENMETRICS else exposition.text
    events = write(planned.samples)
    if not samples:
        own, _ = metrics.within(limits.less(len(planned.samples), len(events)))
    return Response(
        body=events + own, plan=planned, history=history, turn=turn, own_beyond=metrics.beyond(limits)
    )


def _within(caps: Caps, limits: ScrapeLimits) -> Caps:
    """Return the caps of the events' part of a response: at least one sample and one byte."""
    return evolve(
        caps,
        samples=max(1, caps.samples if limits.samples is None else min(caps.samples, limits.samples)),
        bytes=max(1, caps.bytes if limits.body is None else min(caps.bytes, limits.body)),
    )
