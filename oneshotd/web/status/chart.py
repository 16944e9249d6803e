"""Draws the last hour: a strip for each type, a bar for each minute.

The strips contain no text, so that a browser can stretch them to any width; the text is in the
cells of the table beside them. The number of SVG elements depends on the number of rows only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

from attrs import frozen
from twisted.web.template import Tag

from oneshotd.web.status.hour import MINUTE, MINUTES, OTHER, Hour
from oneshotd.web.status.wording import count

#: Strips at most; all further types share an additional one.
MAX_ROWS = 8

#: Height of a strip and of the lowest bar in it, in the units of its viewBox; a minute is 10 wide.
HEIGHT, LOWEST, WIDTH = 24.0, 4.0, 10


@frozen(kw_only=True)
class Row:
    """One strip.

    :param kind: the type, or None for all the further ones.
    :param others: the number of the further types.
    :param counts: events in each minute.
    """

    kind: str | None
    others: int = 0
    counts: Sequence[int]

    @property
    def events(self) -> int:
        """The events of the hour."""
        return sum(self.counts)


def rows(hour: Hour) -> list[Row]:
    """Return a row for each of the types with the most events, and one for all others."""
    named = [(kind, counts) for kind, counts in hour.counts if kind != OTHER]
    kept = named[:MAX_ROWS]
    rest = [counts for kind, counts in hour.counts if kind == OTHER] + [
        counts for _, counts in named[MAX_ROWS:]
    ]
    found = [Row(kind=kind, counts=counts) for kind, counts in kept]
    if rest:
        found.append(
            Row(kind=None, others=len(rest), counts=[sum(minute) for minute in zip(*rest, strict=True)])
        )
    return found


def strip(row: Row, hour: Hour, highest: int, words: str) -> Tag:
    """Return the SVG of one row.

    :param highest: events of the fullest minute of all rows. The height of a bar is the square root
        of its share, so that a single event beside a thousand is visible.
    :param words: its text alternative.
    """
    bars = "".join(_bars(row.counts, highest))
    uncounted = (hour.since - hour.start) / MINUTE * WIDTH
    return Tag(
        "svg",
        attributes={
            "class": "strip",
            "viewBox": f"0 0 {MINUTES * WIDTH} {HEIGHT:g}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": words,
        },
        children=[
            *(
                [_element("rect", "uncounted", width=f"{uncounted:.0f}", height=f"{HEIGHT:g}")]
                if uncounted
                else []
            ),
            _element("path", "grid", d="".join(f"M{quarter * 150} 0V{HEIGHT:g}" for quarter in range(5))),
            _element("path", "bars", d=bars),
        ],
    )


def words(row: Row, hour: Hour, clock: Sequence[str]) -> str:
    """Return the text alternative of a strip.

    :param clock: the time of each minute as text.
    """
    if not row.events:
        return "no events"
    most = max(row.counts)
    first, last = (n for n in (_first(row.counts), MINUTES - 1 - _first(row.counts[::-1])))
    if first == last:
        return f"{count(row.events, 'event')}, at {clock[first]}"
    fullest = f", most at {clock[list(row.counts).index(most)]}: {most:,}" if most > 1 else ""
    return f"{count(row.events, 'event')} between {clock[first]} and {clock[last]}{fullest}"


def _bars(counts: Sequence[int], highest: int) -> Iterator[str]:
    for minute, events in enumerate(counts):
        if events:
            height = LOWEST + (HEIGHT - LOWEST) * (sqrt(events / highest) if highest > 1 else 1)
            yield f"M{minute * WIDTH + 1} {HEIGHT:g}v-{height:.1f}h{WIDTH - 2}v{height:.1f}z"


def _first(counts: Sequence[int]) -> int:
    return next(minute for minute, events in enumerate(counts) if events)


def _element(name: str, kind: str, **attributes: str) -> Tag:
    return Tag(name)(class_=kind, **attributes)
