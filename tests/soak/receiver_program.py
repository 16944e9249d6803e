"""The program of a campaign's receiver of remote write: Debian's Prometheus 3, fetched."""

from __future__ import annotations

import os
from pathlib import Path

from tools import debian_archive

#: The suite of Debian that has it.
SUITE = "sid"


def receiver_program() -> Path | None:
    """Return its path; None where Debian's packages cannot be had, which is printed.

    :raises NoPackageTools: they cannot be had, and ``CI`` is set: there everything has to run.
    """
    try:
        return debian_archive.fetch("prometheus", SUITE) / "usr/bin/prometheus"
    except debian_archive.NoPackageTools as reason:
        if os.environ.get("CI"):
            raise
        print(f"without a receiver of remote write: {reason}", flush=True)
        return None
