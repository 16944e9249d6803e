"""A delivery in front of a real store in a file, with clocks moved by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from support.fake_store import Disk, TroubledStore, quiet
from support.store_backends import SettableClock
from support.thread_pump import Pump
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

#: Long enough that nothing is pruned, nobody retired and everything new to a newcomer.
LIMITS = Limits(hold=1e6, newcomers=1e6)

#: series -> the sum of its samples (of its values, or of its counts).
Sums = Counter[str]


def parsed(body: bytes) -> list[Sample]:
    """All samples of a response, read as a scraper reads them."""
    return [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]


def events_in(body: bytes) -> list[Sample]:
    """Those that are not the daemon's own."""
    return [sample for sample in parsed(body) if not sample.name.startswith(("oneshotd_", "process_"))]


def sums(body: bytes) -> Sums:
    """What a scraper's sum over time would have of this response."""
    return Counter({sample.name: int(sample.value) for sample in events_in(body)})


class Rig:
    """The daemon from the store to the response; what the receipt would say, the test says."""

    def __init__(self, path: Path, caps: Caps | None = None) -> None:
        self.clock, self.time, self.pump, self.disk = Clock(), SettableClock(), Pump(), Disk()
        self._path, self._caps = path, caps
        self.start()

    def start(self) -> None:
        """A daemon on this store, the earlier one being gone."""
        self.real = SQLiteStore(
            str(self._path), self.pump, limits=LIMITS, clock=self.time.clock, connect=self.disk.connect
        )
        self.store = TroubledStore(self.real)
        self.telemetry = Telemetry()
        now_ms = lambda: int(self.time.wall * 1000)  # noqa: E731
        self.delivery = Delivery(self.store, self.telemetry, self.clock, now_ms, self._caps)

    def stop(self) -> None:
        """The daemon ends; what it was about to do is not done any more."""
        self.pump.get(self.real.close())
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def restart(self) -> None:
        """A new daemon, which looks at what is there before it serves."""
        self.stop()
        self.start()
        self.delivery.learn(self.pump.get(self.real.census()))

    def quiet(self) -> None:
        """The store does all that it is asked."""
        quiet(self.pump, self.real)

    def pass_time(self, seconds: float) -> None:
        """For everybody."""
        self.time.advance(seconds)
        self.clock.advance(seconds)
        self.quiet()

    def append(self, *reports: str | tuple[str, str]) -> None:
        """Events without a value, or (series, value)."""
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
        """A scrape comes in.

        :param limits: as parameters of ``/metrics``.
        """
        visit = Visit(name=name, named=" " not in name, timed=timed)
        wanted = _wanted(limit, limits)
        return Deferred.fromCoroutine(self.delivery.scrape(visit, wanted, timeout=timeout))

    def look(
        self, name: str = "ann", limit: int | None = None, *, limits: Mapping[str, str] | None = None
    ) -> bytes:
        """A person looks."""
        visit = Visit(name=name, named=True)
        shipment = self.pump.get(Deferred.fromCoroutine(self.delivery.look(visit, _wanted(limit, limits))))
        assert not shipment.awaits_receipt
        return shipment.body

    def scrape(
        self,
        name: str = "ann",
        *,
        limit: int | None = None,
        timeout: float = TIMEOUT,
        timed: bool = False,
        limits: Mapping[str, str] | None = None,
    ) -> InFlightDelivery:
        """A scrape, answered."""
        return self.pump.get(self.ask(name, limit=limit, timeout=timeout, timed=timed, limits=limits))

    def take(
        self,
        name: str = "ann",
        *,
        limit: int | None = None,
        timed: bool = False,
        limits: Mapping[str, str] | None = None,
    ) -> Sums:
        """A scrape that is answered, read and over."""
        shipment = self.scrape(name, limit=limit, timed=timed, limits=limits)
        if shipment.awaits_receipt:
            shipment.delivered()
            shipment.final()
        self.quiet()
        return sums(shipment.body)

    def take_all(self, name: str = "ann", *, limit: int | None = None) -> Sums:
        """Scrapes until nothing comes any more."""
        total: Sums = Counter()
        while now := self.take(name, limit=limit):
            total += now
        return total

    def census(self) -> StoreStats:
        """The store's figures."""
        return self.pump.get(self.real.census())

    def figures(self, name: str) -> dict[str, float]:
        """The daemon's own metric of this name: value of its one label -> figure."""
        body = self.telemetry.render(self.census())[0]
        return {"".join(s.labels.values()): s.value for s in parsed(body) if s.name == name}

    def scraped(self, result: str) -> float:
        """How many reads of /metrics ended so."""
        return self.figures("oneshotd_scrapes_total")[result]


def _wanted(limit: int | None, limits: Mapping[str, str] | None) -> Wanted:
    asked = dict(limits or {})
    if limit is not None:
        asked["limit"] = str(limit)
    return Wanted(limits=scrape_limits(asked))


def came(asked: Deferred[InFlightDelivery]) -> list[InFlightDelivery | Failure]:
    """What is answered is in the list as soon as it is."""
    got: list[InFlightDelivery | Failure] = []
    asked.addBoth(got.append)
    return got


def with_events(rig: Rig, *series: str, name: str = "ann", timed: bool = False) -> InFlightDelivery:
    """A response with these events in it, on its way."""
    rig.append(*(series or ("a",)))
    shipment = rig.scrape(name, timed=timed)
    assert shipment.awaits_receipt
    return shipment
