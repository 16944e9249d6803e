"""Compare the events of a daemon with the samples of a store, series by series. Pure.

A store counts samples, and a sample has the time of its scrape: that is up to the scraper's longest lag
after the event, and a little before it if the clocks differ, or if the daemon accepted the event while the
scrape was on its way. So the store is asked for a *window* in which every sample of the wanted events lies.
In this window there may also be samples of events just outside the range. Each series has two numbers of
events:

* ``least``: delivered events in the range. Fewer in the store is a loss.
* ``most``: events that can have a sample in the window, pending ones included. More in the store is a
  repetition.

A number between them is the *edge* of the window. A pushed sample has the event's own millisecond: its
window is the range itself.

What a series' samples mean is in docs/queries.md: the sum of the samples is the number of events without a
value, the number of samples is that of events with one. A pushed event is always one sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum

from attrs import define, field, frozen

from oneshotd.core.way import Way

#: A series: the metric's name, and the sorted labels.
Key = tuple[str, tuple[tuple[str, str], ...]]

#: The prefix that a scraper puts before a label's name if the target has a label of the same name.
EXPORTED = "exported_"

#: `Window.earliest` if the lag is not known: the samples may be of any event that is held.
ANY_AGE = 0


class Function(Enum):
    """The quantity that a query returns for each series of the store."""

    SUM = "sum_over_time"
    COUNT = "count_over_time"


class Verdict(Enum):
    """The result of comparing one series; the worst one is the result of the audit."""

    EQUAL = "equal"
    EDGE = "edge"
    MIXED = "mixed"
    MISSING = "missing"
    SURPLUS = "surplus"

    @property
    def fails(self) -> bool:
        """Whether something is lost or repeated."""
        return self in (Verdict.MISSING, Verdict.SURPLUS)


@frozen(kw_only=True)
class Window:
    """Which events are compared, and with which samples; Unix ms, both ends included.

    :param since, until: the range of the delivered events that have to be there.
    :param earliest, latest: the events that can have a sample in the window.
    :param begins, ends: the samples.
    """

    since: int
    until: int
    earliest: int
    latest: int
    begins: int
    ends: int

    @property
    def length(self) -> int:
        """Return the ms of a range selector at `ends`.

        Prometheus 2 includes the left end of a range, Prometheus 3 and VictoriaMetrics do not.
        """
        return self.ends - self.begins + 1


def window(since: int, until: int, way: Way, *, lag: float | None, skew: float) -> Window:
    """Return the window for a range of events.

    :param since, until: Unix ms.
    :param lag: the scraper's longest seconds from an event to its delivery; None: not known.
    :param skew: seconds that a sample may be before its event.
    """
    if way is Way.PUSH:
        return Window(since=since, until=until, earliest=since - 1, latest=until, begins=since, ends=until)
    # In event time a sample has the time of its last event, so that it is not before any.
    before = 0 if way is Way.EVENT else round(skew * 1000)
    after = round((skew + (lag or 0.0)) * 1000)
    return Window(
        since=since,
        until=until,
        earliest=ANY_AGE if lag is None else since - before - after,
        latest=until + before + after,
        begins=since - before,
        ends=until + after,
    )


@define
class Series:
    """The events of one series.

    :ivar least: delivered events in the range.
    :ivar most: events that can have a sample in the window.
    :ivar counted, valued: whether there are events without, and with, a value.
    """

    least: int = 0
    most: int = 0
    counted: bool = False
    valued: bool = False


@define
class Events:
    """The events of the daemon, added up by series; memory grows with the series, not with the events.

    :param cursor: seq up to which the scraper has every event, except owed ones.
    :param owed_from: `at` (Unix ms) of the oldest event that may be owed; None: none is owed.
    :ivar head: seq of the newest event that was added.
    """

    window: Window
    cursor: int
    owed_from: int | None = None
    series: dict[Key, Series] = field(factory=dict)
    head: int = 0

    def add(self, seq: int, at: int, metric: str, labels: Mapping[str, str], *, valued: bool) -> None:
        """Add an event; do nothing if it cannot have a sample in the window."""
        if not self.window.earliest <= at <= self.window.latest:
            return
        self.head = max(self.head, seq)
        found = self.series.setdefault(key(metric, labels), Series())
        found.most += 1
        found.valued |= valued
        found.counted |= not valued
        if self.window.since <= at <= self.window.until and self._is_delivered(seq, at):
            found.least += 1

    def _is_delivered(self, seq: int, at: int) -> bool:
        return seq <= self.cursor and (self.owed_from is None or at < self.owed_from)

    def metrics(self) -> dict[str, tuple[bool, bool]]:
        """Return for each metric whether it has events without, and with, a value."""
        found: dict[str, tuple[bool, bool]] = {}
        for (metric, _), series in self.series.items():
            counted, valued = found.get(metric, (False, False))
            found[metric] = counted or series.counted, valued or series.valued
        return found


def key(metric: str, labels: Mapping[str, str]) -> Key:
    """Return the series of a metric's name and labels; the name may be among the labels."""
    return metric, tuple(sorted((name, text) for name, text in labels.items() if name != "__name__"))


