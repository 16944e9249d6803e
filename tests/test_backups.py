"""Backups on demand: one at a time, complete or absent, also if the client disconnects."""

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


def test_a_second_copy_at_the_same_time_is_refused(rig: Rig, folder: Path) -> None:
    """A script that is started twice would fill the disk at twice the speed."""
    backups = backups_of(rig, folder)
    first = backups.make()
    with pytest.raises(Refused, match="already") as refused:
        rig.pump.get(backups.make())
    assert refused.value.status == 409
    rig.pump.get(first)
    assert len(files(folder)) == 1


def test_a_second_copy_afterwards_is_made(rig: Rig, folder: Path) -> None:
    backups = Backups(rig.store, str(folder), iter([NOON, NOON + 1]).__next__, lambda: 0.0)
    rig.pump.get(backups.make())
    rig.pump.get(backups.make())
    assert len(files(folder)) == 2


def test_the_copy_is_made_although_the_client_disconnects(rig: Rig, folder: Path) -> None:
    """Half a file would be left, and later requests would be refused."""
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
def test_a_full_disk_has_an_error_of_its_own(
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


def test_a_missing_folder_is_named(rig: Rig, tmp_path: Path) -> None:
    """With an unmounted disk for backups the error would not name the folder."""
    with pytest.raises(Refused, match=r"none/oneshotd-2023.*No such file"):
        rig.pump.get(backups_of(rig, tmp_path / "none").make())
    assert rig.take() == {"a": 1, "b": 1}


@pytest.mark.parametrize("broken", ["fsync", "rename"])
@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_copy_that_cannot_be_synced_is_deleted(
    rig: Rig, folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str, number: int, full: bool
) -> None:
    """An unreliable copy would lie beside the good ones."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(CopyFailed) as raised:
        rig.pump.get(rig.real.backup(str(folder / "copy")))
    assert raised.value.full is full
    assert files(folder) == []
