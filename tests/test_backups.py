"""Copies on demand: one at a time, whole or not at all, and whoever asked may go away."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import Rig
from support.fake_store import logged
from twisted.internet.defer import CancelledError
from twisted.logger import formatEvent

from oneshotd.backups import Backup, Backups
from oneshotd.errors import CopyFailed, Refused, StoreUnavailable
from oneshotd.store.sqlite.connection import APPLICATION_ID

NOON = 1_700_049_600.25


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "store")
    rig.append("a", "b")
    yield rig
    rig.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


def backups_of(rig: Rig, folder: Path) -> Backups:
    return Backups(rig.store, str(folder), lambda: NOON, iter([1.0, 3.5, 4.0, 5.0]).__next__)


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_copy_is_named_by_its_time(rig: Rig, folder: Path) -> None:
    made = rig.pump.get(backups_of(rig, folder).make())
    file = folder / "oneshotd-20231115T120000.250Z.sqlite"
    assert made == Backup(file=str(file), size=file.stat().st_size, seconds=2.5)
    assert files(folder) == [file.name]
    assert file.stat().st_mode & 0o137 == 0, "it holds what is not for every user's eyes"
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_two_at_a_time_are_one_too_many(rig: Rig, folder: Path) -> None:
    """A script that is started twice would fill the disk at twice the speed."""
    backups = backups_of(rig, folder)
    first = backups.make()
    with pytest.raises(Refused, match="already") as refused:
        rig.pump.get(backups.make())
    assert refused.value.status == 409
    rig.pump.get(first)
    assert len(files(folder)) == 1


def test_after_one_comes_another(rig: Rig, folder: Path) -> None:
    backups = Backups(rig.store, str(folder), iter([NOON, NOON + 1]).__next__, lambda: 0.0)
    rig.pump.get(backups.make())
    rig.pump.get(backups.make())
    assert len(files(folder)) == 2


def test_whoever_hangs_up_gets_the_copy_all_the_same(rig: Rig, folder: Path) -> None:
    """Half a file would be left, and nobody could ask again."""
    backups = backups_of(rig, folder)
    gone = backups.make()
    gone.cancel()
    with pytest.raises(CancelledError):
        rig.pump.get(gone)
    with pytest.raises(Refused, match="already"):
        rig.pump.get(backups.make())
    with logged() as events:
        while not any("backup {file}" in str(event["log_format"]) for event in events):
            rig.pump.get(rig.real.check())
    assert files(folder) == ["oneshotd-20231115T120000.250Z.sqlite"]


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (CopyFailed("disk is full", full=True), 507),
        (CopyFailed("disk is gone"), 503),
        (StoreUnavailable("disk is bad"), None),
    ],
)
def test_no_room_is_said_in_another_way_than_any_other_trouble(
    rig: Rig, folder: Path, trouble: StoreUnavailable, status: int | None
) -> None:
    rig.store.faults["backup"] = trouble
    backups = backups_of(rig, folder)
    with logged() as events, pytest.raises((Refused, StoreUnavailable), match="disk is") as raised:
        rig.pump.get(backups.make())
    assert getattr(raised.value, "status", None) == status
    assert ["disk is" in (formatEvent(event) or "") for event in events] == [True]
    rig.store.resume()
    rig.pump.get(backups.make())


def test_a_folder_that_is_not_there_is_named(rig: Rig, tmp_path: Path) -> None:
    """The disk for copies is not mounted: the daemon goes on, and says so."""
    with pytest.raises(Refused, match=r"none/oneshotd-2023.*No such file"):
        rig.pump.get(backups_of(rig, tmp_path / "none").make())
    assert rig.take() == {"a": 1, "b": 1}


@pytest.mark.parametrize("broken", ["fsync", "rename"])
@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_what_cannot_be_brought_to_disk_is_not_left_there(
    rig: Rig, folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str, number: int, full: bool
) -> None:
    """A copy that nobody can rely on would lie beside the good ones."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(CopyFailed) as raised:
        rig.pump.get(rig.real.backup(str(folder / "copy")))
    assert raised.value.full is full
    assert files(folder) == []
