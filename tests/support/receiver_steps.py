"""Events for a receiver, held exchanges with it, and the exact comparison of what both sides have."""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence

from support.daemon import BROWSER, Daemon
from support.processes import until
from support.prometheus import Prometheus
from support.receivers import samples
from support.step_line import Step, StepLine

SELECTOR = 'events_to_metrics{type="x",job="oneshotd",instance="edge-1:8090"}'
SERIES = 5

#: Seconds for everything that a test waits for. After some failed attempts a receiver is asked again after
#: half a minute.
PATIENCE = 60.0


def post(daemon: Daemon) -> None:
    """Store two events of each series, the second of them with a value."""
    lines = [f"type=x&n={n}" + (f"&value={n}.5" if again else "") for again in (0, 1) for n in range(SERIES)]
    request = urllib.request.Request(
        f"{daemon.url}/events", data="\n".join(lines).encode(), headers={"Content-Type": "text/plain"}
    )
    with BROWSER.open(request, timeout=30) as answer:
        assert json.load(answer)["stored"] == len(lines)


def accepted(daemon: Daemon) -> Mapping[str, Sequence[tuple[int, float]]]:
    """Return what the daemon has accepted: label `n` -> (Unix ms, value)."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    page = json.loads(daemon.get("/api/v1/events?limit=1000"))
    assert not page["next"]
    for event in page["events"]:
        found[event["labels"]["n"]].append((event["at"], float(event["value"] or 1)))
    return {series: sorted(each) for series, each in found.items()}


def has_pending(daemon: Daemon) -> bool:
    """Return whether the receiver has not got all; also where there is none yet."""
    scrapers = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
    return not scrapers or any(scraper["pending"] for scraper in scrapers)


def check(daemon: Daemon, server: Prometheus, step: str) -> None:
    """Wait until nothing is pending; the receiver has each event once then, and nothing is lost."""
    until(lambda: not has_pending(daemon), PATIENCE, lambda: f"{step}: delivery\n{daemon.process.tail()}")
    assert samples(server, f"{SELECTOR}[1h]") == accepted(daemon), step
    [scraper] = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
    assert scraper["lost"] == {}, step


def await_end(server: Prometheus, step: str) -> None:
    """Wait until all series have ended."""
    until(lambda: not server.query(SELECTOR), PATIENCE, f"{step}: the stale markers")


def hold(daemon: Daemon, line: StepLine, step: Step, *, markers: bool = False) -> None:
    """Store events, and wait until an exchange with them, or with their markers, is held at a step."""
    line.hold(step, markers=markers)
    post(daemon)
    assert line.held.wait(PATIENCE), f"{step}: {daemon.process.tail()}"


def kill_at(daemon: Daemon, line: StepLine, step: Step, *, markers: bool = False) -> None:
    """Store events, and kill the daemon when an exchange is held at a step, see `hold`."""
    hold(daemon, line, step, markers=markers)
    daemon.kill()
