"""How many pending events are read for one request. Pure.

Where thousands of events of one series wait, each request has one of them, and to read all of them each time
would take most of the time. So reads are *shallow* then, and a deep one now and then finds other series.
"""

from __future__ import annotations

from oneshotd.delivery.remote_write.batching import MAX_OWED, MAX_SAMPLES

#: Events read by a deep and by a shallow read, behind the owed ones.
DEEP, SHALLOW = MAX_OWED + 2 * MAX_SAMPLES, 64

#: Seconds from one deep read to the next at least, while reads are shallow.
DEEP_INTERVAL = 0.25


class ReadDepth:
    """The depth of the next read for one receiver."""

    def __init__(self) -> None:
        self._shallow: int | None = None
        self._deep_at = -DEEP_INTERVAL

    def rows(self, now: float) -> int:
        """Return how many events the next reservation reads.

        :param now: steady seconds.
        """
        if self._shallow is not None and now - self._deep_at < DEEP_INTERVAL:
            return self._shallow
        self._deep_at = now
        return DEEP

    def planned(self, samples: int, queueing: int, owed: int) -> None:
        """Note what was found.

        :param samples: in the request.
        :param queueing: events that wait behind an earlier one of their series.
        :param owed: events that the receiver is owed.
        """
        is_slow = 0 < samples < SHALLOW // 4 and (queueing >= SHALLOW // 2)
        self._shallow = owed + SHALLOW if is_slow else None
