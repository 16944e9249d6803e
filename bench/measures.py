"""The measures, one function each. Every one checks that what was sent was stored or delivered."""

from __future__ import annotations

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from bench.rig import (
    Measure,
    Pair,
    check_stored,
    daemon,
    figure,
    fill,
    flood_program,
    folder,
    median,
    post_lines,
    reference,
    rss,
    timed,
    wrk,
)
from oneshotd.core import exposition
from oneshotd.core.events import Group, NewEvent
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.sampling.scrape_time import plan
from oneshotd.store.clock import Clock
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.ledger import Ledger, Limits

#: Seconds of load in one round of one side.
LOAD = 4.0


def ratio(rounds: Sequence[Pair]) -> str:
    ratios = sorted(pair.ratio for pair in rounds)
    return f"{median(ratios):.2f}x ({ratios[0]:.2f}–{ratios[-1]:.2f})"


def at_least(bound: float) -> Callable[[Sequence[Pair]], bool]:
    return lambda rounds: median([pair.ratio for pair in rounds]) >= bound


def at_most(bound: float) -> Callable[[Sequence[Pair]], bool]:
    return lambda rounds: median([pair.ratio for pair in rounds]) <= bound


def figure_in(unit: str) -> Callable[[Sequence[Pair]], str]:
    def show(rounds: Sequence[Pair]) -> str:
        figures = sorted(pair.ours for pair in rounds)
        return f"{median(figures):.3g} {unit} ({figures[0]:.3g}–{figures[-1]:.3g})"

    return show


def below(bound: float) -> Callable[[Sequence[Pair]], bool]:
    return lambda rounds: median([pair.ours for pair in rounds]) <= bound


def post_event(rounds: int, close: bool = False) -> Measure:
    """One event a request, on kept connections or on a new one for each."""
    connections = 16 if close else 64
    pairs = []
    # However many rounds: none is dropped, so that what is held is what was accepted.
    with daemon("--max-events=100000000") as running, reference("http") as port:
        stored = 0
        for _ in range(rounds):
            bare = wrk(port, LOAD, connections=connections, close=close)
            ours = wrk(running.port, LOAD, connections=connections, close=close)
            stored += ours.requests
            check_stored(running, stored, connections * rounds)
            pairs.append(Pair(ours.rate, bare.rate))
    return Measure(
        name="`POST /event`, a new connection each, 16 at a time"
        if close
        else "`POST /event`, 64 connections",
        unit="requests/s",
        rounds=pairs,
        shown=ratio,
        reach="1.4x" if close else "2.0x",
        aim="2.0x" if close else "3.6x",
        met=at_least(1.4 if close else 2.0),
    )


def post_events(rounds: int) -> Measure:
    """1,000 lines a body, against single posts."""
    pairs = []
    with daemon() as running:
        for number in range(rounds):
            single = wrk(running.port, LOAD)
            bodies = [
                [f"type=bulk&round={number}&body={body}&line={line}" for line in range(1000)]
                for body in range(60)
            ]
            before = figure(running, "oneshotd_events_accepted_total")
            seconds = timed(partial(post_all, running.port, bodies))
            assert figure(running, "oneshotd_events_accepted_total") - before == 60_000
            pairs.append(Pair(60_000 / seconds, single.rate))
    return Measure(
        name="`POST /events`, 1,000 lines a body, against `POST /event`",
        unit="events/s",
        rounds=pairs,
        shown=ratio,
        reach="3x",
        aim="8x",
        met=at_least(3.0),
    )


def post_all(port: int, bodies: Sequence[Sequence[str]]) -> None:
    for body in bodies:
        post_lines(port, body)


def datagrams(rounds: int, lines: int) -> Measure:
    """The rate at which nothing is dropped, found by halving."""
    pairs = []
    with daemon() as running, reference("udp") as port:
        for _ in range(rounds):
            bare = _sustained(port, 1, lambda: _counted(port))
            ours = _sustained(
                running.port, lines, lambda: int(figure(running, "oneshotd_events_accepted_total"))
            )
            pairs.append(Pair(ours, bare))
        assert figure(running, "oneshotd_held_events") > 0
    reach, aim = (0.4, 0.85) if lines == 1 else (0.6, 1.5)
    return Measure(
        name=f"UDP, {'one event' if lines == 1 else f'{lines} events'} a datagram, without a drop",
        unit="events/s",
        rounds=pairs,
        shown=ratio,
        reach=f"{reach}x",
        aim=f"{aim}x",
        met=at_least(reach),
    )


