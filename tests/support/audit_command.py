"""Run `oneshotctl audit` in a process of its own, as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from support.daemon import Daemon, environment


def run_audit(
    daemon: Daemon, scraper: str, store: str, *words: str, within: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Audit a scraper of the daemon against a store.

    :param store: the URL of its query API.
    :param words: further options.
    :param within: seconds until the command is ended.
    """
    return subprocess.run(
        (
            *(sys.executable, "-m", "oneshotd.ctl", "audit", "--daemon", daemon.url),
            *("--scraper", scraper, "--prometheus", store, *words),
        ),
        cwd=daemon.process.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=within,
    )


def audit_json(daemon: Daemon, scraper: str, store: str, *words: str) -> tuple[int, dict[str, Any]]:
    """Audit; return the exit status, which says equal or different, and what is printed with --json."""
    done = run_audit(daemon, scraper, store, "--json", *words)
    assert done.returncode in (0, 1) and done.stderr == "", done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found
