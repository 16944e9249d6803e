"""Metrics of the rules of the access file that bound events; none without an access file.

The label `rule` is the number of the rule in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from attrs import frozen
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oneshotd.access.rules import Role
from oneshotd.access.usage import RuleUse

#: Rules that are shown: the first ones. With three reasons of refusals each has at most four samples.
MAX_SHOWN = 100

#: Reasons for which the bounds of a rule refuse events.
REASONS = ("forbidden", "limit", "rate")


@frozen(eq=False)
class RuleMetrics(Collector):
    """A collector for the daemon's registry.

    :param report: returns the use of all rules (`EventBounds.report`).
    """

    report: Callable[[], Sequence[RuleUse]]

    def describe(self) -> list[Metric]:
        """Return no families: the registry calls this instead of `collect` when it registers names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families; nothing if there is no access file."""
        uses = [use for use in self.report() if use.rule.role is Role.EMIT][:MAX_SHOWN]
        if not uses:
            return
        refused = CounterMetricFamily(
            "oneshotd_access_refused_events",
            "Events that the bounds of an access rule refused.",
            labels=["rule", "reason"],
        )
        series = GaugeMetricFamily(
            "oneshotd_access_series_ratio",
            "Different series of a rule's events in 24 hours, as a part of its series_per_day.",
            labels=["rule"],
        )
        for use in uses:
            counts = dict.fromkeys(REASONS, 0) | dict(use.refused)
            for reason, events in counts.items():
                refused.add_metric([str(use.rule.number), reason], events)
            if use.series is not None and use.rule.series_per_day is not None:
                series.add_metric([str(use.rule.number)], use.series / use.rule.series_per_day)
        yield refused
        yield series
