"""Looks over time: which identities send the timeout header, and which identities get only looks.

Both classes belong to the reactor's thread. They are bounded, because any client can invent names. `now`
is in reactor seconds.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, frozen
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from oneshotd.core.identity import Visit
from oneshotd.core.look import LookReason
from oneshotd.core.visits import habit_lasts

#: Consecutive looks, and the seconds that they span, after which an identity is reported as one that gets
#: only looks. A person reads less often.
REPORTED_LOOKS, REPORTED_SECONDS = 5, 60.0

#: The largest numbers of identities whose looks are counted, and that the metric names.
MAX_NAMES, MAX_REPORTED = 200, 20

#: The client asks for a look itself, or for no body: no warning.
_ON_PURPOSE = (LookReason.HEAD, LookReason.PARAMETER)


class TimeoutHabits:
    """Which identities send X-Prometheus-Scrape-Timeout-Seconds with their scrapes.

    A delivery with the header starts the habit; it lapses with time, and ends with a delivery
    without the header (which can only happen after it has lapsed).
    """

    def __init__(self) -> None:
        #: Identity -> time of its last request with the header; None: its last delivery was without it.
        self._last: dict[str, float | None] = {}

    def learn(self, known: set[str], timed: Iterable[str], now: float) -> None:
        """Forget identities that the store does not know; add those whose last delivery had the header.

        An identity that this process has seen keeps its entry, which is newer than the store's.
        """
        self._last = {name: last for name, last in self._last.items() if name in known}
        for name in timed:
            self._last.setdefault(name, now)

    def arrived(self, visit: Visit, now: float) -> None:
        """Note that a scrape request has arrived."""
        if visit.timed and visit.name in self._last:
            self._last[visit.name] = now

    def delivered(self, visit: Visit, now: float) -> None:
        """Note that a delivery has arrived."""
        self._last[visit.name] = now if visit.timed else None

    def expects_header(self, name: str, interval: float | None, now: float) -> bool:
        """Whether a request of this identity without the header is not from its scraper.

        :param interval: seconds between its scrapes; None if not known.
        """
        last = self._last.get(name)
        return last is not None and now - last < habit_lasts(interval)


@frozen(kw_only=True)
class OnlyLooks:
    """An identity that gets only looks.

    :param reason: of the last look.
    :param looks: the number of consecutive looks.
    :param seconds: from the first of them to the last.
    """

    name: str
    reason: LookReason
    looks: int
    seconds: float


@define
class _Row:
    reason: LookReason
    first: float
    last: float
    looks: int = 1


class LookHistory:
    """Counts the looks of each identity since its last scrape."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}  # least recently seen first
        self._now = 0.0

    def looked(self, visit: Visit, reason: LookReason, now: float) -> OnlyLooks | None:
        """Count a look; return the identity's record if this look makes it one to report."""
        # Unnamed browsers (product Mozilla) are people, however often they look.
        if reason in _ON_PURPOSE or (not visit.named and visit.name.endswith(" Mozilla")):
            return None
        self.expire(now)
        row = self._rows.pop(visit.name, None)
        before = row is not None and _is_reported(row)
        if row is None:
            row = _Row(reason=reason, first=now, last=now)
            if len(self._rows) >= MAX_NAMES:
                del self._rows[next(iter(self._rows))]
        else:
            row.reason, row.last, row.looks = reason, now, row.looks + 1
        self._rows[visit.name] = row
        return _record(visit.name, row) if _is_reported(row) and not before else None

    def scraped(self, name: str) -> None:
        """Reset the count of an identity that has scraped."""
        self._rows.pop(name, None)

    def expire(self, now: float) -> None:
        """Forget identities whose last look is longer ago than the header's habit lasts."""
        self._now = now
        gone = [name for name, row in self._rows.items() if now - row.last >= habit_lasts(_interval(row))]
        for name in gone:
            del self._rows[name]

    def only(self, now: float) -> list[OnlyLooks]:
        """Return all identities that get only looks, most recently seen first."""
        self.expire(now)
        return [_record(name, row) for name, row in reversed(self._rows.items()) if _is_reported(row)]

    def collect(self) -> Metric:
        """Return the metric's family, as of the last look, scrape or expiry."""
        family = GaugeMetricFamily(
            "oneshotd_scraper_only_looks",
            "Looks of an identity that gets only looks and no events, since its last scrape.",
            labels=["scraper", "reason"],
        )
        for only in self.only(self._now)[:MAX_REPORTED]:
            family.add_metric([only.name, only.reason.value], only.looks)
        return family


def _interval(row: _Row) -> float | None:
    return None if row.looks < 3 else (row.last - row.first) / (row.looks - 1)


def _is_reported(row: _Row) -> bool:
    return row.looks >= REPORTED_LOOKS and row.last - row.first >= REPORTED_SECONDS


def _record(name: str, row: _Row) -> OnlyLooks:
    return OnlyLooks(name=name, reason=row.reason, looks=row.looks, seconds=row.last - row.first)
