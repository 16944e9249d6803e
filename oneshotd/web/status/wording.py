"""The texts of the status page: durations, counts and warnings.

Pure: the time is an argument. The template escapes the texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from oneshotd.core.identity import MAX_SCRAPERS
from oneshotd.core.sampling.suspects import REFUSED
from oneshotd.core.scrape_limits import LIMIT_NAMES
from oneshotd.core.text import escape_unprintable
from oneshotd.metrics.looks import OnlyLooks
from oneshotd.query import ScraperSeen
from oneshotd.store.interface import ClockCorrected
from oneshotd.web.timestamps import rfc3339

#: A live scraper is late after this number of its intervals, but not before `LATE_SECONDS`; if its
#: interval is not known yet, after `LATE_UNKNOWN` seconds.
LATE_INTERVALS = 3.0
LATE_SECONDS = 60.0
LATE_UNKNOWN = 300.0

#: Warnings at most; the last one may be the number of the rest.
MAX_WARNINGS = 12

_LOST = {
    "away": "because it did not scrape for longer than events are kept",
    "log full": "because the log was full",
    "clock": "because it has later samples of their series, from the time when the clock was ahead",
    REFUSED: "because it resets each response with them (the log names their series)",
}


@frozen(kw_only=True)
class StatusWarning:
    """A warning on the status page.

    :param bad: events are lost or cannot be stored; else they may be lost soon, or wait.
    """

    text: str
    bad: bool = False


def short(seconds: float) -> str:
    """Return a duration for a table: ``4 s``, ``12 min``, ``3 h``, ``2 d``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= 90):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def spoken(seconds: float) -> str:
    """Return a duration for a sentence: ``12 minutes``."""
    number, unit = short(seconds).split(" ")
    return count(int(number), {"s": "second", "min": "minute", "h": "hour", "d": "day"}[unit])


def count(number: int, thing: str) -> str:
    """Return ``1 event``, ``1,234 events``; the plural of series is series."""
    plural = thing if number == 1 or thing.endswith("s") else f"{thing}s"
    return f"{number:,} {plural}"


def shown(text: str, most: int) -> str:
    """Return a client's text with invisible characters and line ends escaped, cut to `most` characters.

    The direction overrides (``U+202E``) could make a label read as something else.
    """
    visible = escape_unprintable(text[: most + 1])
    return visible if len(visible) <= most else visible[: most - 1] + "…"


def warnings(
    scrapers: Sequence[ScraperSeen],
    *,
    now: int,
    hold: float,
    problem: str | None,
    lost: Mapping[str, Mapping[str, int]],
    only_looks: Sequence[OnlyLooks] = (),
    clock: ClockCorrected | None = None,
    notes: Sequence[str] = (),
) -> tuple[StatusWarning, ...]:
    """Return the warnings, the worst first.

    :param now: Unix ms.
    :param hold: seconds for which events are kept.
    :param problem: why the daemon is not ready, or None.
    :param lost: scraper -> reason -> events missed; also of scrapers that are no longer known.
    :param only_looks: identities that get only looks.
    :param clock: the last correction of a clock that was ahead.
    :param notes: the warnings of /readyz.
    """
    found = [StatusWarning(text=f"Not ready: {shown(problem, 300)}", bad=True)] if problem is not None else []
    found += [StatusWarning(text=f"{note[:1].upper()}{note[1:]}.") for note in notes]
    if clock is not None:
        found.append(
            StatusWarning(
                text=f"The clock was {spoken(clock.seconds)} ahead and was corrected at {rfc3339(clock.at)}."
                " With timestamps=event, events of a series wait for a scraper that has a later sample of"
                " it, and are lost to it where that would take longer than events are kept."
            )
        )
    for scraper in scrapers:
        found += _of_scraper(scraper, now, hold)
    for name in sorted(lost.keys() - {scraper.name for scraper in scrapers}):
        found += _lost(name, lost[name], " No events are kept for it any more.")
    for only in only_looks:
        found.append(
            StatusWarning(
                text=f"{only.name} gets only looks and no events, {only.looks:,} in"
                f" {spoken(only.seconds)}: its requests {only.reason.text}."
            )
        )
    if len(scrapers) >= MAX_SCRAPERS:
        found.append(StatusWarning(text=_full(scrapers), bad=True))
    found.sort(key=lambda warning: not warning.bad)
    if len(found) > MAX_WARNINGS:
        more = len(found) - MAX_WARNINGS + 1
        found[MAX_WARNINGS - 1 :] = [StatusWarning(text=f"And {more:,} more warnings.")]
    return tuple(found)


