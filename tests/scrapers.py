"""The real scrapers that must count right: all servers that Debian's archive has.

Each is a server of its own with the same jobs in it, so that what one of them is given is what
all are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from attrs import frozen
from daemon import BROWSER, environment
from debian_packages import fetch
from processes import Process, free_port
from prometheus import Prometheus
from victoriametrics import VictoriaMetrics

#: Seconds between two scrapes, and their timeout: with all servers at work on two cores some
#: responses take a second.
INTERVAL = 2

_WARNING = re.compile(r"\blevel=(?:warn|error)\b|\t(?:warn|error|fatal|panic)\t", re.IGNORECASE)
_VM_COUNTER = re.compile(r"^(vm_rows_ignored_total|vm_rows_invalid_total|vm_promscrape_\w*failed\w*_total|"
                         r"vmagent_remotewrite_(?:packets|rows)\w*dropped_total|vm_promscrape_stale_samples_\w+)"
                         r"(\{[^}]*\})? (\S+)$", re.MULTILINE)


@frozen(kw_only=True)
class Job:
    """What a server is to scrape, and how.

    :param port: of the daemon, or of a proxy before it.
    :param mode: the ``?timestamps=`` that is asked for.
    """

    name: str
    port: int
    mode: str


@frozen(kw_only=True)
class Kind:
    """A scraper.

    :param package: the Debian package that has it.
    :param program: in ``usr/bin``.
    :param suite: of Debian.
    :param out_of_order: Prometheus' ``out_of_order_time_window``.
    """

    name: str
    package: str = "prometheus"
    program: str = "prometheus"
    suite: str
    out_of_order: str | None = None

    @property
    def is_prometheus(self) -> bool:
        """Whether it is a Prometheus, whichever."""
        return self.package == "prometheus"

    @property
    def keeps_twins(self) -> bool:
        """Whether it keeps a sample that it has already, time and value."""
        return self.program == "victoria-metrics"

    @property
    def keeps_nan(self) -> bool:
        """Whether it stores a value that is no number."""
        return self.is_prometheus


KINDS = (
    Kind(name="prometheus-bookworm", suite="bookworm"),
    Kind(name="prometheus-trixie", suite="trixie"),
    Kind(name="prometheus-sid", suite="sid"),
    Kind(name="prometheus-window", suite="sid", out_of_order="30m"),
    Kind(name="victoriametrics", suite="sid", package="victoria-metrics", program="victoria-metrics"),
    Kind(name="vmagent", suite="sid", package="victoria-metrics", program="vmagent"),
)


class Vmagent(VictoriaMetrics):
    """A vmagent with a server behind it, which does the scraping no more.

    That server drops twins (``-dedup.minScrapeInterval=1ms``): samples of one time in a series.
    """

    def __init__(self, folder_of_programs: Path, folder: Path, config: str, *, name: str) -> None:
        super().__init__(folder_of_programs / "victoria-metrics", folder, "scrape_configs: []\n", name=f"{name}-store")
        self.process.command = (*self.process.command, "-dedup.minScrapeInterval=1ms")
        self._own_config = config
        self._agent_port = free_port()
        self.agent = Process(
            name,
            (
                str(folder_of_programs / "vmagent"),
                f"-promscrape.config={folder / 'agent.yml'}",
                f"-remoteWrite.url={self.url}/api/v1/write",
                f"-remoteWrite.tmpDataPath={folder / 'queue'}",
                f"-httpListenAddr=127.0.0.1:{self._agent_port}",
            ),
            folder,
            environment(),
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.agent.kill()
        super().__exit__(kind, error, trace)

    def start(self) -> None:
        super().start()
        (self.folder / "agent.yml").write_text(self._own_config)
        self.agent.start(lambda: True)

    def discarded(self) -> dict[str, float]:
        with BROWSER.open(f"http://127.0.0.1:{self._agent_port}/metrics", timeout=10) as answer:
            return {**super().discarded(), **_counters(answer.read().decode())}


def server(kind: Kind, folder: Path, jobs: Iterable[Job]) -> Prometheus:
    """A server of this kind with these jobs, not started.

    A job's scraper has the name ``KIND/JOB``.
    """
    programs = fetch(kind.package, kind.suite) / "usr/bin"
    config = _config(kind, jobs)
    if kind.program == "vmagent":
        return Vmagent(programs, folder, config, name=kind.name)
    make = Prometheus if kind.is_prometheus else VictoriaMetrics
    return make(programs / kind.program, folder, config, name=kind.name)


def warnings(server: Prometheus) -> list[str]:
    """The lines of its log that are more than information."""
    texts = [server.process.log_text()]
    if isinstance(server, Vmagent):
        texts.append(server.agent.log_text())
    return [line for text in texts for line in text.splitlines() if _WARNING.search(line)]


def _counters(text: str) -> dict[str, float]:
    return {name + labels: float(number) for name, labels, number in _VM_COUNTER.findall(text) if float(number)}


def _config(kind: Kind, jobs: Iterable[Job]) -> str:
    lines = [f"global: {{scrape_interval: {INTERVAL}s, scrape_timeout: {INTERVAL}s}}"]
    if kind.out_of_order is not None:
        lines.append(f"storage: {{tsdb: {{out_of_order_time_window: {kind.out_of_order}}}}}")
    lines.append("scrape_configs:")
    for job in jobs:
        lines += [
            f"- job_name: {job.name}",
            # Prometheus does so anyway, VictoriaMetrics does not.
            "  honor_timestamps: true",
            f"  params: {{scraper: ['{kind.name}/{job.name}'], timestamps: [{job.mode}]}}",
            f"  static_configs: [{{targets: ['127.0.0.1:{job.port}']}}]",
        ]
    return "\n".join(lines) + "\n"
