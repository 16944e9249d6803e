"""The ingest pipeline with a store that commits when a test says so."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from support.fake_store import Disk, TroubledStore, quiet
from support.store_log import held_events
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oneshotd.core.events import Event, Group, NewEvent
from oneshotd.ingest.batching import DATAGRAM_INTERVAL
from oneshotd.ingest.pipeline import Ingest
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import Stored, StoreStats
from oneshotd.store.sqlite.store import SQLiteStore

NOTHING = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})


def group(*series: str, key: str | None = None) -> Group:
    return Group(events=[NewEvent(name) for name in series], key=key)


class Rig:
    """An ingest pipeline in front of a real store in a file."""

    def __init__(self, path: str) -> None:
        self.clock, self.pump, self.disk = Clock(), ThreadPump(), Disk()
        self.real = SQLiteStore(path, self.pump, connect=self.disk.connect)
        self.store = TroubledStore(self.real)
        self.telemetry = Telemetry()
        self.ingest = Ingest(self.store, self.telemetry, self.clock)

    def submit(self, *series: str, key: str | None = None) -> list[Stored | Failure]:
        """Submit a group; the answer is appended to the list when it is given."""
        return heard(self.ingest.submit(group(*series, key=key), "http"))

    def settle(self) -> None:
        """Run the reactor and the store, and let no time pass."""
        self.clock.advance(0)
        quiet(self.pump, self.real)
        self.clock.advance(0)
        quiet(self.pump, self.real)

    def turn(self) -> None:
        """Run the reactor and the store until no batch is left to do soon."""
        self.clock.advance(0)
        quiet(self.pump, self.real)
        soon = self.clock.seconds() + DATAGRAM_INTERVAL
        if any(call.getTime() <= soon for call in self.clock.getDelayedCalls()):
            self.clock.advance(DATAGRAM_INTERVAL)
            self.turn()

    def log(self) -> list[Event]:
        return self.pump.get(held_events(self.real))

    def series(self) -> list[str]:
        return [event.series for event in self.log()]

    def figure(self, name: str, **labels: str) -> float:
        text = self.telemetry.render(NOTHING)[0].decode()
        [found] = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        return float(found)


def heard(answer: Deferred[Stored]) -> list[Stored | Failure]:
    got: list[Stored | Failure] = []
    answer.addBoth(got.append)
    return got
