"""A wall clock that a test sets, for one process: Debian's libfaketime, the monotonic clock left alone.

clock = WallClock(folder)
Daemon(folder, variables=clock.variables)
clock.set(-20)
"""

from __future__ import annotations

import time
from pathlib import Path

from support.debian_packages import fetch


class WallClock:
    """What the wall clock of a process shows, as an offset to the real one.

    :ivar offset: seconds that it is ahead.
    """

    def __init__(self, folder: Path, offset: float = 0.0) -> None:
        self._file = folder / "wall-clock"
        [library] = fetch("libfaketime").glob("usr/lib/*/faketime/libfaketimeMT.so.1")
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",
            # Of newer versions, and of older ones.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.set(offset)

    def set(self, offset: float) -> None:
        """Let it jump, at once."""
        self.offset = offset
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:+.3f}\n")
        new.rename(self._file)

    def time(self) -> float:
        """What it shows, Unix seconds."""
        return time.time() + self.offset
