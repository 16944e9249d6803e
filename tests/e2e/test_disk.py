"""A disk that is full, read-only, failing, slow or has rotted, under a real daemon.

What was acknowledged comes, once; what cannot be stored is refused, and says why; and when the
disk is back, so is the service.
"""

from __future__ import annotations

import errno
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.clients import (
    SCRAPE_TIMEOUT,
    Answer,
    Scraper,
    emitting,
    figures,
    post,
    post_many,
    readiness,
    send,
)
from support.daemon import Daemon, environment
from support.disks import STORE, FaultyDisk, SmallDisk, daemon_with
from support.processes import until

pytestmark = pytest.mark.e2e

MIB = 1 << 20

#: Seconds in which the daemon has noticed, or done, what takes it one or two.
PATIENCE = 30.0

#: Of SQLite, bytes.
PAGE = 4096


Scraping = Callable[[Daemon, str], Scraper]


@pytest.fixture
def scraper() -> Iterator[Scraping]:
    """Makes scrapers, and lets them hang up at the end."""
    with ExitStack() as stack:
        yield lambda daemon, name: stack.enter_context(closing(Scraper(daemon, name)))


def all_came(scraper: Scraper, numbers: Iterable[int]) -> None:
    """Wait until all these have come, each once and nothing else."""
    wanted = dict.fromkeys(numbers, 1)

    def came() -> bool:
        scraper.scrape()
        return len(scraper.numbers) >= len(wanted)

    until(came, PATIENCE, lambda: f"all: {len(scraper.numbers)} of {len(wanted)}")
    scraper.scrape()
    assert scraper.numbers == wanted


def refused_for(daemon: Daemon, why: str) -> None:
    """Nothing is accepted through any door, and every place that can say why says so."""
    assert_refusal(post(daemon, "type=late&n=900001"), why)
    assert_refusal(post_many(daemon, range(900_002, 900_004)), why)
    until(lambda: why in readiness(daemon).text, PATIENCE, why)  # the result of a probe may be a second old
    assert_refusal(readiness(daemon), why)
    refused = 'oneshotd_refused_total{reason="store"}'
    before = figures(daemon)[refused]
    send(daemon, b"type=late&n=900005\ntype=late&n=900006")
    until(lambda: figures(daemon)[refused] == before + 2, PATIENCE, "two lines counted as refused")
    assert figures(daemon)["oneshotd_store_writable"] == 0
    assert daemon.get("/healthz") == "ok\n"  # a restart would not help


def assert_refusal(answer: Answer, why: str) -> None:
    assert answer.status == 503, answer
    assert why in answer.text
    assert answer.retry_after is not None
    assert answer.text.count("\n") == 1


def gets_nothing_twice(scraper: Scraper) -> None:
    """The end of its last delivery cannot be stored: it is answered, and not with the same again."""
    before = dict(scraper.numbers)
    for _ in range(3):
        assert scraper.scrape() == 0
    assert scraper.numbers == before


def is_back(daemon: Daemon) -> None:
    until(lambda: readiness(daemon).status == 200, PATIENCE, lambda: f"ready: {readiness(daemon)}")


def refused_start(daemon: Daemon) -> str:
    """What it says when it does not start, and ends with status 1."""
    done = subprocess.run(
        daemon.process.command,
        cwd=daemon.process.folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "cannot start: " in line]
    return line.partition("cannot start: ")[2]


def test_a_full_disk_refuses_and_resumes_when_there_is_room(tmp_path: Path, scraper: Scraping) -> None:
    """The disk ran full over night: nobody's event is lost or doubled, nobody has to restart it."""
    disk = SmallDisk(tmp_path, 8 * MIB)
    with daemon_with(tmp_path / "daemon", disk.option, within=disk.within) as daemon:
        ballast = disk.seen_by(daemon) / "ballast"
        ballast.write_bytes(bytes(6 * MIB))
        ann, bob = scraper(daemon, "ann"), scraper(daemon, "bob")
        assert ann.scrape() == bob.scrape() == 0
        accepted, answer = 0, Answer(0, "nothing was tried")
        for _ in range(100):
            answer = post_many(daemon, range(accepted, accepted + 100), padding=1000)
            if answer.status != 200:
                break
            accepted += 100
        assert accepted > 0
        assert_refusal(answer, "full")
        # The last pages: each of these probes, one a second, is a write of one.
        until(lambda: readiness(daemon).status == 503, PATIENCE, "the last page")

        refused_for(daemon, "full")
        assert ann.scrape() == accepted
        gets_nothing_twice(ann)

        ballast.unlink()
        is_back(daemon)
        assert post_many(daemon, range(accepted, accepted + 100)).status == 200
        all_came(ann, range(accepted + 100))
        all_came(bob, range(accepted + 100))
        daemon.stop()
    assert said(daemon, "] the store cannot be written: database or disk is full") > 0
    assert said(daemon, "the store can be written again") > 0


