"""While a copy of the SQLite file is made, everything else goes on, and nothing befalls the store."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.failing_database import Fault, FaultyBackend
from support.store_backends import group
from support.store_log import held_events
from twisted.internet.defer import Deferred

from oneshotd.errors import StoreUnavailable
from oneshotd.store.abilities import IBackup
from oneshotd.store.interface import Stored
from oneshotd.store.sqlite import backup as copying
from oneshotd.store.sqlite.store import SQLiteStore


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyBackend]:
    monkeypatch.setattr(copying, "STEP_PAGES", 2)
    backend = FaultyBackend(tmp_path)
    for _ in range(20):
        backend.append(*[f'm{{text="{"x" * 100}"}}'] * 200)
    yield backend
    backend.disk.mend()
    backend.finish()


def between_steps(
    backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch, steps: dict[int, Any]
) -> list[int]:
    """Have these called, in the store's thread, before the steps of these numbers."""
    store = backend.store
    assert isinstance(store, SQLiteStore)
    run_pending, taken = store._worker.run_pending, list[int]()

    def counting() -> None:
        taken.append(len(taken) + 1)
        if len(taken) in steps:
            steps[len(taken)]()
        run_pending()

    monkeypatch.setattr(store._worker, "run_pending", counting)
    return taken


def copied_log(backend: FaultyBackend) -> list[str]:
    """What a store on the copy holds."""
    store = SQLiteStore(backend.backup_path(), backend.pump, clock=backend.time.clock)
    log = [event.series for event in backend.get(held_events(store))]
    backend.get(store.close())
    return log


def test_what_is_asked_meanwhile_is_answered_meanwhile_and_in_the_copy(
    backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every append would wait until the copy is done."""
    store, answers, order = backend.store, list[Deferred[Any]](), list[str]()

    def ask() -> None:
        def answered(stored: Any) -> Any:
            order.append("append")
            return stored

        answers.append(store.append([group(*["late"] * 300)]).addCallback(answered))

    taken = between_steps(backend, monkeypatch, dict.fromkeys((1, 5, 60), ask))
    copy = IBackup(store).backup(backend.backup_path())
    copy.addCallback(lambda _: order.append("copy"))
    backend.get(copy)
    assert len(taken) > 60
    assert order == ["append"] * 3 + ["copy"]
    assert [backend.get(answer) for answer in answers] == [
        [Stored(stored=300, first=4001 + 300 * number)] for number in range(3)
    ]
    assert copied_log(backend) == backend.logged()


def test_upkeep_and_scrapes_meanwhile_leave_a_copy_that_is_whole(
    backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file shrinks under the copy's hands."""
    backend.take("p", limit=10_000)
    backend.time.advance(1e6)
    for _ in range(10):
        backend.append(*[f'new{{text="{"x" * 100}"}}'] * 200)
    backend.take("p", limit=10_000)
    reserved: list[Any] = []
    between_steps(
        backend,
        monkeypatch,
        {
            3: lambda: reserved.append(backend.store.prune()),
            5: lambda: reserved.append(backend.store.reserve(backend.visit("q"), 60.0, 10)),
        },
    )
    backend.backup(backend.backup_path())
    assert backend.get(reserved[0]) is not None and backend.get(reserved[1]).busy is None
    with sqlite3.connect(backend.backup_path()) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert copied_log(backend) == backend.logged()
    assert len(backend.logged()) == 2000


def test_two_copies_are_made_one_after_the_other(backend: FaultyBackend, tmp_path: Path) -> None:
    first = IBackup(backend.store).backup(backend.backup_path())
    second = IBackup(backend.store).backup(str(tmp_path / "second.sqlite"))
    backend.get(second)
    backend.get(first)
    assert copied_log(backend) == backend.logged()


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_that_fails_meanwhile_ends_the_copy_and_nothing_else(
    backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """After an I/O error at COMMIT the file is opened anew, which the copy must not hinder."""
    answers: list[Deferred[Any]] = []

    def ask() -> None:
        backend.disk.fail(Fault("COMMIT", sqlite3.SQLITE_IOERR, after=after))
        answers.append(backend.store.append([group("late")]))

    between_steps(backend, monkeypatch, {5: ask})
    with pytest.raises(StoreUnavailable):
        backend.backup(backend.backup_path())
    assert [name for name in os.listdir(backend.path.parent) if "backup" in name] == []
    if after:
        assert backend.get(answers[0]) == [Stored(stored=1, first=4001)]
    else:
        with pytest.raises(StoreUnavailable):
            backend.get(answers[0])
    backend.append("later")
    assert backend.logged()[4000:] == (["late"] if after else []) + ["later"]
    backend.backup(backend.backup_path())
    assert copied_log(backend) == backend.logged()


def test_a_transaction_that_is_undone_meanwhile_is_not_in_the_copy(
    backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Deferred[Any]] = []

    def ask() -> None:
        backend.disk.fail(Fault("COMMIT", sqlite3.SQLITE_FULL))
        answers.append(backend.store.append([group(*["late"] * 300)]))

    between_steps(backend, monkeypatch, {5: ask})
    backend.backup(backend.backup_path())
    with pytest.raises(StoreUnavailable):
        backend.get(answers[0])
    assert copied_log(backend) == backend.logged()
    assert len(backend.logged()) == 4000


def test_closing_ends_the_copy(backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon would be killed at its end because a copy to a slow disk is under way."""
    closed: list[Deferred[None]] = []
    taken = between_steps(backend, monkeypatch, {3: lambda: closed.append(backend.store.close())})
    with pytest.raises(StoreUnavailable, match="closed"):
        backend.backup(backend.backup_path())
    backend.get(closed[0])
    assert taken == [1, 2, 3]
    assert [name for name in os.listdir(backend.path.parent) if "backup" in name] == []


def test_an_earlier_copy_that_was_broken_off_is_not_taken_for_one(backend: FaultyBackend) -> None:
    """A daemon was killed while it copied: what it left is under a name that is no copy's."""
    part = Path(backend.backup_path() + copying.PART)
    part.write_bytes(b"half")
    with pytest.raises(StoreUnavailable, match="exists"):
        backend.backup(backend.backup_path())
    assert part.read_bytes() == b"half"
