"""The store's own time: wall time that never runs backwards, and up-time that survives a restart.

Nothing grows old while the daemon is down, and a step of the wall clock moves neither holds nor
windows (docs/semantics.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen


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

    def at(self) -> int:
        """Unix milliseconds; stands still while the wall clock is behind an earlier answer."""
        self._latest_at = max(self._latest_at, int(self._clock.wall() * 1000))
        return self._latest_at
