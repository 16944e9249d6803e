"""One line on a terminal that says how far a long input is."""

from __future__ import annotations

import os
import stat
import sys
import time

#: Seconds until it first shows, and between two states of it.
SHOWN_AFTER = 1.0
SHOWN_EVERY = 0.2

_CLEAR = "\r\x1b[K"


class Progress:
    """Silent unless standard error is a terminal, and the input is none.

    :param source: the input's file descriptor; of a file, the part that is read shows, too.
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
        """So many bytes more were read."""
        self._read += count

    def show(self, sent: int, refused: int) -> None:
        """Bring the line up to date, if it is time."""
        if self._on and time.monotonic() >= self._due:
            self._write(sent, refused)
            self._due = time.monotonic() + SHOWN_EVERY

    def clear(self) -> None:
        """Make place for another line."""
        if self._shown:
            print(_CLEAR, end="", file=sys.stderr, flush=True)

    def end(self, sent: int, refused: int) -> None:
        """Leave the last state behind, if there was one."""
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
