"""Accepted samples that are sent again after the receiver was away. Pure.

VictoriaMetrics answers before a sample is on disk: what it accepted in the seconds before a crash is gone. So
the samples that it accepted within `replay` seconds before its last answer are kept, and sent again when it
may have been restarted since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from attrs import frozen

#: Samples kept at most, and the characters of their series; the oldest are dropped beyond it.
MAX_KEPT, MAX_CHARACTERS = 500_000, 1 << 26


@frozen
class Sample:
    """An accepted sample.

    :param at: Unix ms.
    """

    series: str
    value: str | None
    at: int


class Replay:
    """The samples that one receiver may have lost.

    :param seconds: see `ReceiverSettings.replay`; 0: none are kept.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[tuple[float, Sample]] = deque()
        self._characters = 0
        self._again: deque[Sample] = deque()
        #: Some were sent again since `was_away`.
        self._is_under_way = False

    def accepted(self, samples: Sequence[Sample], now: float) -> None:
        """Note samples that the receiver has accepted.

        :param now: steady seconds.
        """
        if self._seconds:
            self._kept.extend((now, sample) for sample in samples)
            self._characters += sum(len(sample.series) for sample in samples)
            self.answered(now)

    def answered(self, now: float) -> None:
        """Note an answer. What the receiver accepted `replay` seconds before is on its disk."""
        kept = self._kept
        while kept and (self._is_too_much() or (not self._again and kept[0][0] < now - self._seconds)):
            self._characters -= len(kept.popleft()[1].series)

    def was_away(self) -> None:
        """Note that the receiver may have been restarted: no answer, 5xx, or another connection."""
        self._again = deque(sample for _, sample in self._kept)
        self._is_under_way = False

    def next(self, most: int) -> list[Sample]:
        """Return samples to send again now; they stay here until `sent`."""
        return list(islice(self._again, most))

    def sent(self, count: int, now: float, *, reconnected: bool = False) -> None:
        """Note that so many of them were accepted again, or refused.

        :param now: steady seconds; what was sent again is in the receiver's memory only since then.
        :param reconnected: it answered over another connection: what was sent before may be lost once more.
        """
        if reconnected and self._is_under_way:
            self.was_away()
            return
        self._is_under_way = True
        for _ in range(count):
            self._again.popleft()
        if not self._again:
            self._kept = deque((now, sample) for _, sample in self._kept)

    def clear(self) -> None:
        """Forget all samples: another daemon sends them."""
        self._kept.clear()
        self._characters = 0
        self._again.clear()

    def _is_too_much(self) -> bool:
        return len(self._kept) > MAX_KEPT or self._characters > MAX_CHARACTERS
