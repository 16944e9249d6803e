"""The different series that a rule's events have had in the last 24 hours.

Series are kept as hashes of 8 bytes. The time of a series is kept in steps of a quarter of an hour, so each
counts for 24 h to 24 h 15 min after its last event.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from attrs import define, field

from oneshotd.core.events import labels_of, metric_of

#: Seconds of a step, and steps for which a series counts.
STEP, STEPS = 900.0, 96

#: Bounds of what is counted to find the label with too many values: names of labels, and values of each.
MAX_NAMES, MAX_VALUES = 64, 1000

#: Series of one refused request that are looked at for that.
MAX_EXAMINED = 1000

METRIC = "__name__"


class Recent:
    """Hashes, each with the step in which it was noted last; ordered by that."""

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.steps)

    def note(self, key: int, step: int) -> None:
        """Note a hash; steps do not go back."""
        self.steps.pop(key, None)
        self.steps[key] = step

    def expire(self, before: int) -> None:
        """Delete what was noted last before this step."""
        steps = self.steps
        for key in list(takewhile(lambda key: steps[key] < before, steps)):
            del steps[key]


@define(eq=False)
class _Values:
    """The different values of a label.

    :ivar beyond: series whose value was not kept, because there are `MAX_VALUES`.
    """

    kept: Recent = field(factory=Recent)
    beyond: int = 0

    def note(self, value: int, step: int) -> None:
        if value in self.kept.steps or len(self.kept) < MAX_VALUES:
            self.kept.note(value, step)
        else:
            self.beyond += 1


@define(kw_only=True, eq=False)
class DaySeries:
    """Counts the different series of 24 hours, up to a number.

    :param most: series that are allowed.
    """

    most: int
    _seen: Recent = field(factory=Recent, init=False)
    _labels: dict[str, _Values] = field(factory=dict, init=False)
    _step: int = field(default=0, init=False)

    def count(self, now: float) -> int:
        """Return the number of different series; `now` in seconds of a clock that does not go back."""
        self._advance(now)
        return len(self._seen)

    def has_room(self, series: Iterable[str], now: float) -> bool:
        """Return whether there would be no more series than allowed with these."""
        self._advance(now)
        seen = self._seen.steps
        return len(seen) + len({key for key in map(hash, series) if key not in seen}) <= self.most

    def note(self, series: Iterable[str], now: float) -> None:
        """Count these series; the caller has asked `has_room`."""
        self._advance(now)
        seen, step = self._seen.steps, self._step
        for text in series:
            key = hash(text)  # keyed with chance at the start of the process
            if seen.get(key) != step:
                self._seen.note(key, step)
                self._note_labels(text)

    def widest(self, series: Iterable[str]) -> tuple[str, int]:
        """Return the label that has the most different values, and how many, as if these series were counted.

        `METRIC` stands for the metric name.
        """
        seen = self._seen.steps
        found: dict[str, set[int]] = {METRIC: set()}
        examined = 0
        for text in series:
            if examined < MAX_EXAMINED and hash(text) not in seen:
                examined += 1
                for name, value in _pairs(text):
                    if name in found or len(found) < MAX_NAMES:
                        found.setdefault(name, set()).add(value)
        counts = {name: len(values.kept) + values.beyond for name, values in self._labels.items()}
        for name, new in found.items():
            kept = self._labels.get(name)
            known = kept.kept.steps if kept is not None else {}
            counts[name] = counts.get(name, 0) + sum(value not in known for value in new)
        name = max(counts, key=lambda name: (counts[name], name != METRIC))
        return name, counts[name]

    def _advance(self, now: float) -> None:
        step = int(now // STEP)
        if step == self._step:
            return
        self._step = step
        self._seen.expire(step - STEPS)
        for name, values in list(self._labels.items()):
            values.kept.expire(step - STEPS)
            if len(values.kept) < MAX_VALUES:
                values.beyond = 0
            if not values.kept:
                del self._labels[name]

    def _note_labels(self, series: str) -> None:
        for name, value in _pairs(series):
            values = self._labels.get(name)
            if values is None:
                if len(self._labels) >= MAX_NAMES:
                    continue
                values = self._labels[name] = _Values()
            values.note(value, self._step)


def _pairs(series: str) -> Iterable[tuple[str, int]]:
    """Return the names of the labels and hashes of their values."""
    yield METRIC, hash(metric_of(series))
    for name, value in labels_of(series).items():
        yield name, hash(value)
