"""Log lines of a receiver; lines that repeat are throttled."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel

from oneshotd.core.identity import MAX_SCRAPERS
from oneshotd.logs.throttle import ThrottledLog

#: Seconds of silence after a throttled line.
INTERVAL = 60.0


class ReceiverLog:
    """Logs what happens at one receiver.

    :param receiver: its name.
    """

    _log = Logger()

    def __init__(self, receiver: str, clock: IReactorTime) -> None:
        self._receiver = receiver
        self._again = ThrottledLog(
            clock,
            self._log,
            "receiver {receiver} takes no events, and gets them again later: {trouble} ({count} attempts)",
            interval=INTERVAL,
        )
        self._misconfigured = ThrottledLog(
            clock,
            self._log,
            "receiver {receiver} takes no events, mend the configuration: {trouble} ({count} attempts)",
            level=LogLevel.error,
            interval=INTERVAL,
        )
        self._lost = ThrottledLog(
            clock,
            self._log,
            "receiver {receiver} will never get {count} events: {why}; its last answer: {trouble}",
            interval=INTERVAL,
        )
        self._store = ThrottledLog(
            clock,
            self._log,
            "receiver {receiver} waits for the store: {error} ({count} attempts)",
            interval=INTERVAL,
        )
        self._no_reservation = ThrottledLog(
            clock,
            self._log,
            "receiver {receiver} gets no events, as the store does not reserve any: {why} ({count} attempts)",
            interval=INTERVAL,
        )

    def flush(self) -> None:
        """Write the counts of suppressed lines."""
        for throttled in (self._again, self._misconfigured, self._lost, self._store, self._no_reservation):
            throttled.flush()

    def again(self, trouble: str) -> None:
        """Log an attempt that failed, and that is repeated."""
        self._again.note("again", receiver=self._receiver, trouble=trouble)

    def misconfigured(self, trouble: str) -> None:
        """Log an answer that only a change of the configuration can mend."""
        self._misconfigured.note("misconfigured", receiver=self._receiver, trouble=trouble)

    def accepts_again(self) -> None:
        """Log the first request that was accepted after some that were not."""
        self._log.info("receiver {receiver} takes events again", receiver=self._receiver)

    def lost(self, why: str, events: int, trouble: str) -> None:
        """Log events that the receiver will never get."""
        self._lost.note(why, events, receiver=self._receiver, why=why, trouble=trouble)

    def store_unavailable(self, error: Exception) -> None:
        """Log that the store could not do its part."""
        self._store.note("store", receiver=self._receiver, error=str(error))

    def no_reservation(self, why: str) -> None:
        """Log that the store reserves nothing: `MAX_SCRAPERS` are known, or a scraper has the same name."""
        if why == "too many":
            why = f"{MAX_SCRAPERS} scrapers are known already"
        elif why == "look":
            why = "a scraper that sends X-Prometheus-Scrape-Timeout-Seconds has the same name"
        self._no_reservation.note("no reservation", receiver=self._receiver, why=why)

    def superseded(self, events: int) -> None:
        """Log a settlement after the lease had ended."""
        self._log.warn(
            "receiver {receiver} got {events} events after the lease of their delivery had ended: another"
            " daemon may have sent them as well, which changes nothing at a receiver that takes the newest"
            " sample of a series twice",
            receiver=self._receiver,
            events=events,
        )

    def failed(self) -> None:
        """Log a fault of the program, with its traceback."""
        self._log.failure("sending to receiver {receiver}", receiver=self._receiver)
