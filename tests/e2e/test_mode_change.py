"""A scraper that changes between scrape time and event time, in a real Prometheus."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.processes import free_port, until
from support.prometheus import Prometheus
from support.scraper_set import WINDOW, pending, post
from support.scrapers import KINDS, Job, configuration, server, warnings
from support.steady_tool import SteadyTool

pytestmark = pytest.mark.e2e

(PROMETHEUS,) = (kind for kind in KINDS if kind.name == "prometheus-sid")

SCRAPER = f"{PROMETHEUS.name}/oneshotd"

#: Of events; each series has some all the time, and some in bursts.
SERIES = [{"__name__": "steady", "n": n} for n in range(3)]
BURST = 300


class Tool(SteadyTool):
    """Reports a few events in one body."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__()
        self._daemon = daemon
        self._lock = threading.Lock()

    def report(self, times: int = 1) -> None:
        """So many events of each series."""
        with self._lock:
            post(self._daemon, SERIES * times)
            self.sent += len(SERIES) * times


def test_a_new_scrape_configuration_loses_nothing(tmp_path: Path) -> None:
    """Each event is there once, and none was out of order, though its series had samples of both
    kinds: with the time of the scrape, and with its own."""
    with Daemon(tmp_path / "daemon") as daemon:
        made = server(PROMETHEUS, tmp_path / "server", [job(daemon, "scrape")])
        tool = Tool(daemon)
        with made, tool.working():
            made.await_scrapes(2)
            for mode in ("event", "scrape"):
                tool.report(BURST)  # it is on its way when the mode changes, or waits for it
                made.config = configuration(PROMETHEUS, [job(daemon, mode)])
                (made.folder / "prometheus.yml").write_text(made.config)
                os.kill(made.process.pid, signal.SIGHUP)
                # The loop of before ends its series by markers two intervals later.
                made.await_scrapes(4)
            tool.stop()
            check(made, "steady", lambda: tool.sent)
            assert [up for _, up in made.samples("up[10m]") if up != 1] == []
        assert daemon.errors() == []


def test_another_default_of_the_daemon_loses_nothing(tmp_path: Path) -> None:
    """Also where a scrape fails meanwhile, for which Prometheus ends the series by markers: what
    was accepted before is later than these when it is shown."""
    port = free_port()
    folder = tmp_path / "daemon"
    made = server(PROMETHEUS, tmp_path / "server", [Job(name="oneshotd", port=port, mode=None, interval=1)])
    sent = 0
    with made:
        for mode in ("scrape", "event", "scrape"):
            with Daemon(folder, options=options(folder, port, mode), port=port) as daemon:
                post(daemon, SERIES)
                until(partial(has_all, daemon), 20, "a delivery")
                # The next scrape is the one that fails: it ends the series that it does not have.
                post(daemon, SERIES * 2)
                sent += 3 * len(SERIES)
                failed = downs(made)
                daemon.stop()
                assert daemon.errors() == []
            until(partial(has_failed, made, failed), 20, "a scrape that failed")
        with Daemon(folder, options=options(folder, port, "event"), port=port):
            check(made, "steady", lambda: sent)


def job(daemon: Daemon, mode: str) -> Job:
    return Job(name="oneshotd", port=daemon.port, mode=mode, interval=1)


def options(folder: Path, port: int, mode: str) -> list[str]:
    return [
        f"--http=tcp:{port}:interface=127.0.0.1",
        f"--udp=127.0.0.1:{port}",
        f"--store=sqlite:{folder / 'oneshotd.sqlite'}",
        f"--timestamps={mode}",
    ]


def has_all(daemon: Daemon) -> bool:
    """Whether all that was sent so far is delivered."""
    return pending(daemon) == {SCRAPER: 0}


def has_failed(made: Prometheus, before: int) -> bool:
    """Whether a further scrape has failed."""
    return downs(made) > before


def downs(made: Prometheus) -> int:
    """How many scrapes have failed."""
    return sum(up != 1 for _, up in made.samples("up[10m]"))


def check(made: Prometheus, metric: str, sent: Callable[[], int]) -> None:
    """All is there once, and Prometheus has nothing to say against it."""
    total = f"sum(sum_over_time({metric}{WINDOW}))"
    until(
        lambda: made.value(total) >= sent(),
        20,
        lambda: f"{made.value(total)} of {sent()} events; {made.discarded()}",
    )
    made.await_scrapes(2)  # what came twice would have come by now
    assert made.value(total) == sent()
    sums = made.by_labels(f"sum_over_time({metric}{WINDOW})", "job", "instance")
    assert len(sums) == len(SERIES) and len(set(sums.values())) == 1
    assert made.discarded() == {}
    assert warnings(made) == []