def test_a_failing_disk_that_becomes_read_only_is_waited_for(tmp_path: Path, scraper: Scraping) -> None:
    """As Linux does it: after an I/O error the file system is remounted read-only. When somebody
    has mounted it for writing again, the service resumes by itself."""
    faults, disk = FaultyDisk(tmp_path / "faults"), SmallDisk(tmp_path, 16 * MIB)
    with daemon_with(tmp_path / "daemon", disk.option, env=faults.env, within=disk.within) as daemon:
        ann = scraper(daemon, "ann")
        assert post_many(daemon, range(100)).status == 200
        assert ann.scrape() == 100
        assert post_many(daemon, range(100, 200)).status == 200

        faults.fault(syncs=errno.EIO)
        assert ann.scrape() == 100
        until(lambda: readiness(daemon).status == 503, PATIENCE, "an error")
        until(lambda: disk.remounted(daemon, "ro"), PATIENCE, "remounted read-only")
        faults.heal()
        refused_for(daemon, "cannot open the store")
        gets_nothing_twice(ann)

        assert disk.remounted(daemon, "rw")
        is_back(daemon)
        assert post_many(daemon, range(200, 300)).status == 200
        all_came(ann, range(300))
        daemon.stop()
    assert said(daemon, "Traceback") == 0


@pytest.mark.parametrize(
    "fault",
    [{"writes": errno.ENOSPC}, {"writes": errno.EROFS}, {"writes": errno.EIO}, {"syncs": errno.EIO}],
    ids=["full", "read-only", "write-error", "sync-error"],
)
def test_what_a_commit_that_failed_was_answered_is_true(
    tmp_path: Path, scraper: Scraping, fault: dict[str, int]
) -> None:
    """200 is kept over a crash of machine and disk at one time; what was refused can be sent again
    under its key; a delivery whose end could not be stored does not go out again and again."""
    disk = FaultyDisk(tmp_path / "disk")
    with daemon_with(tmp_path / "daemon", env=disk.env) as daemon:
        ann = scraper(daemon, "ann")
        assert post_many(daemon, range(100)).status == 200
        assert ann.scrape() == 100
        assert post_many(daemon, range(100, 200)).status == 200

        disk.fault(**fault)
        assert ann.scrape() == 100
        answers = [post(daemon, f"type=x&n={n}&__id__=key-{n}", timeout=1) for n in range(200, 205)]
        assert {answer.status for answer in answers} <= {0, 503}  # 0: it waits for its outcome
        refused_for(daemon, "full" if fault == {"writes": errno.ENOSPC} else "I/O error")
        gets_nothing_twice(ann)
        before, began = said(daemon, "\n"), time.monotonic()
        for _ in range(50):
            assert post(daemon, "type=again").status == 503
        # Each reason has a line a second at most.
        most = before + 5 + 2 * int(time.monotonic() - began)
        assert said(daemon, "\n") <= most, daemon.process.tail()

        disk.heal()
        is_back(daemon)
        for n in range(200, 205):
            assert post(daemon, f"type=x&n={n}&__id__=key-{n}").status == 200
        all_came(ann, range(205))
        until(
            lambda: figures(daemon)['oneshotd_scraper_pending_events{scraper="ann"}'] == 0,
            PATIENCE,
            "settled",
        )
        daemon.kill()
        daemon.start()
        all_came(ann, range(205))
        all_came(scraper(daemon, "bob"), range(205))
        daemon.stop()


