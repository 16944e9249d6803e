"""What the measures share: servers as processes, load generators, figures."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from support.daemon import REPOSITORY, Daemon, environment
from support.debian_packages import fetch
from support.processes import Process, free_port, is_free, until  # is_free: for references

BENCH = Path(__file__).resolve().parent


@frozen
class Pair:
    """One round of a measure: ours, and the reference's in the same round."""

    ours: float
    reference: float

    @property
    def ratio(self) -> float:
        """Ours by the reference's."""
        return self.ours / self.reference


@frozen(kw_only=True)
class Measure:
    """A row of the table.

    :param unit: of both figures.
    :param reach, aim: the bounds asked for, as text.
    :param met: whether the median ratio (or figure) reaches the least that is asked.
    :param figure: the median that `met` judges.
    """

    name: str
    unit: str
    rounds: Sequence[Pair]
    shown: Callable[[Sequence[Pair]], str]
    reach: str
    aim: str
    met: Callable[[Sequence[Pair]], bool]


def median(figures: Sequence[float]) -> float:
    """The median."""
    return statistics.median(figures)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that the repository is on: a store in memory would prove nothing."""
    parent = REPOSITORY / ".cache"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name:
        yield Path(name)


@contextmanager
def daemon(
    *options: str, store: Path | None = None, ca: Path | None = None, database: str | None = None
) -> Iterator[Daemon]:
    """oneshotd, as installed, with its default durability.

    :param store: a store to begin with; it is copied.
    :param ca: of its certificate, if the options make it speak TLS.
    :param database: the connection string of a PostgreSQL database, in place of a file.
    """
    with folder() as place:
        if store is not None:
            shutil.copy(store, place / "oneshotd.sqlite")
        port = free_port()
        with Daemon(
            place,
            port=port,
            ca=ca,
            options=(
                f"--http=localhost:{port}",
                f"--udp=127.0.0.1:{port}",
                f"--store=sqlite:{place / 'oneshotd.sqlite'}"
                if database is None
                else f"--store=postgresql:{database}",
                *options,
            ),
        ) as running:
            yield running


@contextmanager
def reference(kind: str, *more: str) -> Iterator[int]:
    """A bare server of `references.py`; gives its port.

    :param more: arguments behind the port.
    """
    with folder() as place:
        port = free_port()
        env = environment() | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))}
        process = Process(
            kind, (sys.executable, "-m", "bench.references", kind, str(port), *more), place, env
        )
        import socket

        protocol = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
        try:
            process.start(lambda: not is_free(port, socket.AF_INET, protocol))
            yield port
        finally:
            process.kill()


@frozen
class Load:
    """What wrk saw; latencies in milliseconds."""

    rate: float
    requests: int
    p50: float
    p99: float
    p999: float


def wrk(
    port: int,
    seconds: float,
    *,
    connections: int = 64,
    close: bool = False,
    token: str | None = None,
    scheme: str = "http",
) -> Load:
    """Post distinct events with wrk.

    :param close: a new connection for each.
    :param token: sent with each request.
    :raises AssertionError: a request was not answered with 200.
    """
    global _runs
    _runs += 1
    env = os.environ | {"WRK_RUN": f"{os.getpid()}-{_runs}-"}
    if close:
        env["WRK_CLOSE"] = "1"
    if token is not None:
        env["WRK_TOKEN"] = token
    command, more = _wrk()
    ended = subprocess.run(
        [
            command,
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "-s",
            BENCH / "post.lua",
            f"{scheme}://127.0.0.1:{port}",
        ],
        env=env | more,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith("RESULT"))
    requests, duration, errors, *latencies = map(int, line.split()[1:])
    assert errors == 0, ended.stdout
    p50, p99, p999 = (latency / 1000 for latency in latencies)
    return Load(rate=requests / duration * 1e6, requests=requests, p50=p50, p99=p99, p999=p999)


_runs = 0


def _wrk() -> tuple[str, dict[str, str]]:
    """Debian's wrk: installed, or fetched together with its library."""
    installed = shutil.which("wrk")
    if installed:
        return installed, {}
    tree, library = fetch("wrk"), fetch("libluajit-5.1-2")
    (folder_,) = {path.parent for path in library.rglob("libluajit-5.1.so.2")}
    return str(tree / "usr/bin/wrk"), {"LD_LIBRARY_PATH": str(folder_)}


def flood_program() -> Path:
    """The sender of `flood.c`, built when it is needed."""
    built = REPOSITORY / ".cache" / "flood"
    source = BENCH / "flood.c"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        built.parent.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-o", built, source], check=True, timeout=60)
    return built


def post_lines(port: int, lines: Sequence[str]) -> None:
    """One body to /events."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/events",
        data="\n".join(lines).encode(),
        headers={"Content-Type": "text/plain"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def fill(port: int, events: int, body: int = 5000) -> None:
    """Store distinct events."""
    for first in range(0, events, body):
        post_lines(
            port, [f"type=held&host=web{n % 100}&number={n}" for n in range(first, min(first + body, events))]
        )


def figure(running: Daemon, name: str) -> float:
    """A metric of the daemon's own, all its series added up."""
    total = 0.0
    for line in running.look().splitlines():
        if line.startswith((name + " ", name + "{")):
            total += float(line.rpartition(" ")[2])
    return total


def check_stored(running: Daemon, answered: int, late: int) -> None:
    """Check that the daemon holds all events that it has accepted.

    :param answered: events of which wrk has seen the answer.
    :param late: how many more there may be: wrk drops answers that come after its time.
    """
    # The two figures are read one after the other: the last events may be stored in between.
    until(
        lambda: figure(running, "oneshotd_held_events") == figure(running, "oneshotd_events_accepted_total"),
        5.0,
        "what was accepted is held",
    )
    accepted = figure(running, "oneshotd_events_accepted_total")
    assert answered <= accepted <= answered + late, (answered, accepted)


def rss(running: Daemon) -> float:
    """Resident memory of a daemon, MB."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
