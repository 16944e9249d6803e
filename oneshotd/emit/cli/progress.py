"""Show the progress of a long input in one line on the terminal."""

from __future__ import annotations

import os
import stat
import sys
import time

#: Seconds until the line first shows, and between two updates.
SHOWN_AFTER = 1.0
SHOWN_EVERY = 0.2

_CLEAR = "\r\x1b[K"


class Progress:
    """A progress line; silent unless standard error is a terminal and the input is not.

    :param source: the input's file descriptor; of a file, the line shows the part that was read.
    """

    def __init__(self, source: int) -> None:
        self._on = sys.stderr is not None and sys.stderr.isatty() and not os.isatty(source)
        self._due = time.monotonic() + SHOWN_AFTER
        self._shown = False
        self._read = 0
        self._size = 0
        if self._on:
            about = os.fstat(source)
            self._size = about.st_size if stat.S_ISREG(about.st_mode) else 0

    def read(self, count: int) -> None:
        """Count bytes that were read."""
        self._read += count

    def show(self, sent: int, refused: int) -> None:
        """Update the line, if an update is due."""
        if self._on and time.monotonic() >= self._due:
            self._write(sent, refused)
            self._due = time.monotonic() + SHOWN_EVERY

    def clear(self) -> None:
        """Clear the line, so that another text can be printed."""
        if self._shown:
            print(_CLEAR, end="", file=sys.stderr, flush=True)

    def end(self, sent: int, refused: int) -> None:
        """Print the last state and end the line, if it was shown."""
        if self._shown:
            self._write(sent, refused)
            print(file=sys.stderr, flush=True)

    def _write(self, sent: int, refused: int) -> None:
        parts = [f"{sent:,} events sent"]
        if refused:
            parts.append(f"{refused:,} refused")
        if self._size:
            parts.append(f"{min(100, 100 * self._read // self._size)} % read")
        print(_CLEAR + ", ".join(parts), end="", file=sys.stderr, flush=True)
        self._shown = True
