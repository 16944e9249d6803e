"""Remote write to a real Prometheus: throughput, processor time, latency, and what it costs the doors."""

from __future__ import annotations

import http.client
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from support.daemon import BROWSER, Daemon
from support.processes import until
from support.prometheus import Prometheus
from support.receivers import STORES, receiver, receivers_file

from bench.measures import LOAD, at_least, below, figure_in, ratio
from bench.rig import Measure, Pair, check_stored, daemon, fill, folder, median, timed, wrk
from oneshotd.delivery.remote_write.batching import MAX_SAMPLES
from oneshotd.delivery.remote_write.encoding import Encoder, request
from oneshotd.delivery.remote_write.settings import ReceiverSettings

#: Events of a round, each in a series of its own.
EVENTS = 100_000

#: Single events whose latency is taken in a round.
SINGLE = 200

#: Prometheus 3.5.
(STORE,) = (store for store in STORES if store.name == "prometheus-sid")

_APPENDED = b'prometheus_tsdb_head_samples_appended_total{type="float"} '
_HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}


@contextmanager
def _prometheus() -> Iterator[Prometheus]:
    with folder() as place, receiver(STORE, place / "server") as server:
        yield server


def _appended(server: Prometheus) -> float:
    """Return how many samples the server has stored."""
    with BROWSER.open(f"{server.url}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().splitlines() if line.startswith(_APPENDED)]
    return sum(float(line.rpartition(b" ")[2]) for line in lines)  # none before the first sample


@contextmanager
def _with_receiver(*options: str, server: Prometheus, store: Path | None = None) -> Iterator[Daemon]:
    with folder() as place:
        file = receivers_file(place / "receivers.toml", {"prometheus-a": server.port})
        with daemon(f"--receivers={file}", *options, store=store) as running:
            yield running


@contextmanager
def _stopped(*processes: int) -> Iterator[None]:
    """Stop these processes meanwhile."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def _cpu(running: Daemon) -> float:
    """Return the processor seconds of a daemon."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _minimal(server: Prometheus) -> float:
    """Send as many events as fast as a sender can that keeps nothing; return events a second."""
    encoder = Encoder(ReceiverSettings(name="minimal", instance="minimal"))
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    now = int(time.time() * 1000)

    def send() -> None:
        for first in range(0, EVENTS, MAX_SAMPLES):
            numbers = range(first, first + MAX_SAMPLES)
            events = [f'events_to_metrics{{host="web{n % 100}",number="{n}",type="held"}}' for n in numbers]
            body = request([encoder.sample(series, None, now) for series in events])
            connection.request("POST", "/api/v1/write", body, _HEADERS)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 204

    seconds = timed(send)
    connection.close()
    return EVENTS / seconds


def throughput(rounds: int) -> list[Measure]:
    """A backlog of single events, from the store to the receiver's last answer."""
    rates, costs = [], []
    with folder() as place:
        kept = place / "oneshotd.sqlite"
        with Daemon(place) as filled:
            fill(filled.port, EVENTS)
            filled.stop()
        for _ in range(rounds):
            with _prometheus() as server:
                reference = _minimal(server)
            with _prometheus() as server, _with_receiver(server=server, store=kept) as running:
                before, started = _cpu(running), time.perf_counter()
                until(partial(_has, server, EVENTS), 120, "all events have arrived")
                seconds = time.perf_counter() - started
                rates.append(Pair(EVENTS / seconds, reference))
                costs.append(Pair((_cpu(running) - before) / EVENTS * 1e6, 1.0))
    return [
        Measure(
            name=f"remote write of {EVENTS:,} pending events to Prometheus 3.5, against a sender that keeps"
            " nothing",
            unit="events/s",
            rounds=rates,
            shown=ratio,
            reach="0.5x",
            aim="0.7x",
            met=at_least(0.5),
        ),
        Measure(
            name="the same: processor time an event, with reading and settling",
            unit="µs",
            rounds=costs,
            shown=figure_in("µs"),
            reach="≤ 15 µs",
            aim="≤ 8 µs",
            met=below(15.0),
        ),
    ]


def _has(server: Prometheus, events: int) -> bool:
    return _appended(server) >= events


def latency(rounds: int) -> list[Measure]:
    """From the answer to a report until a query shows the event."""
    medians, tails = [], []
    with _prometheus() as server, _with_receiver(server=server) as running:
        for number in range(rounds):
            times = sorted(_seen_after(server, running, f"{number}-{single}") for single in range(SINGLE))
            medians.append(Pair(median(times), 1.0))
            tails.append(Pair(times[SINGLE * 99 // 100], 1.0))
    return [
        Measure(
            name=f"remote write: from 200 OK to visible in a query, {what} (a scrape each 15 s: {scraped})",
            unit="ms",
            rounds=pairs,
            shown=figure_in("ms"),
            reach=f"≤ {reach:g} ms",
            aim=f"≤ {reach / 4:g} ms",
            met=below(reach),
        )
        for what, scraped, pairs, reach in (
            ("median", "7.5 s", medians, 100.0),
            ("p99", "14.9 s", tails, 500.0),
        )
    ]


def _seen_after(server: Prometheus, running: Daemon, number: str) -> float:
    """Report an event; return the milliseconds until the receiver shows it."""
    report = urllib.request.Request(f"{running.url}/event?type=seen&number={number}", data=b"", method="POST")
    with BROWSER.open(report, timeout=30) as answer:
        assert answer.status == 200
    answered = time.perf_counter()
    selector = f'count_over_time(events_to_metrics{{type="seen",number="{number}"}}[1m])'
    while not server.query(selector):
        assert time.perf_counter() - answered < 30, "the event does not arrive"
    return (time.perf_counter() - answered) * 1000


def doors(rounds: int) -> Measure:
    """The cost of a receiver for those who report events."""
    pairs = []
    more = "--max-events=100000000"
    with (
        _prometheus() as server,
        _with_receiver(more, server=server) as attached,
        daemon(more) as alone,
    ):
        stored = 0
        for _ in range(rounds):
            # Neither Prometheus nor stale markers of the round before take a processor from the reference.
            with _stopped(server.process.pid, attached.process.pid):
                without = wrk(alone.port, LOAD)
            ours = wrk(attached.port, LOAD)
            stored += ours.requests
            check_stored(attached, stored, 64 * rounds)
            # A backlog of the receiver would slow down its daemon in the next round.
            until(partial(_has, server, stored), 120, "all events have arrived")
            pairs.append(Pair(ours.rate, without.rate))
    return Measure(
        name="`POST /event`, 64 connections, with a receiver against without",
        unit="requests/s",
        rounds=pairs,
        shown=ratio,
        reach="0.9x",
        aim="1.0x",
        met=at_least(0.9),
    )