@frozen(kw_only=True)
class Compared:
    """One series of the daemon or of the store.

    :param found: events that the store counts; None: the series has both kinds of events, so that neither
        the sum nor the number of its samples counts them.
    :param known: the daemon has events of the series.
    """

    metric: str
    labels: Mapping[str, str]
    least: int
    most: int
    found: float | None
    known: bool
    verdict: Verdict


class Matching:
    """Finds the series of the daemon for a series of the store, which has more labels.

    Labels that a scrape adds are ignored: of the series whose labels are all among those of the store, the
    one with the most labels is meant. A label of the event that is named as one of the target's arrives with
    the prefix `EXPORTED`.
    """

    def __init__(self, known: Iterable[Key]) -> None:
        #: Metric -> label names of its series, those with the most names first.
        self._shapes: dict[str, list[tuple[str, ...]]] = {}
        self._known = set(known)
        shapes: dict[str, set[tuple[str, ...]]] = {}
        for metric, labels in self._known:
            names = sorted((name for name, _ in labels), key=lambda name: (len(name), name))
            shapes.setdefault(metric, set()).add(tuple(names))
        for metric, found in shapes.items():
            self._shapes[metric] = sorted(found, key=lambda names: (-len(names), names))

    def find(self, metric: str, labels: Mapping[str, str]) -> Key | None:
        """Return the series that is meant; None: the daemon has none."""
        for names in self._shapes.get(metric, ()):
            chosen = _own(names, labels)
            if chosen is not None and (candidate := (metric, tuple(sorted(chosen.items())))) in self._known:
                return candidate
        return None


def _own(names: Sequence[str], labels: Mapping[str, str]) -> Mapping[str, str] | None:
    """Return the labels of an event with these names, as a series of the store has them; None: it does not.

    :param names: the shortest first, as a scraper renames them.
    """
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        exported = EXPORTED + name
        while exported in names:  # the event has that label, too: the scraper adds a further prefix
            exported = EXPORTED + exported
        place = exported if exported in labels and exported not in taken else name
        if place not in labels:
            return None
        taken.add(place)
        chosen[name] = labels[place]
    return chosen


@define
class Found:
    """The counts of the store for one series.

    :ivar sum: of its samples.
    :ivar count: number of its samples.
    """

    sum: float = 0.0
    count: float = 0.0


class Samples:
    """The samples of the store, added up by the series of the daemon.

    Several targets that have the same series are added.
    """

    def __init__(self, known: Iterable[Key]) -> None:
        self._matching = Matching(known)
        self.series: dict[Key, Found] = {}
        self.unknown: dict[Key, Found] = {}

    def add(self, metric: str, labels: Mapping[str, str], function: Function, number: float) -> None:
        """Add what a function gives for one series of the store."""
        match = self._matching.find(metric, labels)
        series, place = (self.unknown, key(metric, labels)) if match is None else (self.series, match)
        found = series.setdefault(place, Found())
        if function is Function.SUM:
            found.sum += number
        else:
            found.count += number


def compare(events: Events, samples: Samples, way: Way, *, held: int) -> Iterator[Compared]:
    """Compare each series.

    :param held: Unix ms; events before it may be deleted, so that their samples cannot be counted.
    """
    is_open = ANY_AGE < events.window.earliest < held
    for place, series in events.series.items():
        found = _number(series, samples.series.get(place, Found()), way)
        yield _compared(place, series, found, is_open=is_open)
    for place, left in samples.unknown.items():
        if number := left.count or left.sum:
            yield _compared(place, Series(), number, is_open=is_open, known=False)


def _number(series: Series, found: Found, way: Way) -> float | None:
    if way is Way.PUSH:
        return found.count
    if series.counted and series.valued:
        return None
    return found.count if series.valued else found.sum


def _compared(
    place: Key, series: Series, found: float | None, *, is_open: bool, known: bool = True
) -> Compared:
    if found is None:
        verdict = Verdict.MIXED
    elif found == series.least:
        verdict = Verdict.EQUAL
    elif found < series.least:
        verdict = Verdict.MISSING
    elif found <= series.most or is_open:
        verdict = Verdict.EDGE
    else:
        verdict = Verdict.SURPLUS
    return Compared(
        metric=place[0],
        labels=dict(place[1]),
        least=series.least,
        most=series.most,
        found=found,
        known=known,
        verdict=verdict,
    )
