"""How a scraper gets its events."""

from __future__ import annotations

from enum import Enum


class Way(Enum):
    """How events reach a scraper's store, which decides on the time of a sample. The values are public."""

    #: It scrapes, and a sample has the time of the scrape.
    SCRAPE = "scrape"
    #: It scrapes with ``timestamps=event``.
    EVENT = "event"
    #: It is a receiver of remote write, to which the daemon sends.
    PUSH = "push"
