"""Serialise responses to unknown scrapers, and looks, so that they cannot delay known scrapers.

The first response to a new scraper may hold all events of the newcomer window, and so may each look:
tens of thousands of events are read, planned and rendered. Many invented names at once would occupy
the processor and the memory for a minute.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock, TimeoutError
from twisted.internet.interfaces import IReactorTime

from oneshotd.errors import Refused

#: Requests that may be in a queue. At 0.3 s for the largest response, the last one still has its turn
#: within the 5 s that a scrape waits at most.
MAX_WAITING = 16


class AdmissionQueue:
    """Lets one request proceed at a time, in the order of their arrival; at most `MAX_WAITING` wait."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lock = DeferredLock()
        self._free = MAX_WAITING

    @asynccontextmanager
    async def turn(self, until: float) -> AsyncIterator[bool]:
        """Wait for a turn and hold it; yield False if the queue is full or the time is over.

        :param until: reactor time (seconds).
        """
        if not self._free:
            yield False
            return
        self._free -= 1
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
            self._free += 1

    @asynccontextmanager
    async def look(self, until: float) -> AsyncIterator[None]:
        """Hold a turn for a look, or refuse the look.

        :param until: reactor time (seconds).
        :raises Refused: the queue is full, or the time is over (503).
        """
        async with self.turn(until) as admitted:
            if not admitted:
                raise Refused("too many looks are waiting: try again in a moment", reason="busy", status=503)
            yield
