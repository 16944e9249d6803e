"""One response to a scrape: which events are in it, in which mode and format.

A response is the events, then the daemon's own metrics, within one limit for both.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from oneshotd.core import exposition
from oneshotd.core.abilities import Timestamps
from oneshotd.core.negotiate import Format
from oneshotd.core.sampling import Caps, Plan
from oneshotd.core.scrape_request import Wanted
from oneshotd.core.timeline import Past, plan_next
from oneshotd.store.interface import Census, Reservation
from oneshotd.telemetry import Telemetry


@frozen(kw_only=True)
class Response:
    """A response, and how to settle it.

    :param past: what the scraper has been shown once this is delivered.
    """

    body: bytes
    plan: Plan
    past: Past


def respond(
    reservation: Reservation,
    wanted: Wanted,
    *,
    telemetry: Telemetry,
    census: Census,
    caps: Caps,
    default: Timestamps,
    now_ms: int,
    shown: Mapping[str, int],
) -> Response:
    """Make a response; nothing moves.

    :param now_ms: Unix ms.
    :param shown: see `event_time.shown_after`.
    """
    limit = wanted.limit
    own, samples = telemetry.render(census, wanted.format, None if limit is None else limit // 2)
    if limit is not None:
        caps = evolve(caps, samples=min(caps.samples, limit - samples))
    planned, past = plan_next(
        reservation.pending,
        caps,
        wanted=wanted.timestamps or default,
        several=wanted.several,
        past=reservation.past,
        now_ms=now_ms,
        shown=shown,
        ahead=reservation.ahead,
    )
    if not planned.samples and not samples:
        own, _ = telemetry.render(census, wanted.format, limit)  # a response is never empty
    write = exposition.openmetrics if wanted.format is Format.OPENMETRICS else exposition.text
    return Response(body=write(planned.samples) + own, plan=planned, past=past)
