"""The store's own time: wall time that does not run backwards, and up-time that survives a restart.

Where the wall clock was ahead and is corrected, `at` starts again at the clock (`correction.py`).

Nothing grows old while the daemon is down, and a step of the wall clock moves neither holds nor
windows (docs/semantics.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

#: Seconds that `at` may be ahead of the wall clock, standing still. Beyond it the clock was wrong before,
#: and `at` starts again. NTP steps are mostly below a second; a leap second is one.
MAX_CLOCK_AHEAD = 60.0


@frozen(kw_only=True)
class Clock:
    """Where a store reads the time.

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
        """Go on from the up-time and the acceptance time that were last on disk."""
        self._base_up = max(self._base_up, up - self._ran())
        self._latest_at = max(self._latest_at, at)

    def _ran(self) -> int:
        return int((self._clock.monotonic() - self._started) * 1000)

    def up(self) -> int:
        """Milliseconds that a daemon has run on this store."""
        return self._base_up + self._ran()

    def ago(self, up: int) -> int:
        """When it was this up-time (ms), of this run, by the wall clock of now; Unix ms."""
        return self._wall() - (self.up() - up)

    def past(self, at: int) -> int:
        """This time (Unix ms), or now, where a clock that was ahead has given it."""
        return min(at, self._wall())

    def _wall(self) -> int:
        return int(self._clock.wall() * 1000)

    def at(self) -> int:
        """Unix milliseconds; stands still while the wall clock is behind an earlier answer."""
        self._latest_at = max(self._latest_at, self._wall())
        return self._latest_at

    @property
    def is_wrong(self) -> bool:
        """Whether `at` is further ahead of the wall clock than standing still can make good."""
        return self._latest_at - self._wall() > MAX_CLOCK_AHEAD * 1000

    def start_again(self) -> int:
        """Let `at` start again at the wall clock; by how much (ms) it goes back."""
        before, self._latest_at = self._latest_at, self._wall()
        return before - self._latest_at
