"""`oneshotctl` as a process of its own, beside a real daemon."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clients import post_many
from support.daemon import REPOSITORY
from support.disks import STORE, SmallDisk, daemon_with

pytestmark = pytest.mark.e2e


def ctl(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = (sys.executable, "-m", "oneshotd.ctl", *words)
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="oneshotd-") as folder:
        (Path(folder) / "copies").mkdir()
        yield Path(folder)


def test_a_backup_is_made_by_the_configuration_of_the_daemon(tmp_path: Path, place: Path) -> None:
    """The nightly job would have no backup, or not see that it has none."""
    config = place / "oneshotd.toml"
    config.write_text(f'backup-dir = "{place}/copies"\nbackup-socket = "{place}/backup"\n')
    assert ctl("backup", "--config", str(config)).returncode == 75
    with daemon_with(tmp_path / "daemon", f"--config={config}") as daemon:
        assert post_many(daemon, range(100)).status == 200
        done = ctl("backup", "--config", str(config))
        (copy,) = (place / "copies").iterdir()
        assert done.stdout.startswith(f"{copy}: {copy.stat().st_size} bytes in 0."), done
        assert (done.returncode, done.stderr) == (0, "")
        done = ctl("backup", "--socket", str(place / "backup"), "--quiet")
        assert (done.returncode, done.stderr) == (0, "")
        assert {Path(done.stdout.strip()), copy} == set((place / "copies").iterdir())
        daemon.kill()
        done = ctl("backup", "--config", str(config))
        assert done.returncode == 75
        assert done.stderr == f"oneshotctl backup: {place}/backup: the daemon does not run\n"


def test_a_full_disk_is_a_status_of_its_own(tmp_path: Path, place: Path) -> None:
    """A nightly job would try again and again, or count a backup that is not there."""
    small = SmallDisk(tmp_path, 2 << 20)
    folder = small.option.removeprefix("--store=sqlite:").removesuffix(f"/{STORE}")
    options = (f"--backup-dir={folder}", f"--backup-socket={place / 'backup'}")
    with daemon_with(tmp_path / "daemon", *options, within=small.within) as daemon:
        for start in range(0, 5000, 500):
            assert post_many(daemon, range(start, start + 500), padding=1000).status == 200
        done = ctl("backup", f"--socket={place / 'backup'}")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith(" (507)\n") and done.stderr.count("\n") == 1


def test_the_check_reads_nothing_but_files(tmp_path: Path) -> None:
    """A check beside the running daemon would take its port or its store, or leave something behind."""
    config = tmp_path / "oneshotd.toml"
    with daemon_with(tmp_path / "daemon") as daemon:
        store = tmp_path / "daemon" / STORE
        config.write_text(f'http = ["{daemon.port}"]\nudp = [{daemon.port}]\nstore = "sqlite:{store}"\n')
        done = ctl("check-config", "--config", str(config))
        assert (done.returncode, done.stderr) == (0, "")
        assert f"HTTP: port {daemon.port} of every address, without TLS" in done.stdout
        assert f"store: {store}, " in done.stdout
    done = ctl("check-config", "--config", str(config), f"--store=sqlite:{tmp_path}/new/x")
    assert done.returncode == 0 and not (tmp_path / "new").exists()
