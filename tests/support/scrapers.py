"""The real scrapers that must count right: what Debian's archive has of them.

Prometheus, VictoriaMetrics and vmagent read the same configuration. Each kind is run with the
same jobs, so that what one of them is given is what all are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from attrs import frozen
from support.daemon import BROWSER, environment
from support.debian_packages import fetch
from support.processes import Process, free_port
from support.prometheus import Prometheus
from support.victoriametrics import VictoriaMetrics

_WARNING = re.compile(r"\blevel=(?:warn|error)\b|\t(?:warn|error|fatal|panic)\t", re.IGNORECASE)
#: What VictoriaMetrics and vmagent count when they throw a sample or a whole response away.
_THROWN_AWAY = re.compile(
    r"^((?:vm_rows_ignored|vm_rows_invalid|vm_promscrape_\w*failed|vmagent_remotewrite_\w*dropped)_total)"
    r"(\{[^}]*\})? (\S+)$",
    re.MULTILINE,
)


@frozen(kw_only=True)
class Job:
    """What a server is to scrape, and how.

    :param port: of the daemon, or of a proxy before it, on 127.0.0.1.
    :param mode: the ``?timestamps=`` that is asked for; None: none.
    :param interval: seconds between two scrapes, and the timeout of each.
    :param more: further settings of the job, lines of YAML.
    """

    name: str
    port: int
    mode: str | None
    interval: int
    more: tuple[str, ...] = ()


@frozen(kw_only=True)
class Kind:
    """A scraper.

    :param suite: of Debian.
    :param package: the Debian package that has it.
    :param program: in ``usr/bin``.
    :param out_of_order: Prometheus' ``out_of_order_time_window``.
    :param drops_twins: a sample that it has already, time and value, is not stored again.
    :param takes_late: samples that are older than the newest of their series are stored.
    """

    name: str
    suite: str
    package: str = "prometheus"
    program: str = "prometheus"
    out_of_order: str | None = None
    drops_twins: bool = True
    takes_late: bool = False

    @property
    def is_prometheus(self) -> bool:
        """Whether it is a Prometheus, whichever: takes several samples of a series, keeps NaN."""
        return self.package == "prometheus"


KINDS = (
    Kind(name="prometheus-bookworm", suite="bookworm"),
    Kind(name="prometheus-trixie", suite="trixie"),
    Kind(name="prometheus-sid", suite="sid"),
    Kind(name="prometheus-window", suite="sid", out_of_order="30m", takes_late=True),
    Kind(
        name="victoriametrics",
        suite="sid",
        package="victoria-metrics",
        program="victoria-metrics",
        drops_twins=False,
        takes_late=True,
    ),
    # With a server behind it that is told to drop twins.
    Kind(name="vmagent", suite="sid", package="victoria-metrics", program="vmagent", takes_late=True),
)


class Vmagent(VictoriaMetrics):
    """A vmagent, and the server to which it writes and which answers the queries.

    That server runs with ``-dedup.minScrapeInterval=1ms``: of the samples of a series at one
    time it keeps one.

    :param programs: the folder with both.
    """

    def __init__(self, programs: Path, folder: Path, config: str, *, name: str) -> None:
        super().__init__(programs / "victoria-metrics", folder, "scrape_configs: []\n", name=f"{name}-store")
        self.process.command = (*self.process.command, "-dedup.minScrapeInterval=1ms")
        self._agent_config = config
        port = free_port()
        self.agent_url = f"http://127.0.0.1:{port}"
        command = (
            str(programs / "vmagent"),
            f"-promscrape.config={folder / 'agent.yml'}",
            f"-remoteWrite.url={self.url}/api/v1/write",
            f"-remoteWrite.tmpDataPath={folder / 'queue'}",
            f"-httpListenAddr=127.0.0.1:{port}",
        )
        self.agent = Process(name, command, folder, environment())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.agent.kill()
        super().__exit__(kind, error, trace)

    def start(self) -> None:
        super().start()
        (self.folder / "agent.yml").write_text(self._agent_config)
        self.agent.start(lambda: True)


def server(kind: Kind, folder: Path, jobs: Iterable[Job]) -> Prometheus:
    """A server of this kind with these jobs, not started.

    A job's scraper has the name ``KIND/JOB``.
    """
    programs = fetch(kind.package, kind.suite) / "usr/bin"
    config = configuration(kind, jobs)
    if kind.program == "vmagent":
        return Vmagent(programs, folder, config, name=kind.name)
    make = Prometheus if kind.is_prometheus else VictoriaMetrics
    return make(programs / kind.program, folder, config, name=kind.name)


def configuration(kind: Kind, jobs: Iterable[Job]) -> str:
    """The text of prometheus.yml."""
    lines = []
    if kind.out_of_order is not None:
        lines.append(f"storage: {{tsdb: {{out_of_order_time_window: {kind.out_of_order}}}}}")
    lines.append("scrape_configs:")
    for job in jobs:
        mode = "" if job.mode is None else f", timestamps: [{job.mode}]"
        lines += [
            f"- job_name: {job.name}",
            f"  scrape_interval: {job.interval}s",
            f"  scrape_timeout: {job.interval}s",
            "  honor_timestamps: true",  # Prometheus does so anyway, VictoriaMetrics does not
            f"  params: {{scraper: ['{kind.name}/{job.name}']{mode}}}",
            f"  static_configs: [{{targets: ['127.0.0.1:{job.port}']}}]",
            *(f"  {line}" for line in job.more),
        ]
    return "\n".join(lines) + "\n"


def warnings(server: Prometheus) -> list[str]:
    """The lines of its log that are more than information."""
    texts = [server.process.log_text()]
    if isinstance(server, Vmagent):
        texts.append(server.agent.log_text())
    return [line for text in texts for line in text.splitlines() if _WARNING.search(line)]


def thrown_away(server: Prometheus) -> dict[str, float]:
    """Its own counters of samples and scrapes that it has thrown away; those that are not 0."""
    if not isinstance(server, VictoriaMetrics):
        return server.discarded()
    found: dict[str, float] = {}
    for url in {server.url, getattr(server, "agent_url", server.url)}:
        with BROWSER.open(f"{url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        for name, labels, number in _THROWN_AWAY.findall(text):
            if float(number):
                found[name + labels] = found.get(name + labels, 0) + float(number)
    return found
