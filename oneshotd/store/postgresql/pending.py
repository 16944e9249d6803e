"""Read the pending events of a scraper."""

from __future__ import annotations

from collections.abc import Sequence

from oneshotd.core.events import Event
from oneshotd.core.sampling.ahead import Ahead
from oneshotd.store.interface import Reservation
from oneshotd.store.limits import Limits
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.scrapers import Present, Row
from oneshotd.store.postgresql.segments import read
from oneshotd.store.reading_plan import collect_pending

_OWED = """
SELECT seq, at, series, value FROM owed WHERE scraper = %s AND gone IS NULL ORDER BY seq LIMIT %s"""
#: Reads the series of a scraper, given by its name, whose latest sample is ahead of the clock.
AHEAD = """
SELECT series, at FROM shown WHERE scraper = (SELECT id FROM scraper WHERE name = %s) AND ahead"""


def read_pending(
    link: Link,
    row: Row,
    at: Present,
    limits: Limits,
    limit: int,
    token: int | None,
    ahead: Sequence[tuple[bytes, int]],
) -> Reservation:
    """Read at most `limit` pending events of a scraper, owed ones first.

    :param ahead: rows of `AHEAD`.
    """
    end = row.read_to(at.head)
    pending = collect_pending(
        _owed(link, row.id, limit) if row.owed else (),
        lambda events, size: read(link, row.cursor, end, events, size) if row.cursor < end else (),
        cursor=row.cursor,
        owed_total=row.owed,
        max_events=limit,
        max_bytes=limits.read_bytes,
        max_series=limits.read_series,
    )
    return Reservation(
        token=token,
        pending=pending,
        remaining=at.head - row.cursor + row.owed - len(pending),
        history=row.history,
        ahead=Ahead(
            times={bytes(series).decode(): time for series, time in ahead},
            hold_ms=int(limits.hold * 1000),
        ),
        now=at.now,
    )


def _owed(link: Link, scraper: int, limit: int) -> list[Event]:
    rows = link.execute(_OWED, (scraper, limit + 1)).fetchall()
    return [
        Event(seq, at, bytes(series).decode(), None if value is None else bytes(value).decode())
        for seq, at, series, value in rows
    ]
