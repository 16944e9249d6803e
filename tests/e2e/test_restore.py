"""The restore of docs/operations.md, as an operator copies it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.daemon import REPOSITORY, Daemon
from support.processes import free_port

pytestmark = pytest.mark.e2e

PAGE = REPOSITORY / "docs" / "operations.md"
COPY = "/var/backups/oneshotd/oneshotd-20261122T221530.125Z.sqlite"


def commands(daemon: Daemon, copy: str) -> list[str]:
    """What the page says, for this daemon's folder, without what takes root or systemd."""
    found = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = (text for text in found if "before-restore" in text)
    block = block.replace("\\\n", " ").replace(COPY, copy).replace(" -o oneshotd -g oneshotd", "")
    block = block.replace("/var/lib/oneshotd", str(daemon.process.folder))
    return [line for line in block.splitlines() if line.startswith(("mkdir", "mv", "install"))]


def back_up(socket: Path) -> str:
    """Have a copy made; its path."""
    command = (sys.executable, "-m", "oneshotd.ctl", "backup", "--quiet", f"--socket={socket}")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def post(daemon: Daemon, label: str) -> None:
    url = f"{daemon.url}/event?type={label}"
    subprocess.run(
        ["curl", "--silent", "--fail", "-X", "POST", url], check=True, capture_output=True, timeout=30
    )


def test_a_restored_daemon_is_where_the_copy_was_made(tmp_path: Path) -> None:
    """A restore beside the -wal file of a killed daemon would bring back commits that are not in the copy."""
    port, copies, socket = free_port(), tmp_path / "copies", tmp_path / "backup.sock"
    copies.mkdir()
    options = (
        f"--http=localhost:{port}",
        f"--udp=127.0.0.1:{port}",
        f"--store=sqlite:{tmp_path / 'oneshotd.sqlite'}",
        f"--backup-dir={copies}",
        f"--backup-socket={socket}",
    )
    with Daemon(tmp_path, options=options, port=port) as daemon:
        post(daemon, "before")
        assert 'type="before"' in daemon.get("/metrics?scraper=had-it")
        daemon.restart()
        copy = back_up(socket)
        post(daemon, "after")
        daemon.kill()
        assert (tmp_path / "oneshotd.sqlite-wal").stat().st_size > 0
        lines = commands(daemon, copy)
        assert len(lines) == 3
        for line in lines:
            subprocess.run(["bash", "-ec", line], check=True, timeout=30)
        daemon.start()
        assert 'type="before"' not in daemon.get("/metrics?scraper=had-it")
        assert 'type="before"' in daemon.get("/metrics?scraper=new")
        assert json.loads(daemon.get("/api/v1/events?type=after"))["events"] == []
        assert daemon.errors() == []
