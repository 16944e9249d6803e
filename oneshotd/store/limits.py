"""How much a store keeps, and for how long."""

from __future__ import annotations

from attrs import frozen

from oneshotd.core.sampling.plan import Caps


@frozen(kw_only=True)
class Limits:
    """How much is kept.

    :param hold: seconds that every event is kept and that a scraper may stay away.
    :param newcomers: seconds of the past that a new scraper sees, at most the hold.
    :param max_events: events in the log.
    :param max_bytes: bytes of event text in the log.
    :param max_keys: idempotency keys; the oldest beyond it are forgotten before their hold is over.
    :param read_bytes: text read for one response, beyond which the rest follows with the next;
        it bounds what a scraper is owed as well, since the log is read only behind it.
    :param read_series: different series read from the log for one response, likewise: more than
        it holds would be read in vain.
    """

    hold: float = 3600.0
    newcomers: float = 300.0
    max_events: int = 1_000_000
    max_bytes: int = 1 << 30
    max_keys: int = 1_000_000
    read_bytes: int = 32 << 20
    read_series: int = Caps().samples
