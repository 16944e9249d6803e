"""How deliveries ended: counts, log lines, and what follows for the scraper's next responses."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from oneshotd.core.identity import Visit
from oneshotd.core.sampling.event_time import shown_after
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.sampling.suspects import Search
from oneshotd.delivery.log import DeliveryLog
from oneshotd.delivery.response_size import ResponseSizeController
from oneshotd.metrics.looks import TimeoutHabits
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import Settled, StoreStats


class Outcomes:
    """Counts and logs how deliveries ended, and remembers it for each scraper; in memory only.

    Times of events are by the store's clock, and so is `now_ms` (Unix ms).

    :param caps: of a response to a scraper that takes responses of full size.
    :ivar timeouts: which scrapers send the timeout header.
    """

    def __init__(self, telemetry: Telemetry, clock: IReactorTime, caps: Caps) -> None:
        self.log = DeliveryLog(clock)
        self.timeouts = TimeoutHabits()
        self._telemetry = telemetry
        self._clock = clock
        self._sizes = ResponseSizeController(caps)
        #: Scraper -> counts that it may have read, see `event_time.shown_after`; few scrapers have any.
        self._shown: dict[str, Mapping[str, int]] = {}
        #: Scraper -> search for the sample that it refuses; only scrapers that have reset a response.
        self._searches: dict[str, Search] = {}

    def keep_known(self, stats: StoreStats) -> None:
        """Forget the scrapers that the store does not know; learn which ones sent the timeout header."""
        known = {scraper.name for scraper in stats.scrapers}
        timed = (scraper.name for scraper in stats.scrapers if scraper.timed)
        self._sizes.keep(known)
        self.timeouts.learn(known, timed, self._clock.seconds())
        self._shown = {name: shown for name, shown in self._shown.items() if name in known}
        self._searches = {name: search for name, search in self._searches.items() if name in known}

    # State on which the next response depends

    def caps(self, scraper: str) -> Caps:
        """Return the size limits for this scraper's next response."""
        return self._sizes.caps(scraper)

    def shown(self, scraper: str) -> Mapping[str, int]:
        """Return the counts that this scraper may have read, and that are still pending for it."""
        return self._shown.get(scraper, {})

    def search(self, scraper: str) -> Search | None:
        """Return the search for a sample that this scraper refuses; None if it has reset no response."""
        return self._searches.get(scraper)

    # How a delivery ended

    def delivered(self, visit: Visit, planned: Plan, now_ms: int) -> None:
        """Count a response that has arrived."""
        self.timeouts.delivered(visit, self._clock.seconds())
        self._sizes.arrived(visit.name)
        self._note_shown(visit, planned, now_ms, delivered=True)
        self.log.lost(visit.name, planned)
        if planned.events:
            self._telemetry.delivered(visit.name, planned.events, planned.ats, now_ms)

    def returned(self, visit: Visit, planned: Plan, uncertain: bool, reset: bool, now_ms: int) -> None:
        """Count a response that has not arrived."""
        self._sizes.failed(visit.name, planned.samples)
        self._note_shown(visit, planned, now_ms, delivered=False)
        self._telemetry.returned(visit.name, planned.events)
        if uncertain:
            self._uncertain(visit, planned)
        elif reset:
            self._was_reset(visit)

    def revoked(self, visit: Visit, planned: Plan, uncertain: bool, now_ms: int) -> None:
        """Count a response that has arrived and that the scraper has not read."""
        self._sizes.failed(visit.name, planned.samples)
        self._note_shown(visit, planned, now_ms, delivered=False)
        self._telemetry.revoked(visit.name, planned.events)
        if uncertain:
            self._uncertain(visit, planned)
            return
        self.log.revoked(visit.name, planned)
        self._was_reset(visit)

    def final(self, visit: Visit) -> None:
        """Count a delivery that cannot be revoked any more: the scraper takes its samples."""
        search = self._searches.get(visit.name)
        if search is not None:
            search.was_taken()
            if search.is_over:
                del self._searches[visit.name]

    def superseded(self, visit: Visit, planned: Plan, delivered: bool) -> None:
        """Count a delivery that was settled after its lease, when another one had begun.

        :param delivered: it arrived, so that its events go out twice.
        """
        self._telemetry.superseded(visit.name, planned.events if delivered else 0)
        if delivered:
            self.log.superseded(visit.name, planned)
        self._forget(visit.name)

    def late(self, visit: Visit, planned: Plan) -> None:
        """Log a revocation after the lease, when another delivery had begun: its events are lost."""
        self._telemetry.superseded(visit.name, 0)
        self.log.late(visit.name, planned)
        self._forget(visit.name)

    def _forget(self, scraper: str) -> None:
        """Forget what was remembered of a scraper: it has got responses of another daemon since."""
        self._shown.pop(scraper, None)
        self._searches.pop(scraper, None)
        self._telemetry.forget_pace(scraper)

    def settled(self, visit: Visit, settled: Settled) -> None:
        """Log a settlement that found its delivery settled already."""
        self.log.settled(visit.name, settled)

    def _uncertain(self, visit: Visit, planned: Plan) -> None:
        self._telemetry.uncertain(visit.name, planned.events)
        self.log.uncertain(visit.name, planned)

    def _was_reset(self, visit: Visit) -> None:
        self._searches.setdefault(visit.name, Search()).was_reset()

    def _note_shown(self, visit: Visit, planned: Plan, now_ms: int, *, delivered: bool) -> None:
        shown = self._shown.pop(visit.name, {})
        if shown or planned.counted:
            shown = shown_after(shown, planned, delivered=delivered, now_ms=now_ms)
        if shown:
            self._shown[visit.name] = shown