@pytest.mark.parametrize("damage", ["a page", "the header", "cut short"])
def test_a_damaged_file_is_moved_aside_at_the_start(tmp_path: Path, scraper: Scraping, damage: str) -> None:
    """The daemon is up again after the worst, says so loudly, and has deleted nothing."""
    with Daemon(tmp_path) as daemon:
        assert post_many(daemon, range(2000), padding=100).status == 200
        daemon.stop()
        store = tmp_path / STORE
        data = bytearray(store.read_bytes())
        if damage == "a page":
            data[2 * PAGE : 6 * PAGE] = b"\xa5" * (4 * PAGE)
        elif damage == "the header":
            data[:16] = bytes(16)
        else:
            del data[len(data) // 2 :]
        store.write_bytes(data)
        daemon.start()
        assert moved_aside(daemon) == bytes(data)
        assert post_many(daemon, range(2000, 2100)).status == 200
        all_came(scraper(daemon, "ann"), range(2000, 2100))
        daemon.restart()
        assert said(daemon, "it was moved to") == 1


def test_a_page_that_rots_at_work_is_found_and_the_service_resumes(tmp_path: Path, scraper: Scraping) -> None:
    """The disk lost a page of the log: who reads there finds out; what is accepted from then on is
    as safe as ever, and the old file is there for whoever can mend it."""
    with Daemon(tmp_path) as daemon:
        # More than SQLite keeps in memory (2 MiB), and than stays in the WAL (1000 pages).
        numbers = range(8000)
        for start in range(0, len(numbers), 1000):
            assert post_many(daemon, numbers[start : start + 1000], padding=900).status == 200
        store = tmp_path / STORE
        at = store.read_bytes().index(b'n="500"') // PAGE * PAGE
        with store.open("r+b") as file:
            file.seek(at)
            file.write(b"\xa5" * PAGE)
        ann = scraper(daemon, "ann")
        until(lambda: ann.scrape() == 0 and said(daemon, "it was moved to"), PATIENCE, daemon.process.tail)
        assert len(moved_aside(daemon)) > 4 * MIB
        is_back(daemon)
        assert post_many(daemon, range(8000, 8100)).status == 200
        ann.numbers.clear()  # what it got of the old file before
        all_came(ann, range(8000, 8100))
        daemon.kill()
        daemon.start()
        ann.scrape()
        assert ann.numbers == dict.fromkeys(range(8000, 8100), 1)
        assert said(daemon, "Traceback") == 0
        daemon.stop()


def foreign(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE accounts (name TEXT)")
    connection.close()
    return "not one of oneshotd"


def text(path: Path) -> str:
    path.write_text("the minutes of the last meeting\n" * 300)
    return "not a database of oneshotd"


def newer(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {0x31736874}")
        connection.execute("PRAGMA user_version = 1000")
        connection.execute("CREATE TABLE of_the_future (name TEXT)")
    connection.close()
    return "newer version"


def folder(path: Path) -> str:
    path.mkdir()
    return "cannot open"


@pytest.mark.parametrize("make", [foreign, text, newer, folder])
def test_a_file_that_is_not_for_us_is_left_alone(tmp_path: Path, make: Callable[[Path], str]) -> None:
    """A slip in the path does not cost another program its data: one clear line, and nothing touched."""
    store = tmp_path / STORE
    why = make(store)
    before = store.read_bytes() if store.is_file() else None
    said_so = refused_start(Daemon(tmp_path))
    assert why in said_so
    assert str(store) in said_so
    assert (store.read_bytes() if store.is_file() else None) == before
    assert [path.name for path in tmp_path.iterdir()] == [STORE]


def test_a_second_daemon_on_the_file_is_refused_and_the_first_goes_on(
    tmp_path: Path, scraper: Scraping
) -> None:
    """Two units with one state directory: the second says what is wrong."""
    with Daemon(tmp_path) as daemon:
        assert post_many(daemon, range(10)).status == 200
        second = daemon_with(tmp_path / "second", f"--store=sqlite:{tmp_path / STORE}")
        second.process.folder.mkdir()
        assert "in use by another process" in refused_start(second)
        assert post_many(daemon, range(10, 20)).status == 200
        daemon.kill()
        daemon.start()
        all_came(scraper(daemon, "ann"), range(20))
        daemon.stop()


@pytest.mark.timed
def test_a_slow_disk_costs_time_and_hardly_throughput(tmp_path: Path, scraper: Scraping) -> None:
    """Commits take 0.2 s, as on a worn card: 5 a second, but dozens of events in each, and a
    scrape gets its events meanwhile."""
    disk = FaultyDisk(tmp_path / "disk")
    with daemon_with(tmp_path / "daemon", env=disk.env) as daemon:
        ann = scraper(daemon, "ann")
        ann.scrape()
        commits = figures(daemon)["oneshotd_commit_seconds_count"]
        disk.fault(sync_ms=200)
        began = time.monotonic()
        with ann.at_work(1.5), emitting(daemon, 64) as accepted:
            time.sleep(5)  # the length of the measurement
        seconds = time.monotonic() - began
        commits = figures(daemon)["oneshotd_commit_seconds_count"] - commits
        came = len(ann.numbers)
        disk.heal()
        assert seconds / commits > 0.15, "the disk was not slow"
        assert len(accepted) > 100 * seconds
        assert len(accepted) > 16 * commits
        assert came > len(accepted) / 4
        assert ann.worst < SCRAPE_TIMEOUT / 2
        all_came(ann, accepted)
        daemon.stop()
    assert daemon.errors() == []


def moved_aside(daemon: Daemon) -> bytes:
    """What was moved aside; its name is in the log."""
    found = re.findall(r"it was moved to (\S+) and", daemon.process.log_text())
    assert len(found) == 1, daemon.process.tail()
    return Path(found[0]).read_bytes()


def said(daemon: Daemon, what: str) -> int:
    """How often its log has it."""
    return daemon.process.log_text().count(what)
