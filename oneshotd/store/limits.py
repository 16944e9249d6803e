"""The limits of a store: how much it keeps, and for how long."""

from __future__ import annotations

from attrs import frozen

from oneshotd.core.sampling.plan import Caps


@frozen(kw_only=True)
class Limits:
    """The limits of a store.

    :param hold: seconds for which an event is kept, and for which a scraper may be unseen.
    :param newcomers: age in seconds of the oldest event that a new scraper gets, at most the hold.
    :param max_events: events in the log.
    :param max_bytes: bytes of event text in the log, details included.
    :param max_keys: idempotency keys; beyond it the oldest are deleted before the hold is over.
    :param max_states: keyed states; beyond it those that expire first are deleted.
    :param read_bytes: bytes of text read for one response; the next response has the rest. It bounds the
        owed events, too, since the log is read only behind them.
    :param read_series: different series read from the log for one response, which has no room for more.
    """

    hold: float = 3600.0
    newcomers: float = 300.0
    max_events: int = 1_000_000
    max_bytes: int = 1 << 30
    max_keys: int = 1_000_000
    max_states: int = 100_000
    read_bytes: int = 32 << 20
    read_series: int = Caps().samples
