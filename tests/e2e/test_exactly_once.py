"""Real Prometheus servers, a real daemon, restarts: every event arrives once in each server."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.processes import Process, until
from support.prometheus import Prometheus, scrape_config
from support.readme import block, on_port
from support.steady_tool import KeyedTool

pytestmark = pytest.mark.e2e

EVENTS = 120
#: Series of the README's loop, and how many events each has.
SERIES = {
    f'burst="{burst}",door="{door}",type="loop"': 10 for burst in range(1, 7) for door in ("http", "udp")
}
#: Sent at one moment: each is a sample of its own, so they queue, and do so over the restart.
READINGS = [1.5, 2.5, 4.0, 8.0, 16.0]

TOTAL = "sum(sum_over_time(events_to_metrics[10m]))"
SCRAPE_LABELS = ("job", "instance")


class Steady(KeyedTool):
    """Reports each event until it is answered; some are answered twice."""

    def report(self) -> None:
        self._post(self.sent)
        if self.sent % 10 == 0:
            # As when the first answer is lost on its way.
            self._post(self.sent)
        self.sent += 1

    def _post(self, number: int) -> None:
        self.post(number, "__name__=steady", attempts=300, timeout=10)


def test_each_event_arrives_once_in_each_prometheus_over_restarts(tmp_path: Path) -> None:
    """A dashboard that sums the events shows exactly what was sent, whichever server it asks, and
    no alert on the target or on discarded samples fires."""
    binary = fetch("prometheus") / "usr/bin/prometheus"
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(tmp_path / "daemon"))
        target = f"127.0.0.1:{daemon.port}"
        servers = [
            stack.enter_context(Prometheus(binary, tmp_path / name, scrape_config(name, target), name=name))
            for name in ("ann", "bob")
        ]
        _, bob = servers
        for server in servers:
            server.await_scrapes(1)
            assert server.unhealthy_targets() == []
        loop = Process("loop", ["bash", "-c", on_port(block("burst $burst is out"), daemon.port)], tmp_path)
        stack.callback(loop.kill)
        loop.start(lambda: True)
        steady = Steady(daemon.url)
        with steady.working():
            loop.await_text("burst 2 is out")
            send_readings(daemon)
            gone = time.time()
            daemon.stop()
            # The loop's next report and the steady one find nobody, and try again.
            loop.await_text("Will retry")
            until(lambda: steady.refused, 10, "a refused report")
            daemon.start()
            back = time.time()
            loop.await_text("burst 3 is out")
            assert bob.discarded() == {}
            bob.restart()
            loop.await_end(60)

        until(lambda: all(arrived(server, steady.sent) for server in servers), 20, lambda: state(servers))
        until(
            lambda: pending(daemon) == {"ann": 0, "bob": 0}, 10, lambda: f"nothing to come: {pending(daemon)}"
        )
        for server in servers:
            server.await_scrapes(3)  # what came twice would have come by now

        for server in servers:
            name = server.process.name
            sums = server.by_labels("sum_over_time(events_to_metrics[10m])", *SCRAPE_LABELS)
            assert sums == SERIES, name
            assert server.value(TOTAL) == EVENTS, name
            assert server.value("sum(sum_over_time(steady[10m]))") == steady.sent, name
            assert [value for _, value in server.samples("reading[10m]")] == READINGS, name
            assert server.discarded() == {}, name
            assert server.unhealthy_targets() == [], name
            down = [at for at, up in server.samples("up[10m]") if up != 1]
            assert down, f"{name} never met the daemon away: the test did not test the restart"
            # A scrape's time is rounded by a few milliseconds to keep its phase.
            assert [at for at in down if not gone - 0.05 <= at <= back] == [], name
        assert daemon.errors() == []
        daemon.stop()


def send_readings(daemon: Daemon) -> None:
    body = "\n".join(f"__name__=reading&value={value}" for value in READINGS)
    request = urllib.request.Request(
        f"{daemon.url}/events", data=body.encode(), headers={"Content-Type": "text/plain"}
    )
    with BROWSER.open(request, timeout=10) as answer:
        assert answer.status == 200


def arrived(server: Prometheus, steady: int) -> bool:
    """Whether all is there; more than all can be told at once."""
    totals = {
        TOTAL: EVENTS,
        "sum(sum_over_time(steady[10m]))": steady,
        "sum(count_over_time(reading[10m]))": len(READINGS),
    }
    now = {expression: server.value(expression) for expression in totals}
    for expression, goal in totals.items():
        assert now[expression] <= goal, f"{server.process.name}: {expression} over {goal}: {now[expression]}"
    return now == totals


def state(servers: list[Prometheus]) -> str:
    """What each server has, for a failure."""
    return "\n".join(
        f"{server.process.name}: {name} {server.by_labels(f'sum_over_time({name}[10m])', *SCRAPE_LABELS)}"
        for server in servers
        for name in ("events_to_metrics", "steady", "reading")
    )


def pending(daemon: Daemon) -> dict[str, int]:
    """Scraper -> events that it has to come, as the daemon itself says."""
    name = "oneshotd_scraper_pending_events"
    found = {}
    for line in daemon.look().splitlines():
        if line.startswith(name + "{"):
            series, _, number = line.rpartition(" ")
            found[series.split('"')[1]] = int(float(number))
    return found
