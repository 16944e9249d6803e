"""The store's time: wall time that does not run backwards, and up-time that survives a restart.

After a wall clock that was ahead is corrected, `at` starts again at the clock (`clock_corrections.py`).

Nothing expires while the daemon is down, and a step of the wall clock moves neither holds nor windows
(docs/semantics.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

#: Seconds by which `at` may be ahead of the wall clock; it stands still meanwhile. If it is further ahead,
#: the clock was wrong, and `at` starts again. NTP steps are mostly below a second; a leap second is one.
MAX_CLOCK_AHEAD = 60.0


@frozen(kw_only=True)
class Clock:
    """The clocks that a store reads.

    :param wall: Unix time in seconds.
    :param monotonic: seconds of any steady clock.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class Times:
    """Wall time and up-time in integer milliseconds, continued from what was on disk."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self._base_up = 0
        self._latest_at = 0

    def resume(self, up: int, at: int) -> None:
        """Continue from the up-time and the acceptance time that were last on disk."""
        self._base_up = max(self._base_up, up - self._ran())
        self._latest_at = max(self._latest_at, at)

    def _ran(self) -> int:
        return int((self._clock.monotonic() - self._started) * 1000)

    def up(self) -> int:
        """Return the milliseconds that daemons have run on this store."""
        return self._base_up + self._ran()

    def ago(self, up: int) -> int:
        """Convert an up-time (ms) of this run to Unix ms, by the present wall clock."""
        return self.wall() - (self.up() - up)

    def past(self, at: int) -> int:
        """Return this time (Unix ms), or the present if a clock that was ahead gave it."""
        return min(at, self.wall())

    def wall(self) -> int:
        """Return Unix ms by the wall clock, which may be set back."""
        return int(self._clock.wall() * 1000)

    def at(self) -> int:
        """Return Unix ms; the value stands still while the wall clock is behind an earlier one."""
        self._latest_at = max(self._latest_at, self.wall())
        return self._latest_at

    @property
    def is_wrong(self) -> bool:
        """Whether `at` is too far ahead of the wall clock to wait for it."""
        return self._latest_at - self.wall() > MAX_CLOCK_AHEAD * 1000

    def start_again(self) -> int:
        """Start `at` again at the wall clock; return by how many ms it goes back."""
        before, self._latest_at = self._latest_at, self.wall()
        return before - self._latest_at
