"""`oneshot-emit` as a process of its own, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

#: Without the working directory in the path: it may hold anything.
EMIT = (sys.executable, "-P", "-m", "oneshotd.emit")

#: Seconds for anything that a test starts.
PATIENCE = 30.0

#: Where nobody listens: the port is reserved (RFC 6335), and no daemon gets it.
NOBODY = "http://127.0.0.1:1"


def environment(url: str = NOBODY, **more: str) -> dict[str, str]:
    """For a process that finds the package in the working tree, and the daemon at `url`."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "ONESHOTD_URL": url, **more}


def emit(
    *words: str, url: str = NOBODY, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    return subprocess.run(
        (*EMIT, *words),
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        env={**environment(url), **(env or {})},
    )


@contextmanager
def started(*words: str, url: str = NOBODY) -> Iterator[subprocess.Popen[bytes]]:
    """Start it, with pipes for everything; killed at the end, if it is still there."""
    with subprocess.Popen(
        (*EMIT, *words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(url),
    ) as process:
        try:
            yield process
        finally:
            process.kill()
