"""A histogram over plain integers, for thousands of observations at a time.

A `prometheus_client.Histogram` takes a lock for each observation and exposes ``_created``; here a
delivery of 100 000 events is one call. Not thread-safe: for the reactor's thread only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise


class Histogram:
    """Counts of observations up to each bound, and their sum, in seconds.

    :param bounds: upper bounds in seconds (inclusive), ascending; ``+Inf`` is added.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        if not bounds or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"bounds: expected ascending numbers, got {bounds!r}")
        self._bounds = tuple(float(bound) for bound in bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, n: int = 1) -> None:
        """Count one duration `n` times; a negative one (the clock was set back) counts as zero."""
        seconds = max(seconds, 0.0)
        self._counts[bisect_left(self._bounds, seconds)] += n
        self.sum += seconds * n

    def observe_all(self, durations: Iterable[float]) -> None:
        """Count many durations at once: one sort, then one binary search per bucket."""
        ascending = sorted(durations)
        seen = 0
        for index, bound in enumerate(self._bounds):
            upto = bisect_right(ascending, bound, lo=seen)
            self._counts[index] += upto - seen
            seen = upto
        self._counts[-1] += len(ascending) - seen
        self.sum += sum(ascending[bisect_left(ascending, 0.0) :])

    def buckets(self) -> list[tuple[str, float]]:
        """Return (``le``, cumulative count) in the order of the exposition formats, ``+Inf`` last."""
        names = [*map(repr, self._bounds), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True))
