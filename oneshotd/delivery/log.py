"""Log lines of scrapes and deliveries; lines that a client can cause at will are throttled."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from oneshotd.core.identity import MAX_SCRAPERS
from oneshotd.core.look import LookReason
from oneshotd.core.sampling.plan import Plan
from oneshotd.logs.throttle import ThrottledLog
from oneshotd.store.interface import Settled

#: Seconds of silence after a throttled line.
INTERVAL = 60.0


class DeliveryLog:
    """Logs how scrapes and deliveries ended."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._too_many = ThrottledLog(
            clock,
            self._log,
            "{count} scrapes got no events, one of them of {scraper}: {most} scrapers are known already",
            interval=INTERVAL,
        )
        self._only_looks = ThrottledLog(
            clock,
            self._log,
            "{scraper} gets only looks and no events: its requests {why} ({count} with this reason)",
            interval=INTERVAL,
        )
        self._lost = ThrottledLog(
            clock,
            self._log,
            "{scraper} will never get {count} events, one of them of the series {series}: {why}",
            interval=INTERVAL,
        )

    def flush(self) -> None:
        """Write the counts of suppressed lines; called at shutdown."""
        for throttled in (self._too_many, self._only_looks, self._lost):
            throttled.flush()

    def too_many(self, scraper: str) -> None:
        """Log a scrape without events because `MAX_SCRAPERS` are known."""
        self._too_many.note("too many", scraper=scraper, most=MAX_SCRAPERS)

    def only_looks(self, scraper: str, reason: LookReason) -> None:
        """Log a scraper whose requests have all been looks for some time."""
        self._only_looks.note(reason.value, scraper=scraper, why=reason.text)

    def lost(self, scraper: str, planned: Plan) -> None:
        """Log the events of a delivery that its scraper will never get."""
        for reason, seqs in planned.lost.items():
            self._lost.note(
                f"{scraper} {reason}",
                len(seqs),
                scraper=scraper,
                why=reason,
                series=planned.lost_series.get(reason, "unknown"),
            )

    def uncertain(self, scraper: str, planned: Plan) -> None:
        """Log a delivery that may have arrived and whose events go out again."""
        self._log.warn(
            "{scraper}: no certain acknowledgement for {events} events in time; they go out again and may"
            " be counted twice",
            scraper=scraper,
            events=planned.events,
        )

    def revoked(self, scraper: str, planned: Plan) -> None:
        """Log a delivery after which the scraper reset the connection before reading it."""
        self._log.info(
            "{scraper} reset the connection before reading {events} events; they go out again",
            scraper=scraper,
            events=planned.events,
        )

    def settled(self, scraper: str, settled: Settled) -> None:
        """Log a settlement that found its delivery settled already: a fault of the program."""
        if settled is Settled.ALREADY:
            self._log.error("{scraper}: a delivery was settled twice", scraper=scraper)

    def superseded(self, scraper: str, planned: Plan) -> None:
        """Log a delivery that arrived after its lease had ended."""
        if planned.events:
            self._log.error(
                "{scraper} has got {events} events twice: they were delivered after the lease, when another"
                " delivery of them had begun",
                scraper=scraper,
                events=planned.events,
            )

    def late(self, scraper: str, planned: Plan) -> None:
        """Log a revocation after the lease had ended, which changes nothing any more."""
        if planned.events:
            self._log.error(
                "{scraper} will never get {events} events: it did not read them, and that was known after the"
                " lease, when another delivery had begun",
                scraper=scraper,
                events=planned.events,
            )

    def trace(self, scraper: str, token: int, planned: Plan, what: str) -> None:
        """Log one step of a delivery, with the reactor's seconds; the soak test reads these lines."""
        if not planned.events:
            return
        self._log.debug(
            "{scraper}: delivery {token} {what} at {seconds:.4f}: {events} events, cursor {cursor}",
            scraper=scraper,
            token=token,
            what=what,
            seconds=self._clock.seconds(),
            events=planned.events,
            cursor=planned.cursor,
        )
