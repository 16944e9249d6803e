r"""Select events by metric name, labels and time.

The labels of a series text are parsed only if a substring test finds `,type="deploy"` in it, which may
also be part of a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from oneshotd.core.events import escape, labels_of, metric_of

#: The metric name, where it stands among the labels.
METRIC = "__name__"


@frozen(kw_only=True)
class Selection:
    """Conditions that a selected event meets.

    :param where: label -> its value; "" selects events without the label.
        `METRIC` stands for the metric name. Names are legal ones; line ends in values are ``\n``,
        as in every event.
    :param since: Unix ms of the earliest `at`, or None.
    :param until: Unix ms before which `at` is, or None.
    :param members: labels and texts: the label's value is the text, or a list with it, joined by commas.
    :param any_member: one of the members is enough.
    """

    where: Mapping[str, str] = {}
    since: int | None = None
    until: int | None = None
    members: Sequence[tuple[str, str]] = ()
    any_member: bool = False

    def in_time(self, at: int) -> bool:
        """Return whether the time (Unix ms) is within the bounds."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def series_test(self) -> Callable[[str], bool]:
        """Return a function that tests series texts."""
        by_label = self._label_test()
        if not self.members:
            return by_label
        needed = any if self.any_member else all
        parts = [escape(text) for _, text in self.members]

        def wanted(series: str) -> bool:
            # The substrings first: few series have them, and labels are costly to parse.
            if not needed(part in series for part in parts) or not by_label(series):
                return False
            labels = labels_of(series)
            return needed(_has_member(labels.get(name, ""), text) for name, text in self.members)

        return wanted

    def _label_test(self) -> Callable[[str], bool]:
        metric = self.where.get(METRIC)
        has = [
            (f'{{{name}="{escape(value)}"', f',{name}="{escape(value)}"')
            for name, value in self.where.items()
            if value and name != METRIC
        ]
        lacks = [(f'{{{name}="', f',{name}="') for name, value in self.where.items() if not value]
        labels = {name: value for name, value in self.where.items() if name != METRIC}

        def wanted(series: str) -> bool:
            if metric is not None and metric_of(series) != metric:
                return False
            if not all(first in series or later in series for first, later in has):
                return False
            if not has and not any(first in series or later in series for first, later in lacks):
                return True
            found = labels_of(series)
            return all(found.get(name, "") == value for name, value in labels.items())

        return wanted


def _has_member(value: str, text: str) -> bool:
    return value == text or text in value.split(",")
