"""Two real Prometheus servers that scrape two daemons over one database count exactly over a failover."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from soak.cluster_database import Database
from support.daemon import Daemon
from support.debian_packages import fetch
from support.processes import free_port, until
from support.prometheus import Prometheus
from support.steady_tool import KeyedTool

pytestmark = pytest.mark.e2e

NAMES = ("ann-host", "bob-host")

#: Seconds in which everything has arrived after the failover; the leases of that time run out meanwhile.
PATIENCE = 60.0

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: oneshotd
    params: {{scraper: [{scraper}]}}
    static_configs: [{{targets: ["127.0.0.1:{first}", "127.0.0.1:{second}"]}}]
"""


class Steady(KeyedTool):
    """Reports each event at one daemon after the other, until one has stored it."""

    def report(self) -> None:
        self.post(self.sent, f"__name__=steady&tool={self.sent % 7}", attempts=600, timeout=3)
        self.sent += 1


def test_each_prometheus_counts_exactly_over_a_failover(tmp_path: Path) -> None:
    """A dashboard shows what was sent, whichever machine of the database has died."""
    binary = fetch("prometheus") / "usr/bin/prometheus"
    folder = Path(tempfile.mkdtemp(prefix="oneshotd-cluster-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # PostgreSQL does not run as root
        database = Database(folder, NAMES)
        stack.callback(database.close)
        daemons = [stack.enter_context(daemon(tmp_path / name, name, database)) for name in NAMES]
        servers = [
            stack.enter_context(
                Prometheus(
                    binary,
                    tmp_path / scraper,
                    CONFIG.format(scraper=scraper, first=daemons[0].port, second=daemons[1].port),
                    name=scraper,
                )
            )
            for scraper in ("ann", "bob")
        ]
        for server in servers:
            server.await_scrapes(2)
            assert server.unhealthy_targets() == []
        steady = Steady(*(daemon.url for daemon in daemons))
        with steady.working():
            until(lambda: steady.sent > 50, PATIENCE, "50 events")
            database.primary.kill_all()
            until(lambda: steady.refused, PATIENCE, "a refused report")
            old = database.promote(relaxed=False)
            database.replace(old)
            sent = steady.sent
            until(lambda: steady.sent > sent + 50, PATIENCE, "50 events after the failover")
            daemons[0].restart()  # the other one goes on
            sent = steady.sent
            until(lambda: steady.sent > sent + 20, PATIENCE, "20 events after the restart")
        until(
            lambda: all(counted(server) == steady.sent for server in servers),
            PATIENCE,
            lambda: f"{steady.sent} sent, counted {[counted(server) for server in servers]}",
        )
        for server in servers:
            server.await_scrapes(6)  # what came twice would have come by now
            assert counted(server) == steady.sent, server.process.name
            assert server.discarded() == {}, server.process.name
            assert server.unhealthy_targets() == [], server.process.name


def daemon(folder: Path, name: str, database: Database) -> Daemon:
    """A daemon over this database."""
    port = free_port()
    folder.mkdir()
    options = (
        *(f"--http=localhost:{port}", f"--udp=127.0.0.1:{port}"),
        *(f"--store=postgresql:{database.address(name)}", f"--daemon-name={name}", "--lease-margin=5s"),
    )
    return Daemon(folder, options=options, port=port)


def counted(server: Prometheus) -> float:
    """The number of events that a dashboard shows."""
    return server.value("sum(sum_over_time(steady[10m]))")
