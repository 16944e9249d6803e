"""A copy is made of a daemon at work; the daemon is killed, and another one goes on with the copy."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from support.clients import Scraper, post, post_many
from support.disks import STORE, SmallDisk, daemon_with

pytestmark = pytest.mark.e2e


@frozen
class Told:
    status: int
    text: str

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.text)
        assert isinstance(found, dict)
        return found


def ask(path: Path, method: str = "POST", door: str = "/api/v1/backup") -> Told:
    """What is answered at the socket."""
    line = http.client.HTTPConnection("localhost", timeout=30)
    line.sock = socket.socket(socket.AF_UNIX)
    line.sock.settimeout(30)
    with closing(line):
        line.sock.connect(str(path))
        line.request(method, door)
        with line.getresponse() as answer:
            return Told(answer.status, answer.read().decode())


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="oneshotd-") as folder:
        (Path(folder) / "copies").mkdir()
        yield Path(folder)


def options(place: Path) -> tuple[str, str]:
    return f"--backup-dir={place / 'copies'}", f"--backup-socket={place / 'backup'}"


def copies(place: Path) -> list[str]:
    return sorted(os.listdir(place / "copies"))


def test_a_daemon_goes_on_with_the_copy_of_one_that_was_killed(tmp_path: Path, place: Path) -> None:
    """The disk is gone, and what lies on the other one is no store; or all events come twice."""
    with daemon_with(tmp_path / "daemon", *options(place)) as daemon:
        with closing(Scraper(daemon, "ann")) as ann:
            assert post_many(daemon, range(5000)).status == 200
            assert ann.scrape() == 5000
            assert post_many(daemon, range(5000, 6000)).status == 200
            assert post(daemon, "type=x&n=6000&__id__=key").status == 200
            stop, accepted = threading.Event(), [6001]

            def emit() -> None:
                while not stop.is_set():
                    n = accepted[0]
                    assert post(daemon, f"type=x&n={n}").status == 200
                    accepted[0] = n + 1

            with ThreadPoolExecutor() as pool:
                emitting = pool.submit(emit)
                try:
                    before = accepted[0]
                    made = ask(place / "backup")
                    after = accepted[0]
                finally:
                    stop.set()
                    emitting.result()
            assert made.status == 200, made
            file = Path(made.json["file"])
            assert copies(place) == [file.name]
            assert made.json["bytes"] == file.stat().st_size
        daemon.kill()
        for suffix in ("", "-wal"):
            (tmp_path / "daemon" / f"{STORE}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(file, tmp_path / "daemon" / STORE)
        daemon.start()
        with closing(Scraper(daemon, "ann")) as ann:
            came = ann.scrape()
            # From 5000 on, and as many of those that came in during the copy as were in it.
            assert before - 5000 <= came <= after + 1 - 5000
            assert ann.numbers == dict.fromkeys(range(5000, 5000 + came), 1)
            assert post(daemon, "type=x&n=6000&__id__=key").status == 200  # known by its key
            assert ann.scrape() == 0
        assert ask(place / "backup").status == 200  # the killed daemon's socket was taken over
        daemon.stop()
        assert not (place / "backup").exists()
    assert daemon.errors() == []


def test_only_its_owner_may_ask(tmp_path: Path, place: Path) -> None:
    """Anybody with an account could fill the disk; and nobody comes in through the other port."""
    with daemon_with(tmp_path / "daemon", *options(place)) as daemon:
        mode = (place / "backup").stat().st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
        line = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
        with closing(line):
            line.request("POST", "/api/v1/backup")
            assert line.getresponse().status == 404
        assert ask(place / "backup", "GET", "/metrics").status == 404
        assert copies(place) == []


def test_two_at_a_time_are_one_too_many(tmp_path: Path, place: Path) -> None:
    with daemon_with(tmp_path / "daemon", *options(place)) as daemon:
        for start in range(0, 50_000, 5000):
            assert post_many(daemon, range(start, start + 5000), padding=100).status == 200
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda _: ask(place / "backup"), range(8)))
        good = [answer for answer in told if answer.status == 200]
        assert {answer.status for answer in told} == {200, 409}, told
        assert len(copies(place)) == len(good)
        for answer in good:
            with closing(sqlite3.connect(answer.json["file"])) as copy:
                assert copy.execute("SELECT sum(count) FROM segment").fetchone() == (50_000,)


def test_a_full_disk_takes_no_half_copy_and_no_event(tmp_path: Path, place: Path) -> None:
    """The disk for copies is full: the nightly job has to see it, and nobody else."""
    small = SmallDisk(tmp_path, 2 << 20)
    point = small.option.removeprefix("--store=sqlite:").removesuffix(f"/{STORE}")
    given = (f"--backup-dir={point}", f"--backup-socket={place / 'backup'}")
    with daemon_with(tmp_path / "daemon", *given, within=small.within) as daemon:
        for start in range(0, 5000, 500):
            assert post_many(daemon, range(start, start + 500), padding=1000).status == 200
        told = ask(place / "backup")
        assert told.status == 507, told
        assert "disk full" in told.text and told.text.count("\n") == 1
        assert list(small.seen_by(daemon).iterdir()) == []
        with closing(Scraper(daemon, "ann")) as ann:
            assert ann.scrape() == 5000
        assert post(daemon, "type=x&n=5000").status == 200
        daemon.stop()
    assert daemon.errors() == []
