"""What the times of a scraper's requests tell: its interval, and whether it is more than one scraper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

#: Scrapes whose times are kept to calculate a scraper's interval.
KEPT_VISITS = 6

#: An identity seems to be shared after `OVERLAPS` scrapes within `OVERLAP_SECONDS` that arrived while a
#: delivery to another connection was in flight. A scraper that lost its connection and tries again
#: causes one.
OVERLAP_SECONDS, OVERLAPS = 600.0, 3


def interval(visits: Sequence[float]) -> float | None:
    """Return the median of the seconds between scrapes; None before the third.

    :param visits: times of its last scrapes, in seconds, ascending.
    """
    if len(visits) < 3:
        return None
    return median(later - earlier for earlier, later in pairwise(visits))


def is_shared(overlaps: Sequence[float], now: float) -> bool:
    """Return whether several scrapers seem to use one identity.

    :param overlaps: times of its last `OVERLAPS` scrapes during another delivery.
    :param now: in seconds, on the same clock.
    """
    return len(overlaps) == OVERLAPS and now - overlaps[0] < OVERLAP_SECONDS
