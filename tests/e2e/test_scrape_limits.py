"""Real scrapers with limits: what they do at exactly the limit, and that a daemon which is told them
loses no response.

A failure of the first tests means that a scraper has changed: see `oneshotd.core.scrape_limits`.
"""

from __future__ import annotations

import gzip
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from attrs import frozen
from prometheus_client.parser import text_string_to_metric_families
from support.daemon import BROWSER, Daemon
from support.debian_packages import fetch
from support.prometheus import Prometheus
from support.scrapers import KINDS, Kind
from support.victoriametrics import VictoriaMetrics

pytestmark = pytest.mark.e2e

SERVERS = [kind for kind in KINDS if kind.name.startswith("prometheus-") and kind.out_of_order is None]
SERVERS += [kind for kind in KINDS if kind.name == "victoriametrics"]


def server(kind: Kind, folder: Path, config: str) -> Prometheus:
    """A server of this kind, not started."""
    program = fetch(kind.package, kind.suite) / "usr/bin" / kind.program
    make = Prometheus if kind.is_prometheus else VictoriaMetrics
    return make(program, folder, config, name=kind.name)


# ---- at exactly the limit --------------------------------------------------------------------


@frozen(kw_only=True)
class Case:
    """A response, a limit of the job that scrapes it, and whether it is taken."""

    name: str
    body: bytes
    limit: str
    taken: bool


def sized(size: int) -> bytes:
    """One sample in a body of so many bytes."""
    rest = len(b'm{a=""} 1\n')
    return b'm{a="' + b"x" * (size - rest) + b'"} 1\n'


def labelled(name: str, value: str = "x") -> bytes:
    return f'm{{{name}="{value}"}} 1\n'.encode()


def cases(kind: Kind) -> Iterator[Case]:
    """Each limit just kept and just not."""

    def both(name: str, limit: str, taken: bytes, refused: bytes) -> Iterator[Case]:
        yield Case(name=f"{name}-taken", body=taken, limit=limit, taken=True)
        yield Case(name=f"{name}-refused", body=refused, limit=limit, taken=False)

    samples = [f'm{{a="{number}"}} 1\n'.encode() for number in range(6)]
    labels = [",".join(f'l{number}="x"' for number in range(count)) for count in (7, 8)]
    yield from both("samples", "sample_limit: 5", b"".join(samples[:5]), b"".join(samples))
    few, many = (f"m{{{text}}} 1\n".encode() for text in labels)
    yield from both("labels", "label_limit: 10", few, many)
    if kind.is_prometheus:
        yield from both("bytes", "body_size_limit: 1000B", sized(999), sized(1000))
        yield from both("KB", "body_size_limit: 1KB", sized(1023), sized(1024))
        limit = "label_name_length_limit"
        yield from both("names", f"{limit}: 10", labelled("n" * 10), labelled("n" * 11))
        yield Case(name="job-12", body=labelled("job"), limit=f"{limit}: 12", taken=True)
        yield Case(name="job-11", body=labelled("job"), limit=f"{limit}: 11", taken=False)
        limit = "label_value_length_limit"
        yield from both("values", f"{limit}: 30", labelled("a", "ö" * 15), labelled("a", "ö" * 15 + "x"))
        yield from both("metric", f"{limit}: 30", b"m" * 30 + b" 1\n", b"m" * 31 + b" 1\n")
    else:
        yield from both("bytes", 'max_scrape_size: "1000"', sized(1000), sized(1001))
        yield from both("KB", "max_scrape_size: 1KB", sized(1000), sized(1001))
        yield from both("KiB", "max_scrape_size: 1KiB", sized(1024), sized(1025))


@pytest.fixture
def target() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A target that answers as it is told, host:port, and the answers by path; compressed if asked."""
    bodies: dict[str, bytes] = {}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies[self.path.partition("?")[0]]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                body = gzip.compress(body)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    serving = threading.Thread(target=http.serve_forever, daemon=True)
    serving.start()
    yield f"127.0.0.1:{http.server_port}", bodies
    http.shutdown()
    http.server_close()
    serving.join(10)


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.name)
def test_what_a_scraper_does_at_exactly_its_limit(
    kind: Kind, target: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """The daemon's limits are made after this; a body is measured uncompressed."""
    address, bodies = target
    lines, expected = ["scrape_configs:"], {}
    for case in cases(kind):
        bodies[f"/{case.name}"] = case.body
        expected[case.name] = float(case.taken)
        lines += [
            f"- job_name: {case.name}",
            "  scrape_interval: 1s",
            f"  metrics_path: /{case.name}",
            f"  {case.limit}",
            f"  static_configs: [{{targets: ['{address}']}}]",
        ]
    with server(kind, tmp_path, "\n".join(lines) + "\n") as running:

        def found() -> Mapping[str, float]:
            return {row["metric"]["job"]: float(row["value"][1]) for row in running.query("up")}

        running.process.until(lambda: found().keys() == expected.keys(), 60, "a scrape of each")
        assert found() == expected


