"""Real VictoriaMetrics servers as scrapers, with the query interface of `Prometheus`."""

from __future__ import annotations

from pathlib import Path

from support.daemon import environment
from support.processes import Process
from support.prometheus import Prometheus


class VictoriaMetrics(Prometheus):
    """A single-node server, which scrapes as vmagent does and answers Prometheus' API.

    What it was given is found at once: it has no cache, and hides nothing of the last 30 s.

    :param binary: the ``victoria-metrics`` to run.
    :param config: as Prometheus'; ``honor_timestamps: true`` where samples bring their time.
    """

    def __init__(self, binary: Path, folder: Path, config: str, *, name: str = "victoriametrics") -> None:
        super().__init__(binary, folder, config, name=name)
        command = (
            str(binary),
            f"-promscrape.config={folder / 'prometheus.yml'}",
            f"-storageDataPath={folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-search.latencyOffset=0s",
            "-search.disableCache",
        )
        self.process = Process(name, command, folder, environment())

    def discarded(self) -> dict[str, float]:
        """Return no counters: VictoriaMetrics does not count discarded samples."""
        return {}
