"""`oneshotctl move` between files: what it copies, refuses and prints."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support.sqlite_backend import SQLiteBackend
from support.store_backends import keyed
from support.transfers import REPORTED, contents

from oneshotd.core.identity import Visit
from oneshotd.ctl import move
from oneshotd.ctl.command import run
from oneshotd.errors import OutcomeUnknown, StoreUnavailable
from oneshotd.store.sqlite.transfer import SQLiteExport, SQLiteImport
from oneshotd.store.transfer_records import Record, SegmentRecord

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def backend(tmp_path: Path) -> SQLiteBackend:
    """A store with something in every table, whose daemon has stopped."""
    (tmp_path / "a").mkdir()
    backend = SQLiteBackend(tmp_path / "a")
    backend.append(("value", "1"), "plain", key="group")
    backend.append_groups(keyed(("k1", "own key")))
    reservation = backend.reserve("p")
    backend.settle(reservation, newly_owed=[1], lost={"label_limit": [2]})
    backend.release(reservation)
    backend.append_groups(REPORTED)
    backend.get(backend.store.close())
    return backend


@pytest.fixture
def source(backend: SQLiteBackend, tmp_path: Path) -> Path:
    return tmp_path / "a" / "oneshotd.sqlite"


def moved(source: Path, target: Path, *words: str) -> int:
    return run(["move", f"sqlite:{source}", f"sqlite:{target}", *words], {})


def test_everything_is_copied(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Events would be lost, or delivered twice."""
    assert moved(source, tmp_path / "b") == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "copied and compared: 5 events, 1 scrapers, 1 owed events, 0 timestamps of samples,"
        " 2 idempotency keys, 1 details, 2 keyed states, 1 losses, in "
    )
    assert err.splitlines() == [
        *("copied 5 of 5 events", "copied 1 of 1 scrapers", "copied 1 of 1 owed events"),
        *("copied 2 of 2 idempotency keys", "copied 1 of 1 details", "copied 2 of 2 keyed states"),
        "copied 1 of 1 losses",
        *("checked 5 of 5 events", "checked 1 of 1 scrapers", "checked 1 of 1 owed events"),
        *("checked 2 of 2 idempotency keys", "checked 1 of 1 details", "checked 2 of 2 keyed states"),
        "checked 1 of 1 losses",
    ]
    assert contents(SQLiteExport(str(tmp_path / "b"))) == contents(SQLiteExport(str(source)))


