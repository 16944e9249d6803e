"""The books of a cluster campaign: those of `soak.ledger`, and the times of trouble."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from soak.ledger import ON_ITS_WAY, UDP, Books
from soak.sendings import Outage, Sending

#: Seconds after trouble of the database in which a daemon may still refuse what came in meanwhile.
AFTERMATH = 25.0


class ClusterBooks(Books):
    """Where all actors write down what they did; for any thread.

    :ivar troubles: times in which some daemon could not use the database.
    :ivar superseded: scraper -> events that the daemons count as settled too late, in the end.
    :ivar balancer_deaths: monotonic seconds around each end of the balancer.
    """

    def __init__(self, scrapers: tuple[str, ...]) -> None:
        super().__init__(scrapers)
        self.troubles: list[Outage] = []
        self.balancer_deaths: list[float] = []
        self.superseded: dict[str, int] = {}

    @contextmanager
    def trouble(self, kind: str) -> Iterator[None]:
        """Note a time in which some daemon cannot use the database."""
        began = time.monotonic()
        now = Outage(began=began, ended=float("inf"))
        self.troubles.append(now)
        try:
            yield
        finally:
            self.troubles.append(Outage(began=began, ended=time.monotonic() + AFTERMATH))
            self.troubles.remove(now)

    def down(self, began: float) -> None:
        """Note a time up to now in which datagrams to a daemon may get lost."""
        self.outages.append(Outage(began=began - ON_ITS_WAY, ended=time.monotonic() + ON_ITS_WAY))

    def missing_datagrams(self, vanished: list[Sending]) -> list[Sending]:
        """Return the datagrams that are missing without trouble of a daemon or of the database."""
        times = [*self.outages, *self.troubles]
        return [
            sending
            for sending in vanished
            if sending.door == UDP
            and not any(t.began <= sending.gone + ON_ITS_WAY and sending.began <= t.ended for t in times)
        ]
