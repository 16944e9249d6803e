"""Datagrams of Datadog's library, and requests of CloudEvents' library and of curl, at a real daemon."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from datadog.dogstatsd.base import DogStatsd
from support.clients import figures
from support.daemon import Daemon
from support.emitting_tools import provide
from support.processes import until

from oneshotd.core.events import labels_of

pytestmark = pytest.mark.e2e

#: Seconds for what takes milliseconds.
PATIENCE = 20.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with Daemon(folder, more=("--udp=unix:events.sock",)) as running:
        yield running
        assert running.errors() == []


def unix(daemon: Daemon) -> Path:
    return daemon.process.folder / "events.sock"


@pytest.fixture(params=["udp", "unix"])
def statsd(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[DogStatsd]:
    """A client without metrics about itself, which it would send every ten seconds."""
    place: dict[str, Any] = {"host": "127.0.0.1", "port": daemon.port}
    if request.param == "unix":
        place = {"socket_path": f"unixgram://{unix(daemon)}"}
    client = DogStatsd(disable_telemetry=True, constant_tags=[f"over:{request.param}"], **place)
    yield client
    client.stop()
    client.close_socket()


class Scraper:
    """Collects the samples of events with a label, over several scrapes."""

    def __init__(self, daemon: Daemon, label: str) -> None:
        self._daemon, self._label = daemon, label
        self._name = f"test-{sha256(label.encode()).hexdigest()[:12]}"
        self.found: Counter[str] = Counter()

    def wait(self, count: int) -> list[dict[str, str]]:
        """Return the labels of the events, when there are so many."""
        until(lambda: self._scrape() >= count, PATIENCE, lambda: f"{count} events: {self.found}")
        assert self.found.total() == count
        return [labels_of(series) for series in self.found.elements()]

    def _scrape(self) -> int:
        for line in self._daemon.get(f"/metrics?scraper={self._name}").splitlines():
            series, _, value = line.rpartition(" ")
            if line.startswith("events_to_metrics") and self._label in series:
                self.found[series] += int(float(value))
        return self.found.total()


def held(daemon: Daemon) -> list[dict[str, Any]]:
    return list(json.loads(daemon.get("/api/v1/events?limit=100"))["events"])


def details(daemon: Daemon, label: str) -> list[dict[str, str]]:
    """Return the details of the held events with this label."""
    return [event["detail"] for event in held(daemon) if label in json.dumps(event["labels"])]


def titles(daemon: Daemon) -> set[str]:
    """Return the titles of the held events."""
    return {event["labels"]["title"] for event in held(daemon)}


# ---- Datadog's library


def over(statsd: DogStatsd) -> str:
    return str(statsd.constant_tags[0].partition(":")[2])


def test_events_and_checks_of_the_library_are_counted(daemon: Daemon, statsd: DogStatsd) -> None:
    """A program that has this library would have to be changed."""
    way = over(statsd)
    scraper = Scraper(daemon, f'case="all-{way}"')
    tags = [f"case:all-{way}", "env:prod", "cache", "env:dev"]
    statsd.event(
        "Déployé 🎉",
        "by Ann\nand Bo|b | m: x",
        alert_type="success",
        aggregation_key="deploys",
        source_type_name="jenkins",
        date_happened=1764345600,
        priority="low",
        tags=tags,
        hostname="web-1",
    )
    statsd.service_check(
        "redis.up", DogStatsd.CRITICAL, tags=tags, message="no answer\nm: 5", hostname="web-1"
    )
    event, check = sorted(scraper.wait(2), key=lambda labels: labels["type"])
    common = {"case": f"all-{way}", "over": way, "cache": "true", "env": "dev,prod", "host": "web-1"}
    assert event == {
        "type": "event",
        "title": "Déployé 🎉",
        "alert_type": "success",
        "priority": "low",
        "source_type": "jenkins",
        **common,
    }
    assert check == {"type": "service_check", "check": "redis.up", "status": "critical", **common}


def test_a_buffered_client_loses_nothing(daemon: Daemon, statsd: DogStatsd) -> None:
    """The library fills datagrams: events with line ends and long texts among them would be cut."""
    way = over(statsd)
    scraper = Scraper(daemon, f'case="many-{way}"')
    with statsd:
        for number in range(200):
            text = "\n".join(["línea"] * (number % 40))
            statsd.event(f"Event {number % 5}", text, tags=[f"case:many-{way}"])
            if number % 4 == 0:
                statsd.service_check("up", DogStatsd.OK, tags=[f"case:many-{way}"])
    kinds = Counter(labels["type"] for labels in scraper.wait(250))
    assert kinds == {"event": 200, "service_check": 50}


def test_its_metrics_are_refused_and_counted(daemon: Daemon, statsd: DogStatsd) -> None:
    """They would become series, or be missing without a sign."""
    before = figures(daemon)['oneshotd_refused_total{reason="syntax"}']
    statsd.increment("deploys", tags=["env:prod"])
    statsd.gauge("depth", 5)
    statsd.flush()
    until(
        lambda: figures(daemon)['oneshotd_refused_total{reason="syntax"}'] >= before + 2,
        PATIENCE,
        "two refused metrics",
    )
    assert "this looks like a DogStatsD metric; see docs/emitting.md" in daemon.process.log_text()


def test_the_text_is_shown_beside_the_event(daemon: Daemon, statsd: DogStatsd) -> None:
    way = over(statsd)
    scraper = Scraper(daemon, f'case="text-{way}"')
    statsd.event("Deploy", "a\nb", date_happened=1764345600, tags=[f"case:text-{way}"])
    scraper.wait(1)
    assert details(daemon, f"text-{way}") == [{"text": "a\nb", "time": "2025-11-28T16:00:00.000Z"}]


def test_a_client_outlives_the_daemon_and_its_socket(tmp_path: Path) -> None:
    """After a restart, or a kill, no event would arrive until the program restarts, too."""
    with Daemon(tmp_path, more=("--udp=unix:events.sock",)) as daemon:
        path = unix(daemon)
        statsd = DogStatsd(socket_path=f"unixgram://{path}", disable_telemetry=True, disable_buffering=True)
        try:
            statsd.event("first", "")
            until(lambda: titles(daemon) == {"first"}, PATIENCE, "the first event")
            daemon.stop()
            assert not path.exists()
            statsd.event("lost", "")
            daemon.start()
            statsd.event("second", "")
            until(lambda: titles(daemon) == {"first", "second"}, PATIENCE, "the second event")
            daemon.kill()
            assert path.exists()
            statsd.event("lost", "")
            daemon.start()
            statsd.event("third", "")
            until(lambda: titles(daemon) == {"first", "second", "third"}, PATIENCE, "the third event")
        finally:
            statsd.close_socket()
        assert daemon.errors() == []


# ---- CloudEvents' library


def post(daemon: Daemon, message: HTTPMessage, path: str = "/hook/cloudevents") -> dict[str, int]:
    request = urllib.request.Request(daemon.url + path, message.body, message.headers, method="POST")
    with daemon.browser.open(request, timeout=PATIENCE) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        return dict(json.loads(answer.read()))


def made(case: str, **more: Any) -> CloudEvent:
    attributes = {"type": "org.example.deploy", "source": f"/ci/{case}", "subject": 'wéb "1" 50% 😀', **more}
    return CloudEvent(attributes, {"version": "1.2"})


@pytest.mark.parametrize("path", ["/hook/cloudevents", "/event", "/events"])
def test_both_modes_of_the_library_are_one_event(daemon: Daemon, path: str) -> None:
    """A gateway that changes the mode and repeats would make two events."""
    case = path.strip("/").replace("/", "-")
    scraper = Scraper(daemon, f'source="/ci/{case}"')
    event = made(case)
    assert post(daemon, to_binary_event(event), path)["stored"] == 1
    for message in (to_structured_event(event), to_binary_event(event)):
        assert post(daemon, message, path) == {"stored": 0, "duplicates": 1, "ignored": 0}
    assert scraper.wait(1) == [
        {"type": "org.example.deploy", "source": f"/ci/{case}", "subject": 'wéb "1" 50% 😀'}
    ]
    (detail,) = details(daemon, f"/ci/{case}")
    assert detail["time"].startswith("20")


def test_a_batch_is_stored_whole(daemon: Daemon) -> None:
    scraper = Scraper(daemon, 'source="/ci/batch"')
    bodies = [JSONFormat().write(made("batch", id=str(number))) for number in range(50)]
    text = ",".join(body.decode() if isinstance(body, bytes) else body for body in bodies)
    kind = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    batch = HTTPMessage(headers=kind, body=f"[{text}]".encode())
    assert post(daemon, batch) == {"stored": 50, "duplicates": 0, "ignored": 0}
    assert post(daemon, batch) == {"stored": 0, "duplicates": 50, "ignored": 0}
    scraper.wait(50)


# ---- curl


def test_the_handshake_by_curl(daemon: Daemon, tmp_path: Path) -> None:
    """Azure Event Grid and others send nothing to an address that has not agreed."""
    provide("curl", tmp_path)
    url = f"{daemon.url}/hook/cloudevents"
    done = subprocess.run(
        [
            *(tmp_path / "curl", "-sSi", "--noproxy", "*", "-X", "OPTIONS", url),
            *("-H", "WebHook-Request-Origin: eventgrid.example.net", "-H", "WebHook-Request-Rate: 120"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    head = done.stdout.replace("\r", "").lower()
    assert head.startswith("http/1.1 200")
    for line in (
        "webhook-allowed-origin: eventgrid.example.net",
        "webhook-allowed-rate: *",
        "allow: options, post",
    ):
        assert f"\n{line}\n" in head
    assert head.endswith("\n\n")
