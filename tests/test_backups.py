"""Backups on request: one at a time, complete or not at all, also if the client disconnects."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.delivery_driver import DeliveryDriver
from support.fake_store import logged
from twisted.internet.defer import CancelledError
from twisted.logger import formatEvent

from oneshotd.backups import Backup, Backups
from oneshotd.errors import CopyFailed, Refused, StoreUnavailable
from oneshotd.store.sqlite.connection import APPLICATION_ID

NOON = 1_700_049_600.25


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DeliveryDriver]:
    driver = DeliveryDriver(tmp_path / "store")
    driver.append("a", "b")
    yield driver
    driver.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


def backups_of(driver: DeliveryDriver, folder: Path) -> Backups:
    return Backups(driver.store, str(folder), lambda: NOON, iter([1.0, 3.5, 4.0, 5.0]).__next__)


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_backup_is_named_by_its_time(driver: DeliveryDriver, folder: Path) -> None:
    made = driver.pump.get(backups_of(driver, folder).make())
    file = folder / "oneshotd-20231115T120000.250Z.sqlite"
    assert made == Backup(file=str(file), size=file.stat().st_size, seconds=2.5)
    assert files(folder) == [file.name]
    assert file.stat().st_mode & 0o137 == 0, "other users must not read the events"
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_second_backup_at_the_same_time_is_refused(driver: DeliveryDriver, folder: Path) -> None:
    """A script that is started twice would fill the disk twice as fast."""
    backups = backups_of(driver, folder)
    first = backups.make()
    with pytest.raises(Refused, match="already") as refused:
        driver.pump.get(backups.make())
    assert refused.value.status == 409
    driver.pump.get(first)
    assert len(files(folder)) == 1


def test_backups_one_after_the_other(driver: DeliveryDriver, folder: Path) -> None:
    backups = Backups(driver.store, str(folder), iter([NOON, NOON + 1]).__next__, lambda: 0.0)
    driver.pump.get(backups.make())
    driver.pump.get(backups.make())
    assert len(files(folder)) == 2


def test_a_backup_is_finished_after_its_client_has_gone(driver: DeliveryDriver, folder: Path) -> None:
    """Half a file would be left, and every further backup be refused."""
    backups = backups_of(driver, folder)
    gone = backups.make()
    gone.cancel()
    with pytest.raises(CancelledError):
        driver.pump.get(gone)
    with pytest.raises(Refused, match="already"):
        driver.pump.get(backups.make())
    with logged() as events:
        while not any("backup {file}" in str(event["log_format"]) for event in events):
            driver.pump.get(driver.real.check())
    assert files(folder) == ["oneshotd-20231115T120000.250Z.sqlite"]


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (CopyFailed("disk is full", full=True), 507),
        (CopyFailed("disk is gone"), 503),
        (StoreUnavailable("disk is bad"), None),
    ],
)
def test_a_full_disk_has_its_own_status(
    driver: DeliveryDriver, folder: Path, trouble: StoreUnavailable, status: int | None
) -> None:
    driver.store.faults["backup"] = trouble
    backups = backups_of(driver, folder)
    with logged() as events, pytest.raises((Refused, StoreUnavailable), match="disk is") as raised:
        driver.pump.get(backups.make())
    assert getattr(raised.value, "status", None) == status
    assert ["disk is" in (formatEvent(event) or "") for event in events] == [True]
    driver.store.resume()
    driver.pump.get(backups.make())


def test_a_missing_folder_is_named(driver: DeliveryDriver, tmp_path: Path) -> None:
    """If the backup disk is not mounted, the daemon goes on, and the answer has the path."""
    with pytest.raises(Refused, match=r"none/oneshotd-2023.*No such file"):
        driver.pump.get(backups_of(driver, tmp_path / "none").make())
    assert driver.take() == {"a": 1, "b": 1}


@pytest.mark.parametrize("broken", ["fsync", "rename"])
@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_backup_that_is_not_synced_is_removed(
    driver: DeliveryDriver,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    number: int,
    full: bool,
) -> None:
    """An incomplete file would lie beside the good backups."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(CopyFailed) as raised:
        driver.pump.get(driver.real.backup(str(folder / "copy")))
    assert raised.value.full is full
    assert files(folder) == []
