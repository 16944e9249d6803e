"""Events and scrapers as the status page is given them."""

from __future__ import annotations

from oneshotd.core.events import series_text
from oneshotd.query import EventSeen, ScraperSeen

#: Unix ms; 20 s into a minute.
NOW = 1_700_000_000_000

ANN = ScraperSeen(
    name="ann",
    named=True,
    live=True,
    last_seen=NOW - 4000,
    interval=15.0,
    answered=9,
    cursor=2000,
    pending=0,
    owed=0,
    oldest_pending=None,
    queueing=0,
    in_flight=False,
    delivered=1234,
    returned=0,
    revoked=0,
    uncertain=0,
    lost={},
)


def seen(
    seq: int, seconds_ago: float, kind: str | None = "deploy", value: str | None = None, **labels: str
) -> EventSeen:
    """One event."""
    if kind is not None:
        labels["type"] = kind
    return EventSeen(
        seq=seq,
        at=NOW - int(seconds_ago * 1000),
        series=series_text("happened", labels.items()),
        metric="happened",
        labels=labels,
        value=value,
    )
