"""Start a daemon, a Prometheus that scrapes it and a few emitters, and print three links.

    make demo

Prometheus is the one of this system, else Debian's, which is fetched into .cache/debian/ and not
installed. All data is in a temporary folder. Ctrl-C ends all of it and removes the folder.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from support.daemon import BROWSER, Daemon
from support.processes import free_port, is_free
from support.prometheus import Prometheus, scrape_config

from oneshotd.emit import EmitError, emit
from tools.debian_archive import PackageUnavailable, fetch_with_libraries

#: What the second link shows: events of the last half minute, counted by their type.
COUNTING_QUERY = "sum by (type) (sum_over_time(events_to_metrics[30s]))"

#: Where Debian's Prometheus has its pages, below its package's root.
WEB_ASSETS = Path("usr/share/prometheus/web")

STARTED = "Ctrl-C ends all of it."


class Emitters:
    """A few programs that report events, each in another way and at another pace."""

    def __init__(self, daemon: Daemon, seed: int | None = None) -> None:
        self._http = daemon.url
        self._udp = f"udp://127.0.0.1:{daemon.port}"
        self._chance = random.Random(seed)
        ways: tuple[tuple[float, Callable[[], None]], ...] = (
            (1.5, self._web_shop),
            (0.4, self._logins),
            (7.0, self._deployment),
            (10.0, self._nightly_job),
        )
        self._waiting = [(0.0, number, pace, way) for number, (pace, way) in enumerate(ways)]

    def run(self) -> None:
        """Report until interrupted.

        :raises EmitError: the daemon does not take an event.
        """
        started = time.monotonic()
        while True:
            due, number, pace, way = self._waiting[0]
            time.sleep(max(0.0, started + due - time.monotonic()))
            way()
            # Not from now on: an emitter that was late makes up for it.
            following = due + self._chance.expovariate(1 / pace)
            heapq.heapreplace(self._waiting, (following, number, pace, way))

    def _web_shop(self) -> None:
        """From a Python program, over HTTP: on disk when the call returns."""
        for _ in range(self._chance.choice((1, 1, 1, 2, 6))):
            emit(type="order", country=self._chance.choice(("de", "fr", "pl")), url=self._http)

    def _logins(self) -> None:
        """Over UDP, without an answer."""
        result = self._chance.choice(("ok", "ok", "ok", "denied"))
        emit(type="login", result=result, url=self._udp)

    def _deployment(self) -> None:
        """From a script, with a key, so that it counts once however often it is sent."""
        version = f"2.{self._chance.randrange(100)}"
        self._command("--retry", "10s", "type=deploy", "service=shop", f"version={version}")

    def _nightly_job(self) -> None:
        """A command that is run and reported, under another metric name; its seconds are the value."""
        job = self._chance.choice(("true", "false"))
        self._command("--exec", "__name__=job_seconds", "type=cron", "task=cleanup", "--", job)

    def _command(self, *words: str) -> None:
        """Run ``oneshot-emit``; the status of a job that it runs is the job's own."""
        environment = {**os.environ, "ONESHOTD_URL": self._http}
        command = (str(Path(sys.executable).with_name("oneshot-emit")), *words)
        subprocess.run(command, env=environment, timeout=60, process_group=0, stdin=subprocess.DEVNULL)


def prometheus_program(folder: Path) -> tuple[Path, Sequence[str]]:
    """Return the program and its options: the system's own, else Debian's from the cache.

    :param folder: for links to its pages and scripts.
    :raises PackageUnavailable: there is none to be had; the text says why.
    """
    installed = shutil.which("prometheus")
    if installed is not None:
        return Path(installed), ()
    root = fetch_with_libraries("prometheus")
    link_assets(root, folder)
    return root / "usr/bin/prometheus", (f"--web.local-assets={folder}",)


def link_assets(root: Path, folder: Path) -> None:
    """Link the pages' files into `folder`. Some of them are links into packages that `root` does
    not have because this system has them."""
    for parent, folders, files in os.walk(root / WEB_ASSETS):
        here = folder / Path(parent).relative_to(root / WEB_ASSETS)
        here.mkdir(parents=True, exist_ok=True)
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink() or path.is_file():
                aim = Path(os.path.normpath(path.parent / path.readlink())) if path.is_symlink() else path
                if not aim.exists() and aim.is_relative_to(root):
                    aim = Path("/", aim.relative_to(root))
                (here / path.name).symlink_to(aim.absolute())


def graph_link(prometheus: Prometheus, minutes: int = 5) -> str:
    """The address of a graph of the counting query.

    Debian's Prometheus 2 has the old pages at /classic/graph, others have the new ones at /graph;
    Debian's Prometheus 3 has none, so that the answer itself has to do.
    """
    asked = {"g0.expr": COUNTING_QUERY, "g0.tab": 0, "g0.stacked": 1, "g0.range_input": f"{minutes}m"}
    for page in ("/classic/graph", "/graph"):
        try:
            with BROWSER.open(prometheus.url + page, timeout=10):
                return f"{prometheus.url}{page}?{urllib.parse.urlencode(asked)}"
        except OSError:
            continue
    return f"{prometheus.url}/api/v1/query?{urllib.parse.urlencode({'query': COUNTING_QUERY})}"


def port_or_free(port: int) -> int:
    """Return the port if it is free, else another one."""
    sorts = ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM))
    return port if port and all(is_free(port, *sort) for sort in sorts) else free_port()


def demo(folder: Path, stack: ExitStack, ports: tuple[int, int], seed: int | None) -> None:
    """Start all of it, print the links, and let the emitters run until interrupted."""
    binary, options = prometheus_program(folder / "web")
    daemon = Daemon(folder, port=port_or_free(ports[0]))
    config = scrape_config("prometheus-demo", f"127.0.0.1:{daemon.port}")
    prometheus = Prometheus(
        binary, folder / "prometheus", config, port=port_or_free(ports[1]), options=options
    )
    for process, start in ((daemon.process, daemon.start), (prometheus.process, prometheus.start)):
        process.own_group = True
        stack.callback(process.kill)
        start()
    # An orderly stop first; the kill above is for a process that does not end.
    stack.callback(daemon.stop)
    prometheus.await_scrapes(1)
    print(f"status page  {daemon.url}/")
    print(f"Prometheus   {graph_link(prometheus)}")
    print(f"metrics      {daemon.url}/metrics")
    print(STARTED, flush=True)
    Emitters(daemon, seed).run()


def interrupted(number: int, frame: object) -> None:
    """End the demo; what follows is not interrupted again."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=8090, help="the daemon's, or a free one (%(default)s)")
    parser.add_argument("--prometheus-port", type=int, default=9090, help="the same (%(default)s)")
    parser.add_argument("--seed", type=int, help="repeat the emitters' choices")
    chosen = parser.parse_args(arguments)
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupted)
    print("starting a daemon and a Prometheus", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="oneshotd-demo-") as folder, ExitStack() as stack:
            demo(Path(folder), stack, (chosen.port, chosen.prometheus_port), chosen.seed)
    except KeyboardInterrupt:
        print("\nall of it has ended")
        return 0
    except (PackageUnavailable, EmitError) as error:
        print(f"demo: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
