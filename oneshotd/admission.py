"""The slow lane: whoever is not known yet takes turns, so that the known need not wait for them.

A newcomer's first response may hold the whole newcomer window, and so may every look: tens of
thousands of events are read, planned and written out for each. A crowd of invented names would
keep the daemon busy, and its memory full, for a minute.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock, TimeoutError
from twisted.internet.interfaces import IReactorTime

from oneshotd.errors import Refused

#: How many may be in it. With the largest responses at some 0.3 s each, who comes last still has
#: its turn within the 5 s that a scrape waits at most.
MAX_WAITING = 16


class AdmissionQueue:
    """One at a time, the others in the order in which they came."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lock = DeferredLock()
        self._places = MAX_WAITING

    @asynccontextmanager
    async def turn(self, until: float) -> AsyncIterator[bool]:
        """Wait for one's turn, and have it; false where there is no place, or no turn in time.

        :param until: reactor time (seconds).
        """
        if not self._places:
            yield False
            return
        self._places -= 1
        try:
            try:
                await self._lock.acquire().addTimeout(max(0.0, until - self._clock.seconds()), self._clock)
            except TimeoutError:
                yield False
                return
            try:
                yield True
            finally:
                self._lock.release()
        finally:
            self._places += 1

    @asynccontextmanager
    async def look(self, until: float) -> AsyncIterator[None]:
        """A turn for somebody who looks, and is told if there is none.

        :param until: reactor time (seconds).
        :raises Refused: too many look at the same time (503).
        """
        async with self.turn(until) as mine:
            if not mine:
                raise Refused("too many are looking: try again in a moment", reason="busy", status=503)
            yield
