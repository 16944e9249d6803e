"""Events that a daemon pushes to a receiver, and what the receiver has of them."""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence

from support.daemon import BROWSER, Daemon
from support.processes import until
from support.prometheus import Prometheus
from support.receivers import samples

#: Raw samples by series: label `n` -> (Unix ms, value).
Samples = Mapping[str, Sequence[tuple[int, float]]]

SERIES = 12
SELECTOR = 'events_to_metrics{type="x",job="oneshotd",instance="edge-1:8090"}'
#: Seconds within which a receiver has everything; a Prometheus that reads its WAL, and pauses of up to a
#: minute after several failed attempts.
PATIENCE = 150.0


def post(daemon: Daemon, *lines: str) -> None:
    """Store events; one a line."""
    body = "\n".join(lines).encode()
    request = urllib.request.Request(
        f"{daemon.url}/events", data=body, headers={"Content-Type": "text/plain"}, method="POST"
    )
    with BROWSER.open(request, timeout=30) as answer:
        assert json.load(answer)["stored"] == len(lines)


def accepted(daemon: Daemon) -> Samples:
    """Return what the daemon has accepted, by its own record."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    path = "/api/v1/events?limit=1000"
    while path:
        page = json.loads(daemon.get(path))
        for event in page["events"]:
            found[event["labels"]["n"]].append((event["at"], float(event.get("value") or 1)))
        path = f"/api/v1/events?limit=1000&before={page['next']}" if page.get("next") else ""
    return {series: sorted(each) for series, each in found.items()}


def pending(daemon: Daemon) -> int:
    """Return how many events the receiver has not got."""
    scrapers = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
    return int(sum(scraper["pending"] for scraper in scrapers)) if scrapers else 1


def lost(daemon: Daemon) -> Mapping[str, int]:
    """Return reason -> events that the receiver will never get."""
    (scraper,) = json.loads(daemon.get("/api/v1/scrapers"))["scrapers"]
    return dict(scraper["lost"])


def await_all(daemon: Daemon, server: Prometheus) -> None:
    """Wait until the receiver shows all events, each once."""
    wanted = accepted(daemon)

    def difference() -> str:
        found = samples(server, f"{SELECTOR}[1h]")
        missing = sum(len(set(wanted[n]) - set(found.get(n, ()))) for n in wanted)
        more = sum(len(found[n]) - len(set(found[n]) & set(wanted.get(n, ()))) for n in found)
        return f"{missing} missing, {more} more than once or wrong; {daemon.process.tail()}"

    until(lambda: samples(server, f"{SELECTOR}[1h]") == wanted, PATIENCE, difference)


def lines(number: int, count: int = 60) -> list[str]:
    """Events of several series, some with a value."""
    return [
        f"type=x&n={each % SERIES}" + (f"&value={number}.{each}" if each % 3 else "") for each in range(count)
    ]
