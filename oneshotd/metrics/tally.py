"""The counts of this process for one scraper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import define

from oneshotd.core.origin import Origin, same_store
from oneshotd.core.visits import KEPT_VISITS, habit_lasts, interval, is_shared
from oneshotd.core.way import Way
from oneshotd.store.interface import ScraperCounts


@define
class Tally:
    """The counts of this process for one scraper, in events.

    :ivar queueing: series whose events wait behind each other now.
    :ivar visits: times of its last scrapes, reactor seconds, ascending.
    :ivar origin: where its last scrape came from.
    :ivar overlaps: times of its last scrapes during another delivery, reactor seconds.
    :ivar way: of the last response to it; None before the first, and for a receiver.
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
    origin: Origin | None = None
    overlaps: tuple[float, ...] = ()
    way: Way | None = None
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

    def visited(self, now: float, origin: Origin | None) -> None:
        """Note a scrape; `now` in reactor seconds."""
        self.visits, self.origin = (*self.visits, now)[-KEPT_VISITS:], origin

    def same_store(self, receivers: Mapping[str, str], now: float) -> tuple[str, ...]:
        """Return the receivers that may be the same store as this scraper, if it has scraped lately.

        :param receivers: name -> host, see `oneshotd.core.origin`.
        :param now: reactor seconds.
        """
        if not self.visits or now - self.visits[-1] > habit_lasts(self.interval):
            return ()
        return same_store(self.origin, receivers)

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
