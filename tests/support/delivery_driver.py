"""Drive `Delivery` in front of a real store in a file; the test moves the clocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from support.fake_store import Disk, TroubledStore, quiet
from support.store_backends import SettableClock
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.scrape_limits import scrape_limits
from oneshotd.core.scrape_request import Wanted
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import Delivery
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import StoreStats
from oneshotd.store.sqlite.ledger import Limits
from oneshotd.store.sqlite.store import SQLiteStore

TIMEOUT = 10.0

#: Long enough that no event expires, no scraper is removed, and a new scraper gets every event.
LIMITS = Limits(hold=1e6, newcomers=1e6)

#: series -> the sum of its samples (of its values, or of its counts).
Sums = Counter[str]


def parsed(body: bytes) -> list[Sample]:
    """Parse all samples of a response as a scraper does."""
    return [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]


def events_in(body: bytes) -> list[Sample]:
    """Return the samples that are not the daemon's own metrics."""
    return [sample for sample in parsed(body) if not sample.name.startswith(("oneshotd_", "process_"))]


def sums(body: bytes) -> Sums:
    """Return what this response adds to a scraper's sum over time."""
    return Counter({sample.name: int(sample.value) for sample in events_in(body)})


class DeliveryDriver:
    """The daemon from the store to the response; the test reports how each delivery ended."""

    def __init__(self, path: Path, caps: Caps | None = None) -> None:
        self.clock, self.time, self.pump, self.disk = Clock(), SettableClock(), ThreadPump(), Disk()
        self._path, self._caps = path, caps
        self.start()

    def start(self) -> None:
        """Start a daemon on this store; the earlier one has stopped."""
        self.real = SQLiteStore(
            str(self._path), self.pump, limits=LIMITS, clock=self.time.clock, connect=self.disk.connect
        )
        self.store = TroubledStore(self.real)
        self.telemetry = Telemetry()
        self.delivery = Delivery(self.store, self.telemetry, self.clock, self._caps)

    def stop(self) -> None:
        """Stop the daemon; its pending calls are cancelled."""
        self.pump.get(self.real.close())
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def restart(self) -> None:
        """Start a new daemon, which learns from the store before it serves."""
        self.stop()
        self.start()
        self.delivery.learn(self.pump.get(self.real.stats()))

    def quiet(self) -> None:
        """Wait until the store has carried out all requests."""
        quiet(self.pump, self.real)

    def pass_time(self, seconds: float) -> None:
        """Advance all clocks, then wait for the store."""
        self.time.advance(seconds)
        self.clock.advance(seconds)
        self.quiet()

    def append(self, *reports: str | tuple[str, str]) -> None:
        """Store events: series without a value, or (series, value)."""
        events = [NewEvent(report) if isinstance(report, str) else NewEvent(*report) for report in reports]
        self.pump.get(self.real.append([Group(events=events)]))

    def ask(
        self,
        name: str = "ann",
        *,
        limit: int | None = None,
        timeout: float = TIMEOUT,
        timed: bool = False,
        limits: Mapping[str, str] | None = None,
    ) -> Deferred[InFlightDelivery]:
        """Start a scrape.

        :param limits: as parameters of ``/metrics``.
        """
        visit = Visit(name=name, named=" " not in name, timed=timed)
        wanted = _wanted(limit, limits)
        return Deferred.fromCoroutine(self.delivery.scrape(visit, wanted, timeout=timeout))

    def look(
        self, name: str = "ann", limit: int | None = None, *, limits: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the response to a look."""
        visit = Visit(name=name, named=True)
        delivery = self.pump.get(Deferred.fromCoroutine(self.delivery.look(visit, _wanted(limit, limits))))
        assert not delivery.awaits_receipt
        return delivery.body

    def scrape(
        self,
        name: str = "ann",
        *,
        limit: int | None = None,
        timeout: float = TIMEOUT,
        timed: bool = False,
        limits: Mapping[str, str] | None = None,
    ) -> InFlightDelivery:
        """Return the response to a scrape."""
        return self.pump.get(self.ask(name, limit=limit, timeout=timeout, timed=timed, limits=limits))

    def take(
        self,
        name: str = "ann",
        *,
        limit: int | None = None,
        timed: bool = False,
        limits: Mapping[str, str] | None = None,
    ) -> Sums:
        """Scrape, and report the delivery as delivered and final; return its sums."""
        delivery = self.scrape(name, limit=limit, timed=timed, limits=limits)
        if delivery.awaits_receipt:
            delivery.delivered()
            delivery.final()
        self.quiet()
        return sums(delivery.body)

    def take_all(self, name: str = "ann", *, limit: int | None = None) -> Sums:
        """Scrape until a response has no events; return the sums of all responses."""
        total: Sums = Counter()
        while now := self.take(name, limit=limit):
            total += now
        return total

    def stats(self) -> StoreStats:
        """Return the store's figures."""
        return self.pump.get(self.real.stats())

    def figures(self, name: str) -> dict[str, float]:
        """Return an own metric by name: value of its one label -> figure."""
        body = self.telemetry.render(self.stats())[0]
        return {"".join(s.labels.values()): s.value for s in parsed(body) if s.name == name}

    def scraped(self, result: str) -> float:
        """Return how many requests for /metrics had this result."""
        return self.figures("oneshotd_scrapes_total")[result]


def _wanted(limit: int | None, limits: Mapping[str, str] | None) -> Wanted:
    asked = dict(limits or {})
    if limit is not None:
        asked["limit"] = str(limit)
    return Wanted(limits=scrape_limits(asked))


def answers_of(asked: Deferred[InFlightDelivery]) -> list[InFlightDelivery | Failure]:
    """Return a list that gets the response or failure as soon as there is one."""
    got: list[InFlightDelivery | Failure] = []
    asked.addBoth(got.append)
    return got


def with_events(
    driver: DeliveryDriver, *series: str, name: str = "ann", timed: bool = False
) -> InFlightDelivery:
    """Store events, and return a delivery in flight that has them."""
    driver.append(*(series or ("a",)))
    delivery = driver.scrape(name, timed=timed)
    assert delivery.awaits_receipt
    return delivery