def _full(scrapers: Sequence[ScraperSeen]) -> str:
    if all(scraper.live for scraper in scrapers):
        return (
            f"{MAX_SCRAPERS} scrapers are known, which is the maximum: further ones get no events."
            " Name your scrapers, so that each keeps its identity."
        )
    return (
        f"{MAX_SCRAPERS} scrapers are known, which is the maximum: further ones without a name get no events,"
        " those with a name replace visitors. Name your scrapers."
    )


def _of_scraper(scraper: ScraperSeen, now: int, hold: float) -> Iterator[StatusWarning]:
    name = scraper.name
    yield from _lost(name, scraper.lost)
    if scraper.receiver is not None:
        return  # it does not scrape; the notes of the daemon have what is wrong with it
    away = (now - scraper.last_seen) / 1000
    if scraper.live and away > late_after(scraper):
        yield StatusWarning(text=f"{name} has not scraped for {spoken(away)}; {_kept(scraper, hold - away)}")
    if scraper.shared:
        yield StatusWarning(
            text=f"Two connections seem to share one identity, {name}: give each its own name,"
            " ?scraper=NAME, or each gets only a part of the events."
        )
    if scraper.same_store:
        receivers = " and ".join(scraper.same_store)
        yield StatusWarning(
            text=f"{name} scrapes from the host to which events for {receivers} are sent: if that is one"
            " store, it has each event twice; let it scrape with events=0."
        )
    if scraper.own_beyond:
        yield StatusWarning(
            text=f"The daemon's own metrics alone do not fit into the {' and the '.join(scraper.own_beyond)}"
            f" of {name}: some of them are left out of its responses."
        )
    if scraper.live and scraper.queueing and scraper.owed:
        where = "one series" if scraper.queueing == 1 else count(scraper.queueing, "series")
        yield StatusWarning(
            text=f"{count(scraper.owed, 'event')} of {where} {'waits' if scraper.owed == 1 else 'wait'}"
            f" for {name}: a scrape delivers one event of a series."
        )


def _lost(name: str, lost: Mapping[str, int], besides: str = "") -> Iterator[StatusWarning]:
    missed = {reason: events for reason, events in lost.items() if events}
    if missed:
        why = " and ".join(f"{events:,} {_why(reason)}" for reason, events in missed.items())
        events = count(sum(missed.values()), "event")
        yield StatusWarning(text=f"{name} has missed {events} for good: {why}.{besides}", bad=True)


def _why(reason: str) -> str:
    if reason in LIMIT_NAMES:
        return f"beyond its {reason}"
    return _LOST.get(reason, f"for the reason “{reason}”")


def late_after(scraper: ScraperSeen) -> float:
    """Return the seconds without a scrape after which this scraper is late."""
    if scraper.interval is None:
        return LATE_UNKNOWN
    return max(LATE_INTERVALS * scraper.interval, LATE_SECONDS)


def _kept(scraper: ScraperSeen, left: float) -> str:
    if not scraper.pending:
        return "no events wait for it."
    events = f"its {count(scraper.pending, 'event')} {'is' if scraper.pending == 1 else 'are'}"
    return f"{events} kept for another {spoken(left)}." if left > 0 else f"{events} about to be deleted."