def _counted(port: int) -> int:
    """Datagrams that the bare protocol has counted; asked again where its full buffer drops that, too."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        for _ in range(50):
            sock.sendto(b"?", ("127.0.0.1", port))
            try:
                return int(sock.recv(100))
            except TimeoutError:
                continue
    raise TimeoutError("the reference does not answer")


def _sustained(port: int, lines: int, count: Callable[[], int]) -> float:
    """Events a second, in runs of two seconds, at which all arrive."""
    low, high = 0.0, 400_000.0
    while high - low > 0.04 * high:
        rate = (low + high) / 2
        total = int(rate * 2)
        before = count()
        sent = subprocess.run(
            [flood_program(), str(port), str(total), str(lines), str(rate), "x"],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout.split()
        if float(sent[1]) > 2.2:  # the sender itself cannot
            high = rate
            continue
        deadline = time.monotonic() + 0.3
        while count() - before < total * lines and time.monotonic() < deadline:
            time.sleep(0.02)
        if count() - before == total * lines:
            low = rate
        else:
            high = rate
            time.sleep(0.5)  # what is still in the buffer
            previous = -1
            while previous != (previous := count()):
                time.sleep(0.1)
    return low * lines


def big_scrape(rounds: int, events: int = 100_000) -> Measure:
    """100,000 distinct pending events for one scraper: from the file to the bytes of the response."""
    pairs = []
    with folder() as place:
        connection = open_database(str(place / "store.sqlite"))
        ledger = Ledger(Limits(read_series=events), Clock())
        ledger.load(connection)
        connection.execute("BEGIN IMMEDIATE")
        ledger.begin()
        series = [f'events_to_metrics{{host="web{n % 100}",number="{n}",type="held"}}' for n in range(events)]
        for first in range(0, events, 1000):
            ledger.append([Group(events=[NewEvent(text) for text in series[first : first + 1000]])])
            ledger.flush()
        connection.execute("COMMIT")
        caps = Caps(samples=events, bytes=1 << 30)
        family = GaugeMetricFamily("events_to_metrics", "Events.", labels=["host", "number", "type"])
        for n in range(events):
            family.add_metric([f"web{n % 100}", str(n), "held"], 1)
        registry = CollectorRegistry()

        class Same:
            def collect(self) -> Iterator[Metric]:
                yield family

            def describe(self) -> list[Metric]:
                return []

        registry.register(Same())
        for number in range(rounds):
            theirs = timed(lambda: generate_latest(registry))
            connection.execute("BEGIN IMMEDIATE")
            body = b""

            def ours(number: int = number) -> None:
                nonlocal body
                reservation = ledger.reserve(Visit(name=f"s{number}", named=True), 60.0, events)
                planned = plan(reservation.pending, caps)
                body = exposition.text(planned.samples)
                assert reservation.token is not None
                ledger.settle(reservation.token, True, planned.cursor, planned.newly_owed, planned.went_out)

            seconds = timed(ours)
            connection.execute("COMMIT")
            assert body.count(b"\n") == events + 2
            pairs.append(Pair(1 / seconds, 1 / theirs))
        connection.close()
    return Measure(
        name="100,000 pending events, against `generate_latest` of the same",
        unit="responses/s",
        rounds=pairs,
        shown=ratio,
        reach="4x",
        aim="16x",
        met=at_least(4.0),
    )


def scrape(connection: http.client.HTTPConnection, name: str) -> bytes:
    connection.request(
        "GET", f"/metrics?scraper={name}", headers={"X-Prometheus-Scrape-Timeout-Seconds": "30"}
    )
    return connection.getresponse().read()


def held(rounds: int) -> list[Measure]:
    """Everything that is asked of a daemon with a million events."""
    with folder() as place:
        stores = {}
        for name, events in (("small", 1000), ("large", 1_000_000)):
            with daemon() as running:
                fill(running.port, events)
                assert figure(running, "oneshotd_held_events") == events
                running.stop()
                stores[name] = place / name
                stores[name].write_bytes((running.process.folder / "oneshotd.sqlite").read_bytes())
        return [
            _starting(rounds, stores["large"]),
            *_beside(rounds, stores["small"], stores["large"]),
            *_memory(rounds, stores["large"]),
            _latency(rounds, stores["large"]),
        ]


def _starting(rounds: int, store: Path) -> Measure:
    pairs = []
    for _ in range(rounds):
        with daemon(store=store) as running:
            running.stop()
            seconds = timed(running.start)
            assert figure(running, "oneshotd_held_events") == 1_000_000
            pairs.append(Pair(seconds, 1.0))
    return Measure(
        name="start with 1,000,000 held events until `/readyz`",
        unit="s",
        rounds=pairs,
        shown=figure_in("s"),
        reach="≤ 3 s",
        aim="≤ 1 s",
        met=below(3.0),
    )


def _beside(rounds: int, small: Path, large: Path) -> Iterator[Measure]:
    scrapes, appends = [], []
    with daemon(store=small) as few, daemon(store=large) as many:
        for _ in range(rounds):
            times = []
            for running in (few, many):
                connection = http.client.HTTPConnection("127.0.0.1", running.port)
                for _ in range(200):  # drained, with the 20,000 of each response
                    body = scrape(connection, "drained")
                    if b"events_to_metrics{" not in body:
                        break
                times.append(median([timed(partial(scrape, connection, "drained")) for _ in range(200)]))
                connection.close()
            scrapes.append(Pair(times[1], times[0]))
            appends.append(Pair(1 / wrk(many.port, LOAD / 2).rate, 1 / wrk(few.port, LOAD / 2).rate))
    for name, pairs in (("scrape with nothing pending", scrapes), ("append", appends)):
        yield Measure(
            name=f"{name}, 1,000,000 events held, against 1,000",
            unit="s",
            rounds=pairs,
            shown=ratio,
            reach="≤ 1.2x",
            aim="1.0x",
            met=at_most(1.2),
        )


def _memory(rounds: int, store: Path) -> Iterator[Measure]:
    whole, each = [], []
    for _ in range(rounds):
        with daemon(store=store) as running:
            connection = http.client.HTTPConnection("127.0.0.1", running.port)
            for number in range(10):
                scrape(connection, f"first{number}")
            whole.append(Pair(rss(running), 1.0))
            for number in range(90):
                connection.request("GET", f"/metrics?scraper=more{number}&limit=100")
                connection.getresponse().read()
            before = rss(running)
            for number in range(90, 180):
                connection.request("GET", f"/metrics?scraper=more{number}&limit=100")
                connection.getresponse().read()
            each.append(Pair(max(0.0, rss(running) - before) * 1000 / 90, 1.0))
    yield Measure(
        name="memory with 1,000,000 held events and 10 scrapers",
        unit="MB",
        rounds=whole,
        shown=figure_in("MB"),
        reach="≤ 250 MB",
        aim="≤ 120 MB",
        met=below(250),
    )
    yield Measure(
        name="memory for each further scraper",
        unit="KB",
        rounds=each,
        shown=figure_in("KB"),
        reach="≤ 10 KB",
        aim="≤ 2 KB",
        met=below(10),
    )


class Scraping(threading.Thread):
    """Scrapes without a pause, as a newcomer who has everything to come, and in time as the next one."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self.events: list[int] = []
        self.done = threading.Event()
        self._port = port
        self._name = name

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        while not self.done.is_set() and len(self.events) < 1000:
            # A million events are fifty responses.
            body = scrape(connection, f"{self._name}-{len(self.events) // 40}")
            self.events.append(body.count(b"\nevents_to_metrics{"))
        connection.close()


def _latency(rounds: int, store: Path) -> Measure:
    """p99 of POST /event while scrapes of 20,000 events run without a pause, and without them."""
    pairs = []
    for number in range(rounds):
        with daemon("--newcomers=1h", store=store) as running:
            alone = wrk(running.port, LOAD, connections=16)
            scraping = Scraping(running.port, f"s{number}")
            scraping.start()
            beside = wrk(running.port, LOAD, connections=16)
            assert scraping.is_alive(), "the scrapes ended before the load did"
            scraping.done.set()
            scraping.join(60)
            assert len(scraping.events) > 5 and min(scraping.events) == 20_000, scraping.events
            pairs.append(Pair(beside.p99 - alone.p99, alone.p99))
    return Measure(
        name="p99 of `POST /event` beside scrapes of 20,000 events: more than without",
        unit="ms",
        rounds=pairs,
        shown=figure_in("ms"),
        reach="≤ 30 ms",
        aim="≤ 10 ms",
        met=below(30),
    )