def test_quiet_prints_errors_only(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job's mail would not be empty."""
    assert moved(source, tmp_path / "b", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert moved(source, tmp_path / "b", "--quiet") == 1
    assert capsys.readouterr() == ("", f"oneshotctl move: the store {tmp_path / 'b'} is not empty\n")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("sqlite:none", "cannot open the store none: No such file or directory"),
        ("sqlite:empty", "the file empty is empty"),
        ("sqlite:text", "the file text is not a database of oneshotd: left alone"),
        ("sqlite:foreign", "the file foreign is a SQLite database, but not one of oneshotd: left alone"),
        ("sqlite:rot", "the store rot is corrupt: "),
    ],
)
def test_a_source_that_is_no_store(
    source: str,
    why: str,
    backend: SQLiteBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistyped path would make an empty store of it, or a damaged one be moved aside."""
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("text").write_text("x" * 5000)
    with closing(sqlite3.connect("foreign")) as foreign:
        foreign.execute("CREATE TABLE t (x)")
    data = bytearray(Path("a/oneshotd.sqlite").read_bytes())
    data[-4096:] = bytes(4096)
    Path("rot").write_bytes(data)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert run(["move", source, "sqlite:b"], {}) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"oneshotctl move: {why}") and err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_daemon_that_runs(
    which: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The copy would miss what the daemon accepts meanwhile."""
    files = {"source": source, "target": tmp_path / "b"}
    with closing(sqlite3.connect(files[which], isolation_level=None)) as daemon:
        daemon.execute("PRAGMA locking_mode = EXCLUSIVE")
        daemon.execute("BEGIN EXCLUSIVE")
        assert moved(source, tmp_path / "b") == 75
    said = f"oneshotctl move: the store {files[which]} is in use by another process\n"
    assert capsys.readouterr() == ("", said)
    assert moved(source, tmp_path / "b") == 0


@pytest.mark.parametrize("used", ["events", "a scraper", "a key", "past events"])
def test_a_target_that_was_used(used: str, source: Path, tmp_path: Path) -> None:
    """Seqs would be given twice, or scrapers get what they have."""
    (tmp_path / "b").mkdir()
    target = SQLiteBackend(tmp_path / "b")
    if used == "a scraper":
        target.get(target.store.reserve(Visit(name="p"), 1.0, 1))
    else:
        target.append("x", key="k" if used == "a key" else None)
    if used == "past events":
        target.time.advance(4000)
        target.prune()
        assert target.logged() == []
    target.get(target.store.close())
    file = tmp_path / "b" / "oneshotd.sqlite"
    before = contents(SQLiteExport(str(file)))
    assert moved(source, file) == 1
    assert contents(SQLiteExport(str(file))) == before


def test_a_target_that_a_daemon_has_only_created(source: Path, tmp_path: Path) -> None:
    """The operator would have to delete it first."""
    (tmp_path / "b").mkdir()
    target = SQLiteBackend(tmp_path / "b")
    assert target.stats().events == 0
    target.get(target.store.close())
    assert moved(source, tmp_path / "b" / "oneshotd.sqlite") == 0


def test_source_and_target_are_the_same(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error would be about a daemon that does not run."""
    assert moved(source, source.parent / ".." / "a" / source.name) == 2
    assert capsys.readouterr() == ("", "oneshotctl move: SOURCE and TARGET are the same\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("sqlite:a", "the following arguments are required: TARGET"),
        ("sqlite:a oneshotd.sqlite", "argument TARGET: expected sqlite:PATH, postgresql://… or "),
        ("postgresql://u:pw@h/x sqlite:a", "argument SOURCE: expected an address without a password"),
    ],
)
def test_a_wrong_command_line(words: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A script could not tell a typing error from a failure."""
    assert run(["move", *words.split()], {}) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"oneshotctl: {why}") and "pw" not in err


def test_without_psycopg_the_package_is_named(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator would not know what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert run(["move", f"sqlite:{source}", "postgresql:dbname=x"], {}) == 1
    said = capsys.readouterr().err
    assert "Debian's python3-psycopg" in said and said.count("\n") == 1


def test_a_database_that_is_away(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script could not tell it from a store that is damaged."""
    pytest.importorskip("psycopg")
    assert run(["move", f"sqlite:{source}", f"postgresql:host={tmp_path} dbname=x"], {}) == 75
    said = capsys.readouterr().err
    assert said.startswith("oneshotctl move: PostgreSQL: connection") and said.count("\n") == 1


def test_a_full_disk_leaves_the_target_empty(source: Path, tmp_path: Path) -> None:
    """The second attempt would be refused."""
    with closing(sqlite3.connect(source, isolation_level=None)) as filled:
        filled.execute("INSERT INTO loss VALUES ('x', ?, 1, 0)", ("r" * 1_000_000,))
    command = f"{sys.executable} -m oneshotd.ctl move --quiet sqlite:{source} sqlite:{tmp_path}/b"
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; ulimit -f 300; exec {command}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"oneshotctl move: {tmp_path}/b: ")
    assert done.stderr.endswith("; TARGET is empty as before\n")
    assert moved(source, tmp_path / "b") == 0


def test_ctrl_c_leaves_the_target_empty(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt would be refused."""

    def report(self: move.Progress, what: str, table: type[Record], done: int, total: int) -> None:
        if what == "checked":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(move.Progress, "report", report)
        assert moved(source, tmp_path / "b") == 130
    assert moved(source, tmp_path / "b") == 0


def test_a_commit_of_unknown_outcome(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator would be told that the target is empty, when it may be full."""

    def commit(self: SQLiteImport) -> None:
        raise OutcomeUnknown("server closed the connection")

    monkeypatch.setattr(SQLiteImport, "commit", commit)
    assert moved(source, tmp_path / "b", "--quiet") == 1
    said = (
        "oneshotctl move: the connection was lost at COMMIT: TARGET has everything, or is empty (server clo"
    )
    assert capsys.readouterr().err.startswith(said)


def test_a_source_that_fails_at_the_end_is_a_note(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator would be told that the target is empty, when it is full."""

    def end(self: SQLiteExport) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(SQLiteExport, "end", end)
    assert moved(source, tmp_path / "b", "--quiet") == 0
    said = "oneshotctl move: everything was copied, but daemons of before were not shut out of SOURCE: gone\n"
    assert capsys.readouterr().err == said
    assert contents(SQLiteExport(str(tmp_path / "b"))) == contents(SQLiteExport(str(source)))


def test_ctrl_c_does_not_cut_a_commit() -> None:
    """psycopg would cancel it, and nobody could tell what became of it."""
    done = []

    def commit() -> None:
        with move._uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("committed")

    with pytest.raises(KeyboardInterrupt):
        commit()
    assert done == ["committed"]


def test_on_a_terminal_one_line_is_rewritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A long copy would look as if it hung, or fill the terminal."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(move, "ON_TERMINAL", 0.0)
    progress = move.Progress(True)
    progress.report("copied", SegmentRecord, 5000, 9000)
    progress.report("copied", SegmentRecord, 9000, 9000)
    progress.clear()
    lines = "\r\x1b[Kcopied 5000 of 9000 events\r\x1b[Kcopied 9000 of 9000 events\r\x1b[K"
    assert capsys.readouterr() == ("", lines)


def test_every_status_is_explained() -> None:
    """The manual would lack one."""
    assert sorted(move.STATUSES) == [0, 1, 2, 75]
