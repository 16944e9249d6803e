r"""Which events somebody wants to see: by metric name, labels and time.

A series text is taken apart only if it may be wanted: if it has `,type="deploy"` somewhere, which may
also be a value that ends in `,type=`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from oneshotd.core.events import escape, labels_of, metric_of

#: The metric name, where it stands among the labels.
METRIC = "__name__"


@frozen(kw_only=True)
class Selection:
    """What has to be true of an event.

    :param where: label -> value that it must have; "" where it must not have the label.
        `METRIC` stands for the metric name. Names are legal ones; line ends in values are ``\n``,
        as in every event.
    :param since: Unix ms of the earliest `at`, or None.
    :param until: Unix ms before which `at` is, or None.
    """

    where: Mapping[str, str] = {}
    since: int | None = None
    until: int | None = None

    def in_time(self, at: int) -> bool:
        """Whether this time (Unix ms) is wanted."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def series_test(self) -> Callable[[str], bool]:
        """A quick test for series texts."""
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
