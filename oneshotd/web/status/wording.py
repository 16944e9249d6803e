"""What the status page says in words: how long ago, how much, and what needs a look.

Pure: the time comes in as an argument. All of it is text; escaping is the template's affair.
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

#: A live scraper is late after so many of its own intervals, but not before `LATE_SECONDS`; one
#: whose interval is not known yet, after `LATE_UNKNOWN` seconds.
LATE_INTERVALS = 3.0
LATE_SECONDS = 60.0
LATE_UNKNOWN = 300.0

#: Warnings shown; of the rest, how many there are.
MAX_WARNINGS = 12

_LOST = {
    "away": "while it stayed away for longer than events are kept",
    "log full": "because the log was full",
    "clock": "because it has later samples of their series, from when the clock was ahead",
    REFUSED: "because it resets each response with them (the log names their series)",
}


@frozen(kw_only=True)
class Concern:
    """Something that needs a look.

    :param bad: events are gone or cannot be taken; otherwise they may be soon, or only wait.
    """

    text: str
    bad: bool = False


def short(seconds: float) -> str:
    """A duration for a table: ``4 s``, ``12 min``, ``3 h``, ``2 d``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= 90):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def spoken(seconds: float) -> str:
    """A duration in a sentence: ``12 minutes``."""
    number, unit = short(seconds).split(" ")
    return count(int(number), {"s": "second", "min": "minute", "h": "hour", "d": "day"}[unit])


def count(number: int, thing: str) -> str:
    """``1 event``, ``1,234 events``; series stay series."""
    plural = thing if number == 1 or thing.endswith("s") else f"{thing}s"
    return f"{number:,} {plural}"


def shown(text: str, most: int) -> str:
    """Text of strangers: what is invisible, turns the line or ends it is spelled out, the rest cut.

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
) -> tuple[Concern, ...]:
    """What needs a look, the worst first.

    :param now: Unix ms.
    :param hold: seconds for which events are kept.
    :param problem: why the daemon is not ready, or None.
    :param lost: scraper -> reason -> events missed, also of those that are no longer known.
    :param only_looks: identities that get only looks.
    :param clock: the last correction of a clock that was ahead.
    """
    found = [Concern(text=f"Not ready: {shown(problem, 300)}", bad=True)] if problem is not None else []
    if clock is not None:
        found.append(
            Concern(
                text=f"The clock was {spoken(clock.seconds)} ahead and was set right at {rfc3339(clock.at)}."
                " With timestamps=event, events of a series wait for a scraper that has a later sample of"
                " it, and are lost to it where that would take longer than events are kept."
            )
        )
    for scraper in scrapers:
        found += _of_scraper(scraper, now, hold)
    for name in sorted(lost.keys() - {scraper.name for scraper in scrapers}):
        found += _lost(name, lost[name], " It is no longer waited for.")
    for only in only_looks:
        found.append(
            Concern(
                text=f"{only.name} gets only looks and no events, {only.looks:,} in"
                f" {spoken(only.seconds)}: its requests {only.reason.text}."
            )
        )
    if len(scrapers) >= MAX_SCRAPERS:
        found.append(Concern(text=_full(scrapers), bad=True))
    found.sort(key=lambda warning: not warning.bad)
    if len(found) > MAX_WARNINGS:
        more = len(found) - MAX_WARNINGS + 1
        found[MAX_WARNINGS - 1 :] = [Concern(text=f"And {more:,} more of this kind.")]
    return tuple(found)


def _full(scrapers: Sequence[ScraperSeen]) -> str:
    if all(scraper.live for scraper in scrapers):
        return (
            f"{MAX_SCRAPERS} scrapers are known, which is the most: further ones get no events."
            " Name your scrapers, so that each keeps its identity."
        )
    return (
        f"{MAX_SCRAPERS} scrapers are known, which is the most: further ones without a name get no events,"
        " those with a name take the place of visitors. Name your scrapers."
    )


def _of_scraper(scraper: ScraperSeen, now: int, hold: float) -> Iterator[Concern]:
    name = scraper.name
    yield from _lost(name, scraper.lost)
    away = (now - scraper.last_seen) / 1000
    if scraper.live and away > late_after(scraper):
        yield Concern(text=f"{name} has not come for {spoken(away)}; {_kept(scraper, hold - away)}")
    if scraper.shared:
        yield Concern(
            text=f"Two connections seem to share one identity, {name}: give each a name of its own,"
            " ?scraper=NAME, or each gets only a part of the events."
        )
    if scraper.own_beyond:
        yield Concern(
            text=f"The daemon's own metrics alone do not fit into the {' and the '.join(scraper.own_beyond)}"
            f" of {name}: some of them are left out of its responses."
        )
    if scraper.live and scraper.queueing and scraper.owed:
        where = "one series" if scraper.queueing == 1 else count(scraper.queueing, "series")
        yield Concern(
            text=f"{count(scraper.owed, 'event')} of {where} {'waits' if scraper.owed == 1 else 'wait'}"
            f" for {name}: of one series, one goes out per scrape."
        )


def _lost(name: str, lost: Mapping[str, int], besides: str = "") -> Iterator[Concern]:
    missed = {reason: events for reason, events in lost.items() if events}
    if missed:
        why = " and ".join(f"{events:,} {_why(reason)}" for reason, events in missed.items())
        events = count(sum(missed.values()), "event")
        yield Concern(text=f"{name} has missed {events} for good: {why}.{besides}", bad=True)


def _why(reason: str) -> str:
    if reason in LIMIT_NAMES:
        return f"beyond its {reason}"
    return _LOST.get(reason, f"for the reason “{reason}”")


def late_after(scraper: ScraperSeen) -> float:
    """Seconds without a scrape after which this one is missed."""
    if scraper.interval is None:
        return LATE_UNKNOWN
    return max(LATE_INTERVALS * scraper.interval, LATE_SECONDS)


def _kept(scraper: ScraperSeen, left: float) -> str:
    if not scraper.pending:
        return "nothing waits for it."
    events = f"its {count(scraper.pending, 'event')} {'is' if scraper.pending == 1 else 'are'}"
    return f"{events} kept for another {spoken(left)}." if left > 0 else f"{events} about to be dropped."
