"""Real Prometheus servers as scrapers, in a folder and on a port of their own."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from support.daemon import BROWSER, environment
from support.processes import Process, free_port

#: What Prometheus counts when it throws a sample away.
DISCARDED = (
    "prometheus_target_scrapes_sample_duplicate_timestamp_total",
    "prometheus_target_scrapes_sample_out_of_order_total",
    "prometheus_target_scrapes_sample_out_of_bounds_total",
)

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: oneshotd
    params: {{scraper: [{scraper}]}}
    static_configs: [{{targets: ["{target}"]}}]
"""


class Prometheus:
    """One server with its data, over restarts; as a context manager like `Daemon`.

    :param binary: the ``prometheus`` to run (see `tests/support/debian_packages.py`).
    :param config: text of prometheus.yml; `scrape_config` makes the usual one.
    :param port: where it listens; else a free one is chosen.
    :param options: more of its command line.
    :param prefix: a command that runs a command elsewhere (``nsenter …``).
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        config: str,
        *,
        name: str = "prometheus",
        port: int | None = None,
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.config = config
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._prefix = tuple(prefix)
        command = (
            *self._prefix,
            str(binary),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            *options,
        )
        self.process = Process(name, command, folder, environment())

    def __enter__(self) -> Prometheus:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()

    def start(self) -> None:
        """Start the server with its data, and wait until it answers queries."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "prometheus.yml").write_text(self.config)
        self.process.start(self._is_ready)

    def stop(self) -> None:
        """Stop by SIGTERM: the server finishes its scrape, and keeps its data."""
        self.process.stop()

    def restart(self) -> None:
        """`stop`, then `start`."""
        self.stop()
        self.start()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query, as the HTTP API gives it."""
        answer = json.loads(self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float:
        """Return the number of a query; 0 if the result is empty."""
        result = self.query(expression)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else 0.0

    def by_labels(self, expression: str, *ignored: str) -> dict[str, float]:
        """Series -> number, the series written with sorted labels and without the `ignored` ones."""
        found = {}
        for row in self.query(expression):
            labels = {name: text for name, text in row["metric"].items() if name not in ignored}
            found[canonical(labels)] = float(row["value"][1])
        return found

    def samples(self, selector: str) -> list[tuple[float, float]]:
        """(Unix seconds, value) of every raw sample that a range selector of one series finds."""
        result = self.query(selector)
        assert len(result) <= 1, result
        return [(at, float(value)) for at, value in result[0]["values"]] if result else []

    def targets(self) -> list[dict[str, Any]]:
        """Return the active targets, as the HTTP API gives them."""
        answer = json.loads(self._get("/api/v1/targets?state=active"))
        found: list[dict[str, Any]] = answer["data"]["activeTargets"]
        return found

    def unhealthy_targets(self) -> list[str]:
        """Scrape URL and last error of each target that is not up."""
        rows = [row for row in self.targets() if row["health"] != "up"]
        return [f"{row['scrapeUrl']}: {row['lastError']}" for row in rows]

    def scrapes(self) -> int:
        """Return the number of scrapes of the last ten minutes, including failed ones."""
        return int(self.value("sum(count_over_time(up[10m]))"))

    def await_scrapes(self, count: int, seconds: float = 30.0) -> None:
        """Wait until the server has stored `count` further scrapes."""
        goal = self.scrapes() + count
        self.process.until(lambda: self.scrapes() >= goal, seconds, f"{count} further scrapes")

    def discarded(self) -> dict[str, float]:
        """Return the counters of discarded samples that are not 0."""
        found = {}
        for name, number in re.findall(r"^(\w+) (\S+)$", self._get("/metrics"), re.MULTILINE):
            if name in DISCARDED:
                found[name] = float(number)
        assert set(found) == set(DISCARDED), f"this Prometheus does not count {set(DISCARDED) - set(found)}"
        return {name: number for name, number in found.items() if number}

    def _is_ready(self) -> bool:
        try:
            self._get("/-/ready")
        except OSError:
            return False
        return True

    def _get(self, path: str) -> str:
        if self._prefix:
            curl = ("curl", "--silent", "--fail", "--noproxy", "*", "--max-time", "10", self.url + path)
            done = subprocess.run((*self._prefix, *curl), capture_output=True, timeout=30)
            if done.returncode != 0:
                raise OSError(f"curl: status {done.returncode}")
            return done.stdout.decode()
        with BROWSER.open(self.url + path, timeout=10) as answer:
            return str(answer.read().decode())


def scrape_config(scraper: str, target: str) -> str:
    """A prometheus.yml that scrapes `target` (host:port) once a second under the name `scraper`."""
    return CONFIG.format(scraper=scraper, target=target)


def canonical(labels: Mapping[str, str]) -> str:
    """Labels as one text, sorted: ``tool="a",type="b"``."""
    return ",".join(f'{name}="{text}"' for name, text in sorted(labels.items()))