# ---- a daemon that is told -------------------------------------------------------------------

LONG = "v" * 1100

#: Limits of a job; the parameters that tell them; an event beyond each; the reason of its loss.
TOLD: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "sample_limit": ({"sample_limit": "20"}, {"type": "a"}, ""),
    "body_size_limit": ({"body_size_limit": "1200B"}, {"long": LONG}, "body_size_limit"),
    "label_limit": ({"label_limit": "5"}, {"a": "x", "b": "x", "c": "x"}, "label_limit"),
    "label_name_length_limit": (
        {"label_name_length_limit": "14"},
        {"instance": "x"},
        "label_name_length_limit",
    ),
    "label_value_length_limit": (
        {"label_value_length_limit": "60"},
        {"long": LONG},
        "label_value_length_limit",
    ),
    "max_scrape_size": ({"max_scrape_size": "1200"}, {"long": LONG}, "max_scrape_size"),
}


def told(kind: Kind) -> Iterator[str]:
    """The limits that this kind has."""
    for name in TOLD:
        other = name == "body_size_limit" or name.endswith("_length_limit")
        if name != "max_scrape_size" if kind.is_prometheus else not other:
            yield name


def emit(daemon: Daemon, labels: Mapping[str, str]) -> None:
    query = urllib.parse.urlencode(labels)
    with BROWSER.open(urllib.request.Request(f"{daemon.url}/event?{query}", method="POST"), timeout=10):
        pass


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.name)
def test_a_scraper_whose_limits_are_told_loses_no_response(kind: Kind, tmp_path: Path) -> None:
    """Forty events and one that is beyond: the forty arrive, the one is counted under the limit."""
    names = list(told(kind))
    with Daemon(tmp_path / "daemon") as daemon:
        lines = ["scrape_configs:"]
        for name in names:
            limits, _, _ = TOLD[name]
            params = ", ".join(f"{key}: ['{text}']" for key, text in {"scraper": name, **limits}.items())
            lines += [
                f"- job_name: {name}",
                "  scrape_interval: 1s",
                *(f"  {key}: {text}" for key, text in limits.items()),
                f"  params: {{{params}}}",
                f"  static_configs: [{{targets: ['127.0.0.1:{daemon.port}']}}]",
            ]
        for number in range(40):
            emit(daemon, {"few": str(number)})
        for labels in {tuple(TOLD[name][1].items()) for name in names}:
            emit(daemon, dict(labels))
        with server(kind, tmp_path / "server", "\n".join(lines) + "\n") as running:
            total = 'sum by (job) (sum_over_time(events_to_metrics{few!=""}[10m]))'

            def arrived() -> dict[str, float]:
                return {row["metric"]["job"]: float(row["value"][1]) for row in running.query(total)}

            expected = dict.fromkeys(names, 40.0)
            running.process.until(lambda: arrived() == expected, 90, "forty events in each job")
            reasons = {(name, TOLD[name][2]): 1.0 for name in names if TOLD[name][2]}
            running.process.until(
                lambda: lost(daemon) == reasons, 30, "the losses in the daemon's own metrics"
            )
            assert running.unhealthy_targets() == []
            assert running.query("count_over_time((up == 0)[10m:1s])") == [], "a response was thrown away"
        assert daemon.errors() == []


def lost(daemon: Daemon) -> dict[tuple[str, str], float]:
    """Scraper and limit -> events that were lost, those that are not 0."""
    name = "oneshotd_scraper_lost_events_total"
    return {
        (sample.labels["scraper"], sample.labels["reason"]): sample.value
        for family in text_string_to_metric_families(daemon.look())
        for sample in family.samples
        if sample.name == name and sample.value
    }
