"""When the disk fails for a while: who waits, who is refused, and how the service resumes by itself."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.failing_database import Fault, FaultyBackend
from support.store_backends import group, series_of
from twisted.logger import LogLevel, capturedLogs

from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import Settled, Stored
from oneshotd.store.sqlite import worker

CORRUPT = sqlite3.SQLITE_CORRUPT

BROKEN = Fault("COMMIT")  # also when the file is opened again
FOR_LONG = 1_000_000


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyBackend]:
    monkeypatch.setattr(worker, "REOPEN_INTERVAL", 0.01)
    backend = FaultyBackend(tmp_path)
    yield backend
    backend.disk.mend()
    backend.finish()


@pytest.mark.parametrize("came_through", [False, True])
def test_who_is_in_doubt_waits_and_everybody_else_is_refused(
    backend: FaultyBackend, came_through: bool
) -> None:
    """A wrong "not stored" makes the client send it twice, a wrong "stored" loses it."""
    backend.append("a")
    backend.disk.connecting = Fault("").error()
    backend.disk.fail(Fault("COMMIT", after=came_through))
    backend.disk.stop()
    in_doubt = backend.store.append([group("b", key="k")])
    backend.disk.await_stop()
    backend.disk.go_on()
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            backend.append("c")
        with pytest.raises(StoreUnavailable):
            backend.get(backend.store.check())
    assert not in_doubt.called
    backend.disk.mend()
    if came_through:
        assert backend.get(in_doubt) == [Stored(stored=1, first=2)]
    else:
        with pytest.raises(StoreUnavailable):
            backend.get(in_doubt)
        assert backend.logged() == ["a"]
        assert backend.append("b", key="k") == Stored(stored=1, first=2)
    assert backend.logged() == ["a", "b"]


def test_doubt_is_settled_without_anybody_asking(backend: FaultyBackend) -> None:
    assert backend.store
    backend.disk.fail(BROKEN, times=20)
    with pytest.raises(StoreUnavailable):
        backend.get(backend.store.append([group("a")]))
    assert backend.append("b") == Stored(stored=1, first=1)


def test_closing_in_doubt_lets_nobody_wait_for_ever(backend: FaultyBackend) -> None:
    assert backend.store
    backend.disk.fail(BROKEN, FOR_LONG)
    in_doubt = backend.store.append([group("a")])
    backend.get(backend.store.close())
    with pytest.raises(StoreUnavailable):
        backend.get(in_doubt)


def test_closing_looks_once_more_at_what_is_in_doubt(backend: FaultyBackend) -> None:
    assert backend.store
    backend.disk.stop()
    backend.disk.fail(Fault("COMMIT", after=True))
    in_doubt = backend.store.append([group("a")])
    closed = backend.store.close()
    backend.disk.go_on()
    backend.get(closed)
    assert backend.get(in_doubt) == [Stored(stored=1, first=1)]


@pytest.mark.parametrize("statement", ["UPDATE", "COMMIT"])
def test_a_disk_that_is_full_at_the_end_does_not_keep_the_daemon_up(
    backend: FaultyBackend, statement: str
) -> None:
    backend.append("a")
    backend.disk.fail(Fault(statement, sqlite3.SQLITE_FULL), FOR_LONG)
    backend.get(backend.store.close())
    backend.disk.mend()
    backend.open_anew()
    assert backend.logged() == ["a"]


def test_losses_found_by_a_commit_in_doubt_are_told(backend: FaultyBackend) -> None:
    backend.limits = type(backend.limits)(max_events=1)
    backend.settle(backend.reserve("p"), delivered=False)
    backend.append("a")
    backend.disk.fail(Fault("COMMIT", after=True))
    assert backend.append("b") == Stored(stored=1, first=2)
    assert [(loss.reason, loss.events) for loss in backend.prune()] == [("log full", 1)]


def test_a_trouble_that_lasts_is_said_once_and_its_end_too(backend: FaultyBackend) -> None:
    assert backend.store
    with capturedLogs() as logs:
        backend.disk.fail(Fault("INSERT INTO segment", sqlite3.SQLITE_FULL), 5)
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                backend.append("a")
        backend.append("a")
    levels = [event["log_level"] for event in logs if event["log_namespace"].startswith("oneshotd.store")]
    assert levels == [LogLevel.error, LogLevel.info]


def test_an_unforeseen_error_leaves_nobody_waiting(backend: FaultyBackend) -> None:
    backend.append("a")
    backend.disk.fail(Fault("ROLLBACK"))
    bad = backend.store.append([group("\ud800")])
    with pytest.raises(UnicodeEncodeError):
        backend.get(bad)
    backend.disk.connecting = RuntimeError("out of file descriptors")
    with pytest.raises(StoreUnavailable, match="out of file descriptors"):
        backend.append("b")
    backend.disk.mend()
    assert backend.append("b") == Stored(stored=1, first=2)


def test_a_file_that_vanished_is_waited_for_and_not_begun_anew(backend: FaultyBackend) -> None:
    """The volume was unmounted: a new file would be an empty store, in silence."""
    backend.append("a")
    backend.disk.stop()
    asked = backend.store.append([group("b")])
    backend.disk.await_stop()
    elsewhere = backend.path.with_name("elsewhere")
    for suffix in ("", "-wal"):
        os.rename(f"{backend.path}{suffix}", f"{elsewhere}{suffix}")
    backend.disk.fail(Fault("COMMIT"))
    backend.disk.go_on()
    with pytest.raises(StoreUnavailable, match="vanished"):
        backend.append("c")
    assert not backend.path.exists()
    for suffix in ("-wal", ""):
        if os.path.exists(f"{elsewhere}{suffix}"):
            os.rename(f"{elsewhere}{suffix}", f"{backend.path}{suffix}")
    with pytest.raises(StoreUnavailable):
        backend.get(asked)
    assert backend.append("b") == Stored(stored=1, first=2)
    assert backend.logged() == ["a", "b"]


def test_a_page_that_could_not_be_read_once_is_no_reason_to_give_the_file_up(backend: FaultyBackend) -> None:
    backend.append("a")
    reservation = backend.reserve("p")
    backend.disk.fail(Fault("SELECT", CORRUPT))
    with pytest.raises(StoreUnavailable, match="malformed"):
        backend.append("b", key="k")
    assert backend.append("b", key="k") == Stored(stored=1, first=2)
    assert backend.settle(reservation) is Settled.SETTLED
    assert [file for file in os.listdir(backend.path.parent) if "corrupt" in file] == []


def test_a_file_found_corrupt_at_work_is_moved_aside_and_service_resumes(backend: FaultyBackend) -> None:
    for number in range(50):
        backend.append(*[f'm{{a="{number:0300}"}}'] * 10)
    backend.restart()
    reservation = backend.reserve("p")
    size = backend.path.stat().st_size
    with open(backend.path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    backend.disk.fail(Fault("SELECT", CORRUPT))
    with capturedLogs() as logs:
        with pytest.raises(StoreUnavailable):
            backend.append("a", key="k")
        # Seqs go on, so that whoever follows the log by its seqs is not confused.
        assert backend.append("b") == Stored(stored=1, first=501)
    [said] = [event for event in logs if event["log_level"] is LogLevel.critical]
    assert Path(said["aside"]).stat().st_size == size
    assert backend.settle(reservation) is Settled.SUPERSEDED
    assert backend.names() == set()
    assert series_of(backend.reserve("p")) == ["b"]
    assert backend.append("c") == Stored(stored=1, first=502)


def test_a_backup_that_fails_leaves_no_half_file(backend: FaultyBackend) -> None:
    backend.append("a")
    backend.disk.fail(Fault("backup", sqlite3.SQLITE_FULL))
    with pytest.raises(StoreUnavailable, match="full"):
        backend.backup(backend.backup_path())
    assert not os.path.exists(backend.backup_path())
    backend.backup(backend.backup_path())
