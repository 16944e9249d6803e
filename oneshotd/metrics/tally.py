"""The counts of this process for one scraper."""

from __future__ import annotations

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
        )
