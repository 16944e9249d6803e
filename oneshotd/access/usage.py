"""Count what each rule of the access file has used: events, refusals, rate, series of the last day.

The figures are of this process: they start again with it, and other daemons have their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from attrs import define, field, frozen

from oneshotd.access.day_series import DaySeries
from oneshotd.access.rules import Rule
from oneshotd.access.token_bucket import TokenBucket


@define(eq=False)
class Usage:
    """The figures of one rule.

    :ivar accepted: events that were stored, or whose request ended before that was known.
    :ivar refused: events that the rule's bounds refused, by reason.
    :ivar bucket: for `events_per_second`; None: no limit. It grants the events of one second at once.
    :ivar series: for `series_per_day`; None: no limit.
    """

    rule: Rule
    accepted: int = field(default=0, init=False)
    refused: Counter[str] = field(factory=Counter, init=False)
    bucket: TokenBucket | None = field(init=False)
    series: DaySeries | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        rate, most = self.rule.events_per_second, self.rule.series_per_day
        self.bucket = None if rate is None else TokenBucket(rate=rate, burst=max(1.0, rate))
        self.series = None if most is None else DaySeries(most=most)

    def give_back(self, events: int) -> None:
        """Return events to the rate that were taken from it and not stored.

        Their series stay counted: the sender most likely sends them again.
        """
        if self.bucket is not None:
            self.bucket.give_back(events)


@frozen(kw_only=True)
class RuleUse:
    """The use of one rule, for a page.

    :param refused: events, by reason.
    :param series: different series of the last 24 h; None: they are not counted.
    """

    rule: Rule
    accepted: int
    refused: Sequence[tuple[str, int]]
    series: int | None


class Usages:
    """The usage of each rule in force."""

    def __init__(self) -> None:
        self._by_number: dict[int, Usage] = {}

    def replace(self, rules: Sequence[Rule]) -> None:
        """Put other rules in force; a rule that was in force, with any number, keeps its usage."""
        former = {_identity(usage.rule): usage for usage in self._by_number.values()}
        self._by_number = {}
        for rule in rules:
            usage = former.pop(_identity(rule), None) or Usage(rule)
            usage.rule = rule
            self._by_number[rule.number] = usage

    def of(self, rule: Rule) -> Usage:
        """Return the usage of a rule; that of a rule which is no longer in force begins anew."""
        usage = self._by_number.get(rule.number)
        return usage if usage is not None and usage.rule is rule else Usage(rule)

    def report(self, now: float) -> Sequence[RuleUse]:
        """Return the use of all rules in their order; `now` in seconds of the steady clock."""
        return [
            RuleUse(
                rule=usage.rule,
                accepted=usage.accepted,
                refused=sorted(usage.refused.items()),
                series=None if usage.series is None else usage.series.count(now),
            )
            for usage in self._by_number.values()
        ]


def _identity(rule: Rule) -> Hashable:
    """Return all of the rule but its number."""
    return (
        (rule.role, rule.user, rule.token_sha256, rule.san, rule.network, rule.scraper),
        tuple(sorted(rule.labels.items())),
        (rule.metrics, rule.types, rule.events_per_second, rule.series_per_day),
    )
