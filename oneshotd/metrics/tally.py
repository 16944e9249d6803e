"""The counts of this process for one scraper."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from oneshotd.core.visits import interval, is_shared
from oneshotd.store.interface import ScraperCounts


@define
class Tally:
    """The counts of this process for one scraper, in events.

    :ivar queueing: series whose events wait behind each other now.
    :ivar visits: times of its last scrapes, reactor seconds, ascending.
    :ivar overlaps: times of its last scrapes during another delivery, reactor seconds.
    :ivar limits: the limits that its last scrape named.
    :ivar own_beyond: the limits among them that the own metrics exceed, even without events.
    :ivar longest_lag: the longest seconds from `at` of an event to its delivery.
    :ivar lag_since: Unix ms of the first delivery of events, by the store's clock; None before it.
    """

    delivered: int = 0
    returned: int = 0
    revoked: int = 0
    uncertain: int = 0
    superseded: int = 0
    queueing: int = 0
    visits: tuple[float, ...] = ()
    overlaps: tuple[float, ...] = ()
    limits: tuple[str, ...] = ()
    own_beyond: tuple[str, ...] = ()
    longest_lag: float = 0.0
    lag_since: int | None = None

    def delivered_to(self, events: int, ats: Sequence[int], now_ms: int) -> None:
        """Count a delivery that arrived, and how long its oldest event took.

        :param ats: the acceptance time of each event, Unix ms, in any order.
        :param now_ms: now, on the same clock.
        """
        self.delivered += events
        if ats:
            self.longest_lag = max(self.longest_lag, (now_ms - min(ats)) / 1000)
            self.lag_since = now_ms if self.lag_since is None else self.lag_since

    @property
    def interval(self) -> float | None:
        """Return the median of the seconds between its scrapes; None before the third."""
        return interval(self.visits)

    def counts(self, now: float) -> ScraperCounts:
        """Return its figures, where the store keeps none.

        :param now: reactor seconds.
        """
        return ScraperCounts(
            delivered=self.delivered,
            returned=self.returned,
            revoked=self.revoked,
            uncertain=self.uncertain,
            superseded=self.superseded,
            queueing=self.queueing,
            interval=self.interval,
            shared=is_shared(self.overlaps, now),
            longest_lag=None if self.lag_since is None else self.longest_lag,
            lag_since=self.lag_since,
        )
