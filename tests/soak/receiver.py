"""The receiver of remote write of a campaign: a Prometheus behind a line with faults, and its own faults."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any

from soak.actor import Actor, Bag
from soak.ledger import Books
from soak.push_judge import Findings, Sample, Samples, Series
from soak.push_line import FAULTS, PUSHED, STORED, TIMEOUT, PushLine
from support.audit_command import run_audit
from support.daemon import Daemon
from support.prometheus import Prometheus
from support.receivers import receivers_file

#: Its name, and the labels of its series.
RECEIVER, JOB, INSTANCE = "prometheus", "oneshotd", "edge-1:8090"

#: Seconds from an event to its stale marker, and within which the markers of all have to be there.
VISIBLE, ENDED_WITHIN = 1.0, 45.0

#: What happens to the Prometheus.
KILL, KILL_PUSHED, KILL_STORED, STOP, RESTART = STORE_FAULTS = (
    "kill -9 of the receiver at a random moment",
    "kill -9 of the receiver as a request comes",
    "kill -9 of the receiver as it has answered",
    "the receiver stopped and resumed (SIGSTOP, SIGCONT)",
    "orderly restart of the receiver (SIGTERM)",
)
KINDS = (*STORE_FAULTS, *FAULTS)

#: Seconds between two of them, and seconds of a stop.
_EVERY, _STOPS = (1.0, 6.0), ((0.05, 0.5), (1.0, 1.5 * TIMEOUT))

#: Seconds that the audit may take; and that the range of a query is longer than the campaign.
_AUDIT_WITHIN, _MARGIN = 180.0, 60.0


class Receiver:
    """A Prometheus in its default configuration that the daemon pushes to.

    :param program: the ``prometheus``.
    :ivar line: before it.
    :ivar faults: what kills it.
    """

    def __init__(self, program: Path, folder: Path, *, books: Books, seed: int) -> None:
        self.server = Prometheus(
            program,
            folder / RECEIVER,
            "scrape_configs: []\n",
            options=("--web.enable-remote-write-receiver",),
        )
        self.line = PushLine(self.server.port, books=books, seed=seed)
        self.faults = StoreFaults(self.server, books, seed)
        self._began = time.time()
        file = receivers_file(
            folder / "receivers.toml",
            {RECEIVER: self.line.port},
            instance=f'"{INSTANCE}"',
            visible=f'"{VISIBLE:g}s"',
            timeout=f'"{TIMEOUT:g}s"',
        )
        self.options = (f"--receivers={file}",)

    def __enter__(self) -> Receiver:
        self.server.start()
        self.line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.line.__exit__(kind, error, trace)
        self.server.__exit__(kind, error, trace)

    def find_out(self, daemon: Daemon) -> Findings:
        """Compare when all is quiet and nothing is pending."""
        findings = Findings(wall=time.time() - time.monotonic())
        deadline = time.monotonic() + ENDED_WITHIN
        while (visible := self._visible()) and time.monotonic() < deadline:
            time.sleep(0.2)
        findings.visible = visible
        findings.record, findings.found = record(daemon), self._samples()
        findings.status, findings.audit = audit(daemon, self.server, time.time() - self._began + _MARGIN)
        return findings

    def _visible(self) -> int:
        """Return the number of series that an instant query finds."""
        return int(self.server.value('count({__name__!=""})'))

    def _samples(self) -> Samples:
        """Return the raw samples without the stale markers, whatever series they are of."""
        now = time.time() + _MARGIN
        seconds = math.ceil(now - self._began + _MARGIN)
        found: dict[Series, list[Sample]] = {}
        for matcher in (*(f'n=~".*{digit}"' for digit in range(10)), 'n!~".*[0-9]"'):
            selector = f'{{__name__!="",{matcher}}}[{seconds}s] @ {now:.3f}'
            for row in self.server.query(selector):
                found[frozenset(row["metric"].items())] = [
                    (round(float(at) * 1000), float(value)) for at, value in row["values"]
                ]
        return found


def record(daemon: Daemon) -> Samples:
    """Return the samples that the receiver has to have, by the daemon's log."""
    found: dict[Series, list[Sample]] = defaultdict(list)
    path = "/api/v1/events?limit=1000"
    while path:
        page: dict[str, Any] = json.loads(daemon.get(path))
        for event in page["events"]:
            labels = {"__name__": event["metric"], "job": JOB, "instance": INSTANCE, **event["labels"]}
            value = 1.0 if event["value"] is None else float(event["value"])
            found[frozenset(labels.items())].append((event["at"], value))
        path = f"/api/v1/events?limit=1000&before={page['next']}" if page["next"] else ""
    return found


def audit(daemon: Daemon, server: Prometheus, seconds: float) -> tuple[int, dict[str, Any]]:
    """Run `oneshotctl audit` over so many seconds until now; its exit status, and what it printed."""
    words = ("--way", "push", "--json", "--last", f"{math.ceil(seconds)}s")
    done = run_audit(daemon, RECEIVER, server.url, *words, within=_AUDIT_WITHIN)
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        return done.returncode, {"verdict": f"{done.stdout[-500:]} {done.stderr[-500:]}"}


class StoreFaults(Actor):
    """Kills, stops and restarts the Prometheus now and then; it runs again after each turn."""

    def __init__(self, server: Prometheus, books: Books, seed: int) -> None:
        super().__init__("store-faults", seed)
        self._server = server
        self._books = books
        self._bag = Bag(self.dice, STORE_FAULTS)

    def turn(self) -> None:
        self.over.wait(self.dice.uniform(*_EVERY))
        kind = self._bag.draw()
        if kind == STOP:
            os.kill(self._server.process.pid, signal.SIGSTOP)
            self.over.wait(self.dice.uniform(*self.dice.choice(_STOPS)))
            os.kill(self._server.process.pid, signal.SIGCONT)
        elif kind == RESTART:
            self._server.stop()
            self._start()
        else:
            if kind != KILL and not self._books.await_moment(PUSHED if kind == KILL_PUSHED else STORED, 5.0):
                kind = KILL
            self._server.process.kill()
            self._start()
        self._books.fault(kind)

    def _start(self) -> None:
        self.over.wait(self.dice.choice([0.0, 0.0, self.dice.uniform(0.0, 2.0)]))
        self._server.start()
