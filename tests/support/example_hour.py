"""A store with an hour behind it, for the status page: run with the store's path.

    python -m support.example_hour var/oneshotd.sqlite

The clock is the real one, set back by an hour and moved on from event to event.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred

from oneshotd.core.events import Group, NewEvent, series_text
from oneshotd.core.identity import Visit
from oneshotd.store.clock import Clock
from oneshotd.store.interface import Reservation
from oneshotd.store.sqlite.store import SQLiteStore

reactor: Any = global_reactor

#: The one who has stayed away, and for how many seconds.
AWAY, AWAY_SECONDS = Visit(name="192.0.2.7 Prometheus", timed=True), 710.0
SCRAPERS = (Visit(name="prometheus-a", named=True), Visit(name="victoria-1", named=True), AWAY)


def events() -> Iterator[tuple[float, NewEvent]]:
    """What a small shop reports in an hour: (seconds ago, event)."""
    chance = random.Random(6)

    def event(value: str | None = None, **labels: str) -> NewEvent:
        return NewEvent(series_text("events_to_metrics", labels.items()), value)

    for minute in range(59):
        ago = minute * 60 + 20 + chance.random() * 20
        for _ in range(chance.choice((0, 0, 1, 2, 4))):
            yield ago, event(type="login", result=chance.choice(("ok", "ok", "denied")), realm="shop")
        if minute % 5 == 2:
            yield ago, event(f"{chance.uniform(0.4, 2):.2f}", type="cron", task="sync-stock", status="ok")
        if minute % 15 == 4:
            yield ago, event(f"{chance.uniform(30, 45):.1f}", type="backup", target="orders", status="ok")
    yield 3301, event(type="deploy", service="shop", version="2.14.0", by="ana")
    yield 1990, event(type="deploy", service="shop", version="2.14.1", by="ana")
    yield 405, event(type="deploy", service="search", version="0.9.3", by="joão")
    yield 1931, event(type="rollback", service="shop", version="2.14.0", reason="checkout 500s")
    yield 640, event(type="unit_failed", unit="mail-queue.service", host="web-2")
    yield 52, event("37.5", type="backup", target="mail", status="failed")
    for ago in (2705.0, 2702.0, 2650.0, 2649.0, 2640.0, 2100.0):
        yield ago, event(type="alert", name="HighLatency", severity="page")


async def fill(path: str) -> None:
    """Make the store."""
    start = time.time() - 3600
    passed = 0.0
    clock = Clock(wall=lambda: start + passed, monotonic=lambda: 1e6 + passed)
    store = SQLiteStore(path, reactor, clock=clock)
    for visit in SCRAPERS:
        for _ in range(3):
            await scrape(store, visit)
    last: list[tuple[float, NewEvent | None]] = [(AWAY_SECONDS, None)]
    for ago, event in sorted([*events(), *last], reverse=True, key=lambda pair: pair[0]):
        passed = 3600 - ago
        if event is not None:
            await store.append([Group(events=[event])])
        for visit in SCRAPERS:
            if visit is not AWAY or ago >= AWAY_SECONDS:
                await scrape(store, visit)
    passed = 3600.0
    await store.check()
    await store.close()


async def scrape(store: SQLiteStore, visit: Visit) -> None:
    """Take everything."""
    found: Reservation = await store.reserve(visit, 30.0, 10_000)
    assert found.token is not None
    await store.settle(found.token, True, found.pending.end, (), ())
    await store.release(found.token)


if __name__ == "__main__":
    work = Deferred.fromCoroutine(fill(sys.argv[1]))
    work.addErrback(lambda failure: failure.printTraceback())
    work.addBoth(lambda _: reactor.callLater(0, reactor.stop))
    reactor.run()
