"""The time between two requests of events that are accepted. Pure, but for the processor's clock.

A receiver and the clients that report events share one processor. A receiver with a backlog that took all it
can get would halve what the daemon can accept; its events are safe in the store, and can go later. So while
events arrive, it pauses after each request, and leaves to the clients what they use. What they use is
measured in the pauses, in which the receiver uses nothing.
"""

from __future__ import annotations

from collections.abc import Callable

#: Seconds from one request to the next at least, unless more events wait than it could have: what arrives
#: meanwhile shares the cost of a request and two commits with the clients.
LINGER = 0.05

#: A daemon that uses this part of a processor, both its threads together, has none left.
FULL = 0.8

#: The part of the time that a receiver gets in any case, and the largest one while events arrive: without a
#: pause there is no measure.
LEAST, MOST = 0.05, 0.95

#: The longest pause, and the shortest time that is a measure, in seconds.
LONGEST, ENOUGH = 1.0, 0.02


class Pacing:
    """Chooses the pauses of one receiver.

    :param processor: returns the seconds of processor time that the process has used.
    """

    def __init__(self, processor: Callable[[], float]) -> None:
        self._processor = processor
        self._free = MOST
        self._paused = 0.0
        self._used = 0.0
        self._began = 0.0
        self._since: tuple[float, float] | None = None

    def step_begins(self, now: float) -> None:
        """Note the begin of a step, and so the end of a pause.

        :param now: steady seconds, here and below.
        """
        self._began = now
        if self._since is None:
            return
        since, used = self._since
        self._since = None
        self._paused += now - since
        self._used += self._processor() - used
        if self._paused >= ENOUGH:
            self._free = min(MOST, max(LEAST, 1 - self._used / self._paused / FULL))
            self._paused = self._used = 0.0

    def pause(self, now: float, *, has_more: bool, is_fed: bool) -> float:
        """Return the seconds until the next step, which begin now.

        :param has_more: another request could go at once.
        :param is_fed: events were stored since the step began.
        """
        self._since = now, self._processor()
        took = now - self._began
        share = min(LONGEST, took / self._free - took) if is_fed else 0.0
        return share if has_more else max(share, LINGER - took)
