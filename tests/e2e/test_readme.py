"""The README's first page does what it says: its four lines are run as they stand there."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from support.daemon import Daemon
from support.namespace import own_loopback
from support.processes import is_free
from support.readme import block, on_port

pytestmark = pytest.mark.e2e

MARKER = "cron_test_manual&seconds"
SAMPLES = (
    'events_to_metrics{message="cron_test_manual",seconds="42",type="test"} 1',
    'events_to_metrics{result="failed",type="backup"} 37.5',
)


def port_8090_is_free() -> bool:
    return all(
        is_free(8090, family, kind)
        for family in (socket.AF_INET, socket.AF_INET6)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    )


def test_the_four_lines_do_what_their_comments_say(tmp_path: Path) -> None:
    """Whoever tries oneshotd for the first time sees what the README announces."""
    with own_loopback() as inside:
        if inside is not None or port_8090_is_free():
            lines, prefix = block(MARKER), inside or ()
            daemon = Daemon(tmp_path, options=(), port=8090, prefix=prefix)
        else:
            prefix, daemon = (), Daemon(tmp_path)
            lines = on_port(block(MARKER), daemon.port)
        with daemon:
            posted, sent, first, second = run(lines, prefix)
            daemon.stop()
    assert posted.strip() == "ok"
    assert sent == ""
    for sample in SAMPLES:
        assert first.splitlines().count(sample) == 1, first
    assert sum(line.startswith("events_to_metrics") for line in first.splitlines()) == len(SAMPLES), first
    assert "oneshotd_" in second
    assert "events_to_metrics" not in second, second
    assert daemon.errors() == []


def run(lines: str, prefix: tuple[str, ...]) -> list[str]:
    """What each line prints, run one after the other without a pause."""
    outputs = []
    for line in lines.splitlines():
        done = subprocess.run((*prefix, "bash", "-c", line), capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        outputs.append(done.stdout)
    return outputs
