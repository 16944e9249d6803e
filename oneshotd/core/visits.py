"""Calculate figures of a scraper from the times of its requests.

The figures are its interval, the duration of its habit of the timeout header, and whether several scrapers
share its identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

#: Scrapes whose times are kept to calculate a scraper's interval.
KEPT_VISITS = 6

#: A request without the timeout header is a look until no request with it has arrived for so many of the
#: scraper's intervals, and for `LAPSE_SECONDS` at least. If the interval is not known (for example after
#: a restart), for `LAPSE_UNKNOWN` seconds.
LAPSE_INTERVALS = 5.0
LAPSE_SECONDS = 60.0
LAPSE_UNKNOWN = 300.0

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


def habit_lasts(interval: float | None) -> float:
    """Return the seconds for which a habit of a scraper counts after its last visit.

    :param interval: seconds between the scrapes; None if not known.
    """
    return LAPSE_UNKNOWN if interval is None else max(LAPSE_INTERVALS * interval, LAPSE_SECONDS)


def is_shared(overlaps: Sequence[float], now: float) -> bool:
    """Return whether several scrapers seem to use one identity.

    :param overlaps: times of its last `OVERLAPS` scrapes during another delivery.
    :param now: in seconds, on the same clock.
    """
    return len(overlaps) == OVERLAPS and now - overlaps[0] < OVERLAP_SECONDS
