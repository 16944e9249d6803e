"""Clients that record answers: an emitter, and a scraper that measures its scrapes."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen
from support.daemon import Daemon

#: A scraper's `scrape_timeout` here, seconds: half of Prometheus' default.
SCRAPE_TIMEOUT = 5.0

_OWN = ("oneshotd_", "process_", "#")
_NUMBERED = re.compile(r'n="(\d+)"')


@frozen
class Answer:
    """An answer; status 0: there was none."""

    status: int
    text: str
    retry_after: str | None = None


def post(
    daemon: Daemon, query: str, body: bytes = b"", *, path: str = "/event", timeout: float = 15.0
) -> Answer:
    """Send events.

    :param timeout: seconds without an answer after which the client gives up.
    """
    request = urllib.request.Request(
        f"{daemon.url}{path}?{query}", method="POST", data=body, headers={"Content-Type": "text/plain"}
    )
    return _answer(daemon, request, timeout)


def post_many(daemon: Daemon, numbers: range, padding: int = 0) -> Answer:
    """Send the events ``n="…"`` in one body, all or none."""
    pad = "x" * padding
    lines = (f"type=many&n={number}&pad={pad}" for number in numbers)
    return post(daemon, "", "\n".join(lines).encode(), path="/events")


def readiness(daemon: Daemon) -> Answer:
    """Return the answer of ``/readyz``."""
    return _answer(daemon, urllib.request.Request(f"{daemon.url}/readyz"), 15.0)


def _answer(daemon: Daemon, request: urllib.request.Request, timeout: float) -> Answer:
    try:
        with daemon.browser.open(request, timeout=timeout) as answer:
            return Answer(int(answer.status), answer.read().decode())
    except urllib.error.HTTPError as refused:
        with refused:
            return Answer(refused.code, refused.read().decode(), refused.headers["Retry-After"])
    except OSError as error:
        return Answer(0, str(error))


class Scraper:
    """A known scraper: on one connection, by name, with a timeout, as Prometheus does it.

    :ivar numbers: how often each event ``n="…"`` came.
    :ivar own: the daemon's own metrics in the last response.
    :ivar samples: of events, in the last response.
    :ivar worst: longest time from a request to the end of its response, seconds.
    :ivar scrapes: answered.
    """

    def __init__(self, daemon: Daemon, name: str = "known") -> None:
        self.numbers: Counter[int] = Counter()
        self.events = 0
        self.own: dict[str, float] = {}
        self.samples = 0
        self.worst = 0.0
        self.scrapes = 0
        self._connect = daemon.connection
        self._path = f"/metrics?scraper={name}"
        self._line: http.client.HTTPConnection | None = None

    def scrape(self) -> int:
        """Scrape once; return the number of samples of events.

        :raises OSError: nobody is there, or the timeout is over.
        """
        began = time.monotonic()
        body = self._get()
        self.worst = max(self.worst, time.monotonic() - began)
        self.scrapes += 1
        self.samples = 0
        for line in body.splitlines():
            series, _, value = line.rpartition(" ")
            if line.startswith(_OWN):
                if not line.startswith("#"):
                    self.own[series] = float(value)
                continue
            self.samples += 1
            self.events += int(float(value))
            if numbered := _NUMBERED.search(series):
                self.numbers[int(numbered[1])] += int(float(value))
        return self.samples

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.close()
            self._line = None

    @contextmanager
    def at_work(self, interval: float = 0.2) -> Iterator[Scraper]:
        """Scrape at this interval in a thread, each time within the timeout.

        :raises AssertionError: at the end: a scrape failed, or there was none.
        """
        over = threading.Event()
        failures: list[BaseException] = []
        before = self.scrapes

        def work() -> None:
            try:
                while not over.wait(interval):
                    self.scrape()
            except Exception as failure:
                failures.append(failure)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join(2 * SCRAPE_TIMEOUT)
        assert not failures, f"a scrape failed after {self.scrapes - before}: {failures[0]!r}"
        assert not thread.is_alive()
        assert self.scrapes > before, "nothing was scraped: the test shows nothing"

    def _get(self) -> str:
        reused = self._line is not None
        try:
            return self._ask()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            self.close()
            if not reused:
                raise
            # As Go's client does where a connection dies on which it had asked before.
            return self._ask()
        except BaseException:
            self.close()
            raise

    def _ask(self) -> str:
        if self._line is None:
            self._line = self._connect(SCRAPE_TIMEOUT)
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": f"{SCRAPE_TIMEOUT:g}"}
        self._line.request("GET", self._path, headers=headers)
        answer = self._line.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, f"{answer.status} {text[:200]}"
        return text


def figures(daemon: Daemon) -> dict[str, float]:
    """Return the daemon's own metrics by series, by a look."""
    lines = daemon.look().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(("oneshotd_", "process_"))
    }


def memory(daemon: Daemon, name: str) -> float:
    """Return the daemon's memory in MiB: VmRSS (now) or VmHWM (the maximum)."""
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
        found = re.search(rf"^{name}:\s+(\d+)", status.read(), re.MULTILINE)
    assert found, name
    return int(found[1]) / 1024


def send(daemon: Daemon, *datagrams: bytes) -> None:
    """Send over UDP, without an answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", daemon.port))


@contextmanager
def emitting(daemon: Daemon, connections: int) -> Iterator[list[int]]:
    """Run this many clients in threads, each sending one event ``n="…"`` after another.

    :returns: the numbers of those that were answered 200.
    :raises AssertionError: at the end: a client got another answer, or none.
    """
    over = threading.Event()
    accepted: list[int] = []
    failures: list[str] = []

    def work(client: int) -> None:
        line = daemon.connection(15)
        try:
            for number in range(client * 100_000, (client + 1) * 100_000):
                if over.is_set():
                    return
                line.request("POST", f"/event?type=one&n={number}")
                with line.getresponse() as answer:
                    text = answer.read().decode()
                if answer.status != 200:
                    failures.append(f"{answer.status} {text}")
                    return
                accepted.append(number)
        except Exception as failure:
            failures.append(repr(failure))
        finally:
            line.close()

    threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield accepted
    finally:
        over.set()
        for thread in threads:
            thread.join(20)
    assert not failures, f"{len(failures)} clients failed: {failures[0]}"
