"""The result of `oneshotctl audit` as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field, frozen

from oneshotd.core.events import series_text
from oneshotd.core.text import escape_unprintable
from oneshotd.core.way import Way
from oneshotd.ctl.audit_comparison import Compared, Verdict, Window

#: Series with a difference that are listed in JSON; text has fewer (`--show`).
MOST_LISTED = 10_000

_WAYS = {
    Way.SCRAPE: "scrape (samples have the time of the scrape)",
    Way.EVENT: "event (scraped with timestamps=event)",
    Way.PUSH: "push (remote write: samples have the time of the event)",
}


@define
class Summary:
    """The verdicts of all series, added up.

    :ivar events: delivered events in the range.
    :ivar found: events that the store counts; without the series that have both kinds of events.
    :ivar series: verdict -> number of series.
    :ivar listed: the first series of each verdict but `EQUAL`, failures first.
    """

    events: int = 0
    found: float = 0
    series: dict[Verdict, int] = field(factory=lambda: dict.fromkeys(Verdict, 0))
    failures: list[Compared] = field(factory=list)
    others: list[Compared] = field(factory=list)

    @classmethod
    def of(cls, compared: Iterable[Compared]) -> Summary:
        """Add up the series."""
        summary = cls()
        for each in compared:
            summary.series[each.verdict] += 1
            summary.events += each.least
            summary.found += each.found or 0
            if each.verdict is not Verdict.EQUAL:
                kept = summary.failures if each.verdict.fails else summary.others
                if len(kept) < MOST_LISTED:
                    kept.append(each)
        return summary

    @property
    def fails(self) -> bool:
        """Whether an event is lost or repeated."""
        return any(count and verdict.fails for verdict, count in self.series.items())

    @property
    def verdict(self) -> str:
        """Return ``different``, ``edge`` or ``equal``."""
        if self.fails:
            return "different"
        return "edge" if self.series[Verdict.EDGE] or self.series[Verdict.MIXED] else "equal"


@frozen(kw_only=True)
class Report:
    """The result.

    :param scraper: its name.
    :param store: what an error calls the store.
    :param way: how its events reach the store.
    :param lag: seconds; None: not known.
    :param pending: events that the scraper has not got yet.
    :param lost: reason -> events that the daemon has counted as lost for the scraper.
    :param notes: sentences on what limits the comparison.
    """

    scraper: str
    store: str
    way: Way
    window: Window
    lag: float | None
    pending: int
    lost: Mapping[str, int]
    notes: Sequence[str]
    summary: Summary

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``; the names are public."""
        summary, window = self.summary, self.window
        return {
            "verdict": summary.verdict,
            "scraper": self.scraper,
            "way": self.way.value,
            "since": moment(window.since),
            "until": moment(window.until),
            "samples_since": moment(window.begins),
            "samples_until": moment(window.ends),
            "longest_lag_seconds": self.lag,
            "events": summary.events,
            "found": _number(summary.found),
            "pending": self.pending,
            "lost": dict(self.lost),
            "series": {verdict.value: count for verdict, count in summary.series.items()},
            "differences": [_row(each) for each in (*summary.failures, *summary.others)][:MOST_LISTED],
            "notes": list(self.notes),
        }

    def lines(self, show: int) -> Iterator[str]:
        """Yield the lines of the text.

        :param show: most series of each kind that are listed.
        """
        summary, window = self.summary, self.window
        yield (
            f"{summary.verdict}: {_amount(summary.events, 'event')} of {sum(summary.series.values())} series"
            f" were delivered to {escape_unprintable(self.scraper)}, {self.store} has"
            f" {_shown(summary.found)}"
        )
        yield f"way:     {_WAYS[self.way]}"
        yield f"events:  {moment(window.since)} to {moment(window.until)}"
        lag = "not known" if self.lag is None else f"{self.lag:.1f} s"
        yield f"samples: {moment(window.begins)} to {moment(window.ends)} (longest lag: {lag})"
        if self.pending:
            yield f"pending: {_amount(self.pending, 'event')}, not compared"
        if self.lost:
            lost = ", ".join(f"{events} {reason}" for reason, events in sorted(self.lost.items()))
            yield f"lost, as the daemon has counted since it knows the scraper: {lost}"
        for note in self.notes:
            yield f"note: {note}"
        for kept in (summary.failures, summary.others):
            for each in kept[:show]:
                yield _line(each)
            if len(kept) > show:
                yield f"… and {len(kept) - show} more series (--show, --json)"


def moment(ms: int) -> str:
    """Return Unix milliseconds in RFC 3339."""
    try:
        shown = datetime.fromtimestamp(ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
    return f"{shown:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _line(each: Compared) -> str:
    series = escape_unprintable(series_text(each.metric, each.labels.items()))
    if each.verdict is Verdict.MIXED:
        return f"mixed:   {series}: events with and without a value, whose samples cannot be counted"
    if each.verdict is Verdict.EDGE:
        why = f"up to {each.most} can be there, as events at the edge of the window have samples in it"
    elif not each.known:
        why = "the daemon has no such event: another source of this metric? (--match)"
    elif each.verdict is Verdict.MISSING:
        why = f"{_shown(each.least - (each.found or 0))} missing"
    else:
        why = f"{_shown((each.found or 0) - each.most)} too many, {each.most} can be there"
    return (
        f"{each.verdict.value + ':':<8} {series}: {each.least} delivered, {_shown(each.found)} found; {why}"
    )


def _row(each: Compared) -> dict[str, Any]:
    return {
        "verdict": each.verdict.value,
        "metric": each.metric,
        "labels": dict(each.labels),
        "delivered": each.least,
        "possible": each.most,
        "found": _number(each.found),
        "known": each.known,
    }


def _number(found: float | None) -> float | int | None:
    """Return a whole number as such; what is not finite has no form in JSON."""
    if found is None or found != found or found in (float("inf"), float("-inf")):
        return None
    return int(found) if float(found).is_integer() else found


def _shown(found: float | None) -> str:
    """Return a number as a text, also one that is not finite."""
    number = _number(found)
    return f"{found:g}" if number is None and found is not None else str(number)


def _amount(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
