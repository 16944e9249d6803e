"""What a user of a daemon in a clean tree asks over HTTP, from outside of the tree."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deb.inside import Failed

URL = "http://localhost:8090"

#: Seconds in which events are stored.
PATIENCE = 30.0

_SAMPLE = re.compile(r'(?m)^events_to_metrics\{n="([^"]+)"\} (\d+)$')
_BROWSER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(path: str) -> str:
    """Return the text of an answer.

    :raises OSError: there is none, or its status is not 200.
    """
    with _BROWSER.open(f"{URL}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def post(path: str) -> str:
    """Return the text of the answer to a POST without a body."""
    request = urllib.request.Request(f"{URL}{path}", method="POST")
    with _BROWSER.open(request, timeout=10) as answer:
        return str(answer.read().decode())


def held() -> int:
    """Return how many events it holds, by a look that takes nothing away."""
    (found,) = re.findall(r"(?m)^oneshotd_held_events (\S+)$", get("/metrics?look"))
    return int(float(found))


@contextmanager
def stored(count: int, log: Callable[[], str]) -> Iterator[None]:
    """Come back when so many more events are stored than before.

    :raises Failed: not all are; with the daemon's log.
    """
    before = held()
    yield
    until = time.monotonic() + PATIENCE
    while held() < before + count:
        if time.monotonic() > until:
            raise Failed(f"not all of {count} events are stored\n{log()}")
        time.sleep(0.05)


def scrape(name: str) -> Counter[str]:
    """Scrape under that name: label n -> how often."""
    return Counter({n: int(times) for n, times in _SAMPLE.findall(get(f"/metrics?scraper={name}"))})


def datagram(line: str) -> None:
    """Send a line by UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(line.encode(), ("127.0.0.1", 8090))
