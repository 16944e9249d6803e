"""The daemon's wall clock is set while it sends to a receiver, whose own clock is right (libfaketime).

The campaign with such a clock (`make soak`) has no receiver: its steps of two hours are beyond what a
Prometheus takes, which is ten minutes ahead and an hour behind.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from support.daemon import BROWSER, Daemon
from support.exchange_line import ExchangeLine, Peer, body_of
from support.faketime import WallClock
from support.processes import until
from support.prometheus import Prometheus
from support.receivers import STORES, receiver, receivers_file, samples
from support.remote_write_reader import STALE, read

pytestmark = pytest.mark.e2e

SELECTOR = 'events_to_metrics{type="x",job="oneshotd",instance="edge-1:8090"}'
NEWEST = next(store for store in STORES if store.name == "prometheus-sid")
PATIENCE = 60.0

#: A step for which `at` stands still, and one after which it starts again at the clock; seconds.
SHORT, LONG = 10.0, 300.0


class TimedLine(ExchangeLine):
    """Notes how far the samples of requests are ahead of the daemon's clock.

    :ivar ahead: seconds, for each sample.
    """

    def __init__(self, target: int, clock: WallClock) -> None:
        super().__init__(target)
        self.ahead: list[float] = []
        self._clock = clock

    def exchange(self, request: bytes, receiver: Peer) -> bytes:
        """Pass a request on."""
        now = self._clock.time()
        for series in read(body_of(request)):
            self.ahead += [at / 1000 - now for bits, at in series.samples if bits != STALE]
        return super().exchange(request, receiver)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Prometheus]:
    with receiver(NEWEST, tmp_path / "server") as running:
        yield running


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
def line(server: Prometheus, clock: WallClock) -> Iterator[TimedLine]:
    with TimedLine(server.port, clock) as running:
        yield running


@pytest.fixture
def daemon(line: TimedLine, clock: WallClock, tmp_path: Path) -> Iterator[Daemon]:
    file = receivers_file(tmp_path / "receivers.toml", {"r": line.port})
    with Daemon(tmp_path / "daemon", more=[f"--receivers={file}"], variables=clock.variables) as running:
        yield running


def post(daemon: Daemon, *series: str) -> None:
    text = "\n".join(f"type=x&n={n}" for n in series).encode()
    request = urllib.request.Request(
        f"{daemon.url}/events", data=text, headers={"Content-Type": "text/plain"}
    )
    with BROWSER.open(request, timeout=30) as answer:
        assert json.load(answer)["stored"] == len(series)


def accepted(daemon: Daemon) -> Mapping[str, Sequence[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event in json.loads(daemon.get("/api/v1/events?limit=1000"))["events"]:
        found[event["labels"]["n"]].append((event["at"], 1.0))
    return {series: sorted(each) for series, each in found.items()}


def state(daemon: Daemon) -> tuple[int, Mapping[str, int]]:
    """Return how many events are pending, and how many are lost for each reason."""
    scrapers = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
    return (scrapers[0]["pending"], scrapers[0]["lost"]) if scrapers else (1, {})


def await_delivery(daemon: Daemon) -> None:
    until(lambda: not state(daemon)[0], PATIENCE, daemon.process.tail)


def stored(server: Prometheus) -> Mapping[str, Sequence[tuple[int, float]]]:
    """Return the samples, also those ahead of the receiver's clock."""
    return samples(server, f"{SELECTOR}[1h] @ {time.time() + 2 * LONG:.3f}")


def test_a_short_step_back_costs_nothing_and_sends_no_time_to_come(
    daemon: Daemon, server: Prometheus, line: TimedLine, clock: WallClock
) -> None:
    """One event from the future stops every scrape of an older Prometheus."""
    post(daemon, "a", "b")
    await_delivery(daemon)
    clock.set(SHORT)
    post(daemon, "a", "c")
    await_delivery(daemon)
    clock.set(0)
    post(daemon, "a", "b", "d")
    assert state(daemon)[0] == 3  # they have the time of the last ones, which is to come
    await_delivery(daemon)
    assert stored(server) == accepted(daemon)
    assert state(daemon) == (0, {})
    assert len(line.ahead) == 7 and max(line.ahead) <= 0
    assert daemon.errors() == []


def test_after_a_clock_that_was_far_ahead_only_its_own_series_suffer(
    daemon: Daemon, server: Prometheus, line: TimedLine, clock: WallClock
) -> None:
    """A daemon that was started with a wrong clock would send nothing until the time comes."""
    clock.set(LONG)
    post(daemon, "a", "b")
    await_delivery(daemon)
    before = stored(server)
    clock.set(0)
    post(daemon, "a", "c", "d")
    await_delivery(daemon)
    # The receiver has a later sample of this series.
    assert state(daemon) == (0, {"refused": 1})
    after = stored(server)
    assert {n: after[n] for n in before} == before
    assert {n: after[n] for n in "cd"} == {n: accepted(daemon)[n] for n in "cd"}
    assert max(line.ahead) <= 0
    assert daemon.errors() == []
