"""Real daemons over a real PostgreSQL server: events are delivered once, whichever daemon is asked."""

from __future__ import annotations

import re
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.daemon import BROWSER, TWISTD, Daemon, environment
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import free_port

pytestmark = pytest.mark.e2e

#: Seconds in which what was posted has arrived, a restart of the server included.
PATIENCE = 60.0

_EVENT = re.compile(r'^events_to_metrics\{n="([^"]*)".*\} (\d+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with running_server(durable=True) as server:
        yield server


def daemon(folder: Path, server: PostgreSQLServer, database: str) -> Daemon:
    """A daemon on this database; its folder is new."""
    port = free_port()
    folder.mkdir()
    store = f"--store=postgresql:{server.address(database)}"
    return Daemon(folder, options=(f"--http=localhost:{port}", f"--udp=127.0.0.1:{port}", store), port=port)


def post(daemons: list[Daemon], number: int) -> None:
    """Report an event under a key, at one daemon after the other until one takes it."""
    deadline = time.monotonic() + PATIENCE
    for attempt in range(1000):
        one = daemons[(number + attempt) % len(daemons)]
        headers = {"Idempotency-Key": f"key-{number}"}
        request = urllib.request.Request(
            f"{one.url}/event?n={number}", method="POST", headers=headers, data=b""
        )
        try:
            with BROWSER.open(request, timeout=20):
                return
        except OSError:
            assert time.monotonic() < deadline, "nobody takes an event"
            time.sleep(0.1)  # no race: a client that waits between two attempts


def scrape(one: Daemon, got: Counter[str]) -> None:
    """Scrape as one named scraper, whichever daemon it is; a failed scrape brings nothing."""
    try:
        text = one.get("/metrics?scraper=p")
    except OSError:
        return
    got.update({n: int(count) for n, count in _EVENT.findall(text)})


def test_two_daemons_and_a_restart_of_the_server(tmp_path: Path, server: PostgreSQLServer) -> None:
    """Events would be lost or doubled where a load balancer chooses the daemon, or the database restarts."""
    database = server.new_database()
    got: Counter[str] = Counter()
    with ExitStack() as stack:
        daemons = [stack.enter_context(daemon(tmp_path / name, server, database)) for name in ("ann", "bob")]
        for number in range(120):
            post(daemons, number)
            if number % 3 == 0:
                scrape(daemons[number // 3 % 2], got)
            if number == 60:
                server.restart("immediate")
            if number == 90:
                daemons[0].restart()
        expected = Counter({str(number): 1 for number in range(120)})
        deadline = time.monotonic() + PATIENCE
        while got.total() < 120:
            assert time.monotonic() < deadline, sorted((expected - got).elements())
            for one in daemons:
                scrape(one, got)
                time.sleep(0.1)  # no race: the pace of a scraper
        for one in daemons:
            scrape(one, got)
        assert got == expected
        log = daemons[0].process.log_text()
        assert "an event that was answered with 200 is on the disk of the database server" in log


def test_a_password_on_the_command_line_is_refused(tmp_path: Path) -> None:
    """Everybody on the machine could read it in the list of processes."""
    options = ("--http=localhost:0", "--udp=127.0.0.1:0", "--store=postgresql://ann:s3cret@127.0.0.1/x")
    done = subprocess.run(
        [*TWISTD, "oneshot", *options],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "without a password" in done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_without_a_server_the_daemon_does_not_start(tmp_path: Path) -> None:
    """A daemon that cannot store would look as if it served."""
    options = ("--http=localhost:0", "--udp=127.0.0.1:0", f"--store=postgresql:host={tmp_path} dbname=x")
    done = subprocess.run(
        [*TWISTD, "oneshot", *options],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "cannot open the PostgreSQL store" in done.stdout + done.stderr
