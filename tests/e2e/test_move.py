"""A store is moved between real daemons, by the commands of docs/operations.md, and restored from a dump."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.daemon import BROWSER, REPOSITORY, Daemon, environment
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import free_port, until
from support.thread_pump import ThreadPump

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import Group
from oneshotd.store.limits import Limits
from oneshotd.store.postgresql.transfer import PostgreSQLImport
from oneshotd.store.sqlite.store import SQLiteStore

pytestmark = pytest.mark.e2e

PAGE = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")

#: Seconds until a database that no daemon touches any more can be moved.
PATIENCE = 40.0

_EVENT = re.compile(r'^events_to_metrics\{n="([^"]*)".*\} (\d+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    with running_server() as server:
        yield server


class Machine:
    """A folder, a database, and a daemon that uses one of them.

    :ivar database: its name, which a command of the page may create.
    """

    def __init__(self, folder: Path, server: PostgreSQLServer, database: str) -> None:
        self.folder, self._server, self.database = folder, server, database
        self.port = free_port()
        self.file = folder / "oneshotd.sqlite"

    def daemon(self, store: str) -> Daemon:
        options = (f"--http=localhost:{self.port}", f"--udp=127.0.0.1:{self.port}", f"--store={store}")
        return Daemon(self.folder, options=options, port=self.port)

    def on_file(self) -> Daemon:
        return self.daemon(f"sqlite:{self.file}")

    def on_database(self, name: str | None = None) -> Daemon:
        return self.daemon(f"postgresql:{self._server.address(name or self.database)}")

    def commands(self, mark: str) -> list[str]:
        """The page's block with this text, for this machine, without what takes root or systemd."""
        blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        (block,) = (text for text in blocks if mark in text)
        login = f"host={self._server.socket} user=oneshotd"
        for old, new in (
            *(("\\\n", " "), ("runuser -u oneshotd -- ", ""), ("/var/lib/oneshotd", str(self.folder))),
            *(("/var/backups/oneshotd", str(self.folder)), ("host=db user=replicator", login)),
            *(("host=db", login), ("dbname=oneshotd", f"dbname={self.database}")),
        ):
            block = block.replace(old, new)
        block = re.sub(r"(?m)(createdb .*) oneshotd", rf"\1 {self.database}", block)
        return [line for line in block.splitlines() if not line.startswith(("systemctl", "sleep"))]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the page."""
        client = self._server.client()
        env = {**environment(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{client['PATH']}"}
        if not command.startswith("oneshotctl"):
            env = {**client, "PATH": env["PATH"]}
        return subprocess.run(
            ["bash", "-ec", command], cwd=self.folder, env=env, capture_output=True, text=True, timeout=120
        )

    def succeed(self, commands: list[str]) -> None:
        for command in commands:
            done = self.run(command)
            assert done.returncode == 0, (command, done.stdout, done.stderr)


def post(daemon: Daemon, number: int) -> None:
    """Report an event under a key."""
    request = urllib.request.Request(
        f"{daemon.url}/event?n={number}", method="POST", headers={"Idempotency-Key": f"k{number}"}, data=b""
    )
    with BROWSER.open(request, timeout=20):
        pass


def scrape(daemon: Daemon, got: Counter[str], name: str | None = None) -> None:
    path = "/metrics" if name is None else f"/metrics?scraper={name}"
    got.update({n: int(count) for n, count in _EVENT.findall(daemon.get(path))})


def drain(daemon: Daemon, got: Counter[str], total: int, name: str | None = None) -> None:
    """Scrape until so many events have come, and once more."""

    def all_came() -> bool:
        scrape(daemon, got, name)
        return got.total() >= total

    until(all_came, PATIENCE, lambda: f"{name}: {got}")
    scrape(daemon, got, name)


def head(daemon: Daemon) -> int:
    return int(json.loads(daemon.get("/api/v1/events?limit=1"))["events"][0]["seq"])


def test_each_scraper_goes_on_exactly_after_a_move_and_back(tmp_path: Path, server: PostgreSQLServer) -> None:
    """Events would be lost or delivered twice, or a key forgotten, when a user outgrows one machine."""
    machine = Machine(tmp_path, server, "moved")
    mine, late, unnamed = Counter[str](), Counter[str](), Counter[str]()
    there, back = machine.commands("oneshotd.sqlite.moved"), machine.commands("sleep 11")
    assert [command.split()[0] for command in (*there, *back)] == [
        "createdb",
        "oneshotctl",
        "mv",
        "oneshotctl",
    ]

    with machine.on_file() as daemon:
        scrape(daemon, late, "late")
        for _ in range(4):  # from the third on, events are kept for it
            scrape(daemon, unnamed)
        for number in range(60):
            post(daemon, number)
            if number < 30 and number % 7 == 0:
                scrape(daemon, mine, "mine")
        scrape(daemon, unnamed)
        assert unnamed.total() == 60
        machine.succeed(there[:1])
        refused = machine.run(there[1])
        assert refused.returncode == 75 and "is in use by another process" in refused.stderr
        daemon.kill()
    machine.succeed(there[1:])
    assert not machine.file.exists()

    with machine.on_database() as daemon:
        assert head(daemon) == 60
        scrape(daemon, mine, "mine")
        post(daemon, 59)  # a client that has not heard the answer
        for number in range(60, 90):
            post(daemon, number)
        assert head(daemon) == 90
        drain(daemon, mine, 90, "mine")
        scrape(daemon, unnamed)
        assert daemon.errors() == []
        refused = machine.run(back[0])
        assert refused.returncode == 75 and "a daemon works on this database" in refused.stderr
        daemon.kill()
    assert not machine.file.exists()
    until(lambda: machine.run(back[0]).returncode != 75, PATIENCE, "a database that nobody touches")

    with machine.on_file() as daemon:
        assert head(daemon) == 90
        for number in range(85, 100):
            post(daemon, number)
        for got, name in ((mine, "mine"), (late, "late"), (unnamed, None)):
            drain(daemon, got, 100, name)
            assert got == Counter({str(number): 1 for number in range(100)}), name
        assert daemon.errors() == []


def test_a_killed_move_leaves_the_target_empty(tmp_path: Path, server: PostgreSQLServer) -> None:
    """A half store would be taken for a whole one, or the command refuse a second attempt."""
    machine = Machine(tmp_path, server, server.new_database())
    fill(machine.file, 20_000)
    address = server.address(machine.database)
    command = (
        sys.executable,
        "-m",
        "oneshotd.ctl",
        "move",
        f"sqlite:{machine.file}",
        f"postgresql:{address}",
    )
    PostgreSQLImport(address).close()  # creates the tables
    with psycopg.connect(address, autocommit=True) as other:
        other.execute("CREATE TABLE held (x int)")
        other.execute(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN LOCK TABLE held; RETURN NEW; END $$"
        )
        other.execute(
            "CREATE TRIGGER hold BEFORE INSERT ON segment FOR EACH ROW"
            " WHEN (NEW.first > 10000) EXECUTE FUNCTION hold()"
        )
    with psycopg.connect(address) as other:
        other.execute("LOCK TABLE held")
        moving = subprocess.Popen(command, cwd=REPOSITORY, env=environment())
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with psycopg.connect(address, autocommit=True) as watch:
            until(
                lambda: watch.execute(waiting).fetchone() == (1,), PATIENCE, "the move has come to the lock"
            )
            moving.kill()
            moving.wait(timeout=20)
    with psycopg.connect(address, autocommit=True) as other:
        assert other.execute("SELECT count(*) FROM segment").fetchone() == (0,)
        assert subprocess.run(command, cwd=REPOSITORY, env=environment(), timeout=60).returncode == 0
        assert other.execute("SELECT sum(count) FROM segment").fetchone() == (20_000,)


def test_a_dump_is_an_earlier_state_of_everything(tmp_path: Path, server: PostgreSQLServer) -> None:
    """The page would promise a backup that cannot be restored, or other effects than it has."""
    machine = Machine(tmp_path, server, server.new_database())
    restored = machine.commands("pg_restore")
    before, after = Counter[str](), Counter[str]()
    with machine.on_database() as daemon:
        for number in range(10):
            post(daemon, number)
            if number == 4:
                scrape(daemon, before, "p")
        machine.succeed(machine.commands("pg_dump"))
        post(daemon, 10)
        scrape(daemon, before, "p")
        assert before.total() == 11
        daemon.kill()
    machine.succeed([*restored, *machine.commands("pg_basebackup")])
    assert (tmp_path / "base" / "PG_VERSION").exists()
    with machine.on_database(f"{machine.database}_restored") as daemon:
        assert head(daemon) == 10
        drain(daemon, after, 5, "p")
        assert after == Counter({str(number): 1 for number in range(5, 10)})
        post(daemon, 10)  # a client sends it again: its key is unknown, and so is the event
        post(daemon, 9)
        assert head(daemon) == 11
        drain(daemon, after, 6, "p")
        assert after["10"] == after["9"] == 1
        assert daemon.errors() == []


def fill(file: Path, events: int) -> None:
    """Make a store with so many events."""
    pump = ThreadPump()
    store = SQLiteStore(str(file), pump, limits=Limits(max_events=10_000_000))
    for start in range(0, events, 2000):
        series = [
            f'events_to_metrics{{type="deploy",host="host{n % 50}",cluster="eu-west",n="{n}"}}'
            for n in range(start, start + 2000)
        ]
        pump.get(store.append([Group(events=SeriesBatch(series))]))
    pump.get(store.close())


#: Runs the command and prints its greatest memory, in kilobytes, on standard error.
MEASURED = """
import sys
from oneshotd.ctl import main
status = main()
with open("/proc/self/status") as about:
    print(*(line.split()[1] for line in about if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(status)
"""


def test_a_million_events(tmp_path: Path, server: PostgreSQLServer) -> None:
    """A large store could not be moved: it would take too long, or more memory than there is."""
    machine = Machine(tmp_path, server, server.new_database())
    fill(machine.file, 1_000_000)
    database = f"postgresql:{server.address(machine.database)}"
    for words in ((f"sqlite:{machine.file}", database), (database, f"sqlite:{tmp_path / 'back'}")):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, "move", "--quiet", *words],
            cwd=REPOSITORY,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        seconds, kilobytes = time.monotonic() - started, int(done.stderr.split()[-1])
        print(f"{words[0].partition(':')[0]}: {seconds:.1f} s, {kilobytes // 1024} MB")
        assert done.returncode == 0, done.stderr
        assert kilobytes < 100 * 1024 and seconds < 60
