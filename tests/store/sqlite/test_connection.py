"""The file: recognised, made, upgraded; or left alone, with a reason that an operator understands."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.sqlite_backend import SQLiteBackend
from twisted.logger import LogLevel, capturedLogs

from oneshotd.errors import StoreRefused
from oneshotd.store.interface import Stored
from oneshotd.store.sqlite import connection as database
from oneshotd.store.sqlite.connection import open_database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "oneshotd.sqlite"


@pytest.fixture
def filled(tmp_path: Path, path: Path) -> Path:
    """A store of some size, closed in good order."""
    backend = SQLiteBackend(tmp_path)
    for number in range(100):
        backend.append(*[f'm{{a="{number:0200}"}}'] * 10, key=f"k{number}")
    backend.scrape("p")
    backend.finish()
    assert path.stat().st_size > 100_000
    return path


def files(path: Path) -> set[str]:
    return set(os.listdir(path.parent))


def refused(path: Path, folder: Path | None = None) -> str:
    """Why it is; nothing of the folder may have changed."""
    folder = folder or path.parent
    before = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    with pytest.raises(StoreRefused) as refusal:
        open_database(str(path))
    after = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert after == before
    return str(refusal.value)


class TestMaking:
    """A new store."""

    @pytest.mark.parametrize("exists", [False, True])
    def test_a_file_that_is_missing_or_empty_is_made(self, path: Path, exists: bool) -> None:
        if exists:
            path.touch()
        with closing(open_database(str(path))) as connection:
            pragmas = {
                name: connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "auto_vacuum", "locking_mode", "application_id")
            }
        assert pragmas == {
            "journal_mode": "wal",
            "synchronous": 2,  # FULL: what was answered survives a power loss
            "auto_vacuum": 2,  # INCREMENTAL: a log that has shrunk gives its space back
            "locking_mode": "exclusive",
            "application_id": database.APPLICATION_ID,
        }

    def test_not_every_user_of_the_machine_can_read_it(self, path: Path) -> None:
        with closing(open_database(str(path))):
            assert path.stat().st_mode & 0o007 == 0

    def test_the_file_itself_says_whose_it_is_from_the_start(self, path: Path) -> None:
        """So that it is known for ours even if it is damaged before its first checkpoint."""
        with closing(open_database(str(path))):
            assert path.read_bytes()[68:72] == b"1sht"

    def test_a_daemon_killed_while_it_made_the_file_does_not_block_the_next(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
        assert path.stat().st_size > 0
        with closing(open_database(str(path))) as connection:
            assert connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 2
            assert connection.execute("SELECT count(*) FROM state").fetchone()[0] == 1

    def test_a_log_that_has_shrunk_gives_its_space_back(self, filled: Path, tmp_path: Path) -> None:
        before = filled.stat().st_size
        backend = SQLiteBackend(tmp_path)
        backend.prune()
        backend.time.advance(3700)
        backend.prune()
        backend.prune()
        backend.finish()
        assert filled.stat().st_size < before / 4


class TestRefusing:
    """What is not ours, or cannot be had, is left as it is."""

    def test_another_programs_database(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE bookmarks (url TEXT)")
            connection.commit()
        assert "not one of oneshotd" in refused(path)

    @pytest.mark.parametrize(
        "text", [b"#!/bin/sh\n", b"x" * 100_000, bytes(4096), b"SQLite format 3\0" * 300]
    )
    def test_a_file_that_is_no_database(self, path: Path, text: bytes) -> None:
        path.write_bytes(text)
        assert "left alone" in refused(path)

    def test_a_store_of_a_newer_version(self, filled: Path) -> None:
        with closing(sqlite3.connect(filled)) as connection:
            connection.execute(f"PRAGMA user_version = {database.SCHEMA_VERSION + 1}")
        assert "written by a newer version" in refused(filled)

    def test_a_folder(self, path: Path) -> None:
        path.mkdir()
        assert str(path) in refused(path)

    def test_a_missing_folder(self, path: Path) -> None:
        assert "No such file or directory" in refused(path / "oneshotd.sqlite", path.parent)

    def test_a_store_that_another_daemon_works_on(self, filled: Path) -> None:
        """Two daemons on one file would deliver everything twice."""
        code = (
            "import sys; from oneshotd.store.sqlite.connection import open_database;"
            "kept = open_database(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(filled)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[3],
        ) as other:
            assert other.stdout is not None and other.stdin is not None
            assert other.stdout.readline() == b"open\n"
            with pytest.raises(StoreRefused, match="in use by another process"):
                open_database(str(filled))
            other.stdin.close()
        open_database(str(filled)).close()

    def test_a_folder_that_cannot_be_written(self) -> None:
        with unprivileged_folder() as folder:
            folder.chmod(0o555)
            with unprivileged(), pytest.raises(StoreRefused, match="Permission denied"):
                open_database(str(folder / "oneshotd.sqlite"))
            assert os.listdir(folder) == []

    @pytest.mark.parametrize("mode", [0o000, 0o444])
    def test_a_file_that_cannot_be_read_or_written(self, mode: int) -> None:
        with unprivileged_folder() as folder:
            path = folder / "oneshotd.sqlite"
            open_database(str(path)).close()
            path.chmod(mode)
            before = path.read_bytes()
            with unprivileged(), pytest.raises(StoreRefused, match="cannot open the store"):
                open_database(str(path))
            assert path.read_bytes() == before


class TestDamage:
    """A file that is ours and corrupt is moved aside and a new one begun: never in silence."""

    def check(self, tmp_path: Path, path: Path) -> Path:
        """Start on it; where the damaged file has gone."""
        damaged = path.read_bytes()
        with capturedLogs() as logs:
            backend = SQLiteBackend(tmp_path)
            assert backend.append("new", key="k1") == Stored(stored=1, first=1)
            backend.restart()
            assert backend.logged() == ["new"]
            backend.finish()
        [said] = [event for event in logs if event["log_level"] is LogLevel.critical]
        aside = Path(said["aside"])
        assert said["path"] == str(path)
        assert aside.parent == path.parent
        assert aside.read_bytes() == damaged
        return aside

    def test_garbage_behind_the_first_page(self, tmp_path: Path, filled: Path) -> None:
        size = filled.stat().st_size
        with open(filled, "r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        self.check(tmp_path, filled)

    @pytest.mark.parametrize(
        "table", ["state", "segment", "scraper", "owed", "key", "loss", "detail", "keyed_state"]
    )
    def test_garbage_at_the_root_of_any_table(self, tmp_path: Path, filled: Path, table: str) -> None:
        with closing(sqlite3.connect(filled)) as connection:
            [[page]] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        with open(filled, "r+b") as file:
            file.seek(4096 * (page - 1))
            file.write(b"\xa5" * 4096)
        self.check(tmp_path, filled)

    def test_garbage_in_what_the_head_of_the_file_says(self, tmp_path: Path, filled: Path) -> None:
        with open(filled, "r+b") as file:
            file.write(b"\xa5" * 60)
        self.check(tmp_path, filled)

    def test_a_file_cut_short(self, tmp_path: Path, filled: Path) -> None:
        os.truncate(filled, 8192)
        self.check(tmp_path, filled)

    def test_what_only_its_log_has_is_kept_with_it(self, tmp_path: Path, filled: Path) -> None:
        """The newest events are in the -wal file of a killed daemon, and in no other."""
        backend = SQLiteBackend(tmp_path)
        backend.append("newest")
        killed = tmp_path / "killed.sqlite"
        for suffix in ("", "-wal"):
            Path(f"{killed}{suffix}").write_bytes(Path(f"{filled}{suffix}").read_bytes())
        backend.finish()
        assert b"newest" not in killed.read_bytes()
        os.truncate(killed, 8192)
        open_database(str(killed)).close()
        aside = list(tmp_path.glob(f"{killed.name}.corrupt-*"))
        assert any(b"newest" in file.read_bytes() for file in aside)

    def test_a_second_damaged_file_does_not_replace_the_first(self, filled: Path) -> None:
        os.truncate(filled, 8192)
        damaged = filled.read_bytes()
        for count in (1, 2, 3):
            filled.write_bytes(damaged)
            open_database(str(filled)).close()
            assert len([name for name in files(filled) if ".corrupt-" in name]) == count

    def test_where_it_cannot_be_moved_the_daemon_does_not_start(
        self, filled: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def rename(source: str, target: str) -> None:
            raise PermissionError(1, "Operation not permitted")

        os.truncate(filled, 8192)
        monkeypatch.setattr(os, "rename", rename)
        assert "cannot be moved aside: Operation not permitted" in refused(filled)

    def test_trouble_that_is_no_damage_moves_nothing(self, filled: Path) -> None:
        def connect(path: str) -> sqlite3.Connection:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

        with pytest.raises(StoreRefused, match="disk I/O error"):
            open_database(str(filled), connect)
        assert files(filled) == {filled.name}


@contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """A folder that also an unprivileged user gets to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may do all; as root these tests are run as somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
