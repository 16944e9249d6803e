"""The real receivers of remote write that must count right, and a file of receivers for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen
from support.debian_packages import fetch
from support.prometheus import Prometheus
from support.victoriametrics import VictoriaMetrics

#: No job: events arrive by remote write alone.
_NOTHING = "scrape_configs: []\n"
_WINDOW = _NOTHING + "storage: {tsdb: {out_of_order_time_window: 1h}}\n"


@frozen(kw_only=True)
class Store:
    """A kind of receiver.

    :param suite: of Debian.
    :param package: the Debian package that has it, and its program in ``usr/bin``.
    :param config: the text of its configuration.
    :param keys: of its ``[[receiver]]``.
    """

    name: str
    suite: str
    package: str = "prometheus"
    config: str = _NOTHING
    options: Sequence[str] = ("--web.enable-remote-write-receiver",)
    keys: Mapping[str, str] = {}

    @property
    def is_prometheus(self) -> bool:
        """Whether it is a Prometheus, whichever."""
        return self.package == "prometheus"


STORES = (
    Store(name="prometheus-bookworm", suite="bookworm"),
    Store(name="prometheus-trixie", suite="trixie"),
    Store(name="prometheus-sid", suite="sid"),
    Store(name="prometheus-window", suite="sid", config=_WINDOW),
    Store(
        name="victoriametrics",
        suite="sid",
        package="victoria-metrics",
        options=("-dedup.minScrapeInterval=1ms",),
        keys={"replay": '"20s"'},
    ),
)


def receiver(store: Store, folder: Path) -> Prometheus:
    """A server of this kind without a job, not started."""
    program = fetch(store.package, store.suite) / "usr/bin" / store.package
    if store.is_prometheus:
        return Prometheus(program, folder, store.config, name=store.name, options=store.options)
    server = VictoriaMetrics(program, folder, store.config, name=store.name)
    server.process.command = (*server.process.command, *store.options)
    return server


def receivers_file(path: Path, ports: Mapping[str, int], **keys: str) -> Path:
    """Write a file of receivers.

    :param ports: name of each receiver to its port on 127.0.0.1.
    :param keys: further keys of each, in TOML.
    """
    tables = []
    for name, port in ports.items():
        lines = {
            "name": f'"{name}"',
            "url": f'"http://127.0.0.1:{port}/api/v1/write"',
            "instance": '"edge-1:8090"',
            **keys,
        }
        tables.append(
            "[[receiver]]\n" + "".join(f"{key.replace('_', '-')} = {text}\n" for key, text in lines.items())
        )
    path.write_text("".join(tables))
    return path


def samples(server: Prometheus, selector: str) -> Mapping[str, Sequence[tuple[int, float]]]:
    """Return the raw samples of a range selector without stale markers: label `n` -> (Unix ms, value)."""
    return {
        row["metric"].get("n", ""): [
            (round(float(at) * 1000), float(value))
            for at, value in row["values"]
            if not math.isnan(float(value))
        ]
        for row in server.query(selector)
    }
