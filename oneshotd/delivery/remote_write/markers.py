"""Stale markers: they end the series of a delivered event `visible` seconds after it. Pure.

Rules, from what Prometheus and VictoriaMetrics do (docs/receivers.md):

* A marker never goes in the request of its sample: a repetition of that request would be refused.
* It goes only once its time is over, `GUARD` included, and if no pending event of its series has an earlier
  time; otherwise that event would be refused. So all pending events have to be known.
* The marker after the newest event of a series is enough: each sample ends the one before.
* Once a later event of the series has been sent, the marker is dropped, as it may be refused.

A marker that is refused is no loss of an event: the series is seen for some minutes longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush

#: Series that wait for their markers at most, and the characters of their names; events of further series get
#: none.
MAX_WAITING, MAX_CHARACTERS = 500_000, 1 << 26

#: Entries that one call brings to their place at most; all of them take a second, in the reactor's thread.
MAX_SETTLED = 20_000

#: Milliseconds after its time at which a marker is sent: a store that several daemons share shows an event
#: that long after it has given it a time.
GUARD = 1000


class Markers:
    """The markers that one receiver has yet to get.

    :param visible: ms from an event to its marker; 0: there are none.
    :ivar dropped: events without a marker, because too many were waiting.
    """

    def __init__(self, visible: int) -> None:
        self.dropped = 0
        self._visible = visible
        #: Series -> the time of its marker; 0: none. Each series has one entry in the heap, which may be
        #: earlier than that time.
        self._at: dict[str, int] = {}
        self._characters = 0
        self._heap: list[tuple[int, str]] = []
        self._may_settle = 0

    def delivered(self, series: Sequence[str], ats: Sequence[int]) -> None:
        """Note events that the receiver has stored, and that the store knows as delivered.

        :param ats: Unix ms.
        """
        if not self._visible:
            return
        for name, at in zip(series, ats, strict=True):
            if name not in self._at:
                if len(self._at) >= MAX_WAITING or self._characters + len(name) > MAX_CHARACTERS:
                    self.dropped += 1
                    continue
                self._characters += len(name)
                heappush(self._heap, (at + self._visible, name))
            self._at[name] = at + self._visible

    def sent(self, series: Iterable[str]) -> None:
        """Drop the markers of series of which a later event is sent now."""
        for name in series:
            if name in self._at:
                self._at[name] = 0

    def clear(self) -> None:
        """Forget all markers: another daemon sends them."""
        self._at, self._characters, self._heap = {}, 0, []

    def due(self, now: int, pending: Mapping[str, int], most: int) -> list[tuple[str, int]]:
        """Return markers that may be sent now, as (series, Unix ms), the earliest first; they stay here.

        :param now: Unix ms, by the clock that gave the events their times.
        :param pending: series -> the earliest time (Unix ms) of its pending events; all of them.
        :param most: greatest number of markers.
        """
        found: list[tuple[str, int]] = []
        seen: list[tuple[int, str]] = []
        self._may_settle = MAX_SETTLED
        while len(found) < most and self._settle_first() and self._heap[0][0] + GUARD < now:
            at, series = entry = heappop(self._heap)
            seen.append(entry)
            if pending.get(series, at + 1) > at:
                found.append((series, at))
        for entry in seen:
            heappush(self._heap, entry)
        return found

    def done(self, markers: Iterable[tuple[str, int]]) -> None:
        """Forget markers that were accepted, or refused for good."""
        for series, at in markers:
            if self._at.get(series) == at:
                self._at[series] = 0

    def next_due(self) -> int | None:
        """Return the time (Unix ms) from which a marker may be sent, or an earlier one; None: none waits."""
        self._may_settle = MAX_SETTLED
        return self._heap[0][0] + GUARD + 1 if self._settle_first() or self._heap else None

    def _settle_first(self) -> bool:
        """Bring the earliest marker to the start of the heap; return whether it is there.

        It is not if there is none, or if it takes more steps than this call may take.
        """
        while self._heap:
            at, series = self._heap[0]
            if self._at[series] == at:
                return True
            if not self._may_settle:
                return False
            self._may_settle -= 1
            heappop(self._heap)
            if self._at[series]:
                heappush(self._heap, (self._at[series], series))
            else:
                del self._at[series]
                self._characters -= len(series)
        return False
