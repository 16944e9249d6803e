"""How many pending events are read for one request. Pure.

Where thousands of events of one series wait, each request has one of them, and to read all of them each time
would take most of the time. So reads are *shallow* then, and a deep one now and then finds other series.
"""

from __future__ import annotations

from oneshotd.delivery.remote_write.batching import MAX_OWED, MAX_SAMPLES

#: Events read by a deep and by a shallow read, behind the owed ones. A deep read fills a request, unless many
#: of its events are of the same series.
DEEP, SHALLOW = MAX_SAMPLES + MAX_SAMPLES // 4, 64

#: Seconds from one deep read to the next at least, while reads are shallow.
DEEP_INTERVAL = 0.25


class ReadDepth:
    """The depth of the next read for one receiver."""

    def __init__(self) -> None:
        self._is_shallow = False
        self._owed = MAX_OWED
        self._deep_at = -DEEP_INTERVAL

    def rows(self, now: float) -> int:
        """Return how many events the next reservation reads.

        :param now: steady seconds.
        """
        if self._is_shallow and now - self._deep_at < DEEP_INTERVAL:
            return self._owed + SHALLOW
        self._deep_at = now
        return self._owed + DEEP

    def planned(self, samples: int, queueing: int, owed: int) -> None:
        """Note what was found.

        :param samples: in the request.
        :param queueing: events that wait behind an earlier one of their series.
        :param owed: events that the receiver may be owed afterwards.
        """
        self._is_shallow = 0 < samples < SHALLOW // 4 and queueing >= SHALLOW // 2
        self._owed = owed
