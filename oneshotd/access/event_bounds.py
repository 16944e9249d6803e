"""Applies the bounds of an access rule to the events of its clients.

The bounds are the rule's labels, metric names, types, rate and number of series. A request is taken as a
whole or refused, and a refused request counts nothing; each event of a datagram stands alone. A refusal names
the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from attrs import define, field

from oneshotd.access.day_series import MAX_VALUES
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Rule
from oneshotd.access.usage import RuleUse, Usage, Usages
from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import NewEvent, labels_of, metric_of, series_text
from oneshotd.core.parsing.grammar import Rules, quoted
from oneshotd.core.patterns import matches_any
from oneshotd.errors import Refused


@define(kw_only=True, eq=False)
class EventBounds:
    """The bounds of all rules in force, with what has been used of them; one object for the whole daemon.

    :param access: the policy, whose rules are in force.
    :param limits: of each event, also after a rule has added labels to it.
    :param seconds: a clock that does not go back.
    """

    access: AccessPolicy
    limits: Rules
    seconds: Callable[[], float]
    _usages: Usages = field(factory=Usages, init=False)
    _version: int = field(default=0, init=False)

    def admitted(
        self, rule: Rule | None, events: Sequence[NewEvent]
    ) -> AbstractContextManager[Sequence[NewEvent]]:
        """Return a context in which the caller stores these events of one request, as the rule changes them.

        If it is left by `Refused`, the events are given back to the rule's rate; else they are accepted.

        :param rule: None, or one with the number 0: no bounds.
        :raises Refused: 403 (a label, metric name or type), 400 (too many labels or series), 429 (the rate).
        """
        if rule is None or not rule.number:
            return nullcontext(events)
        usage = self._of(rule)
        try:
            return _Admission(usage, self._request(usage, events))
        except Refused as refused:
            usage.refused[refused.reason] += len(events)
            raise

    def take(self, rule: Rule | None, count: int) -> bool:
        """Take events of as many requests from the rate of a rule that does not change events.

        :returns: whether the rate allows all of these requests, one after the other. If not, none is taken:
            the caller asks `admitted` for each of them.
        """
        if rule is None or not rule.number:
            return True
        usage = self._of(rule)
        if usage.bucket is not None:
            taken = usage.bucket.take_some(count, self.seconds())
            if taken < count:
                usage.bucket.give_back(taken)
                return False
        usage.accepted += count
        return True

    def give_back(self, rule: Rule | None, count: int) -> None:
        """Undo `take` for events that were not stored."""
        if rule is not None and rule.number:
            usage = self._of(rule)
            usage.give_back(count)
            usage.accepted -= count

    def each(self, rule: Rule, events: Sequence[NewEvent]) -> tuple[Sequence[NewEvent], list[Refused]]:
        """Return those of the events that the rule allows, as it changes them, and the others' refusals.

        Nobody tells later whether they were stored, so they count as accepted.
        """
        usage, now = self._of(rule), self.seconds()
        kept: Sequence[NewEvent]
        refusals: list[Refused] = []
        if rule.changes_events:
            kept = list(self._allowed(usage, events, now, refusals))
        else:
            kept = events
            taken = len(events) if usage.bucket is None else usage.bucket.take_some(len(events), now)
            if taken < len(events):
                kept = events[:taken]
                refusals = [self._too_fast(usage, now)] * (len(events) - taken)
        usage.accepted += len(kept)
        usage.refused.update(refused.reason for refused in refusals)
        return kept, refusals

    def report(self) -> Sequence[RuleUse]:
        """Return the use of the rules in force, in their order; empty without an access file."""
        self._follow()
        return self._usages.report(self.seconds())

    def _of(self, rule: Rule) -> Usage:
        self._follow()
        return self._usages.of(rule)

    def _follow(self) -> None:
        """Follow a change of the policy's rules."""
        if self._version != self.access.version:
            self._version = self.access.version
            self._usages.replace(self.access.rules or ())

    def _allowed(
        self, usage: Usage, events: Sequence[NewEvent], now: float, refusals: list[Refused]
    ) -> Iterator[NewEvent]:
        """Yield the events that the rule allows, each for itself; append the refusals of the others."""
        for event in events:
            try:
                changed = self._changed(usage.rule, event)
                self._check_series(usage, [changed.series], now)
                if usage.bucket is not None and not usage.bucket.take_some(1, now):
                    raise self._too_fast(usage, now)
            except Refused as refused:
                # Its traceback would tie this frame and the list into a cycle.
                refusals.append(refused.with_traceback(None))
                continue
            if usage.series is not None:
                usage.series.note([changed.series], now)
            yield changed

    def _request(self, usage: Usage, events: Sequence[NewEvent]) -> Sequence[NewEvent]:
        """Return the events of a request as the rule changes them; take them from its rate."""
        rule, now = usage.rule, self.seconds()
        if usage.bucket is not None and usage.bucket.wait(now):
            raise self._too_fast(usage, now)
        if rule.changes_events:
            events = self._all_changed(rule, events)
        if usage.series is not None:
            series = [event.series for event in events]
            self._check_series(usage, series, now)
            usage.series.note(series, now)
        if usage.bucket is not None:
            usage.bucket.take(len(events), now)
        return events

    def _all_changed(self, rule: Rule, events: Sequence[NewEvent]) -> Sequence[NewEvent]:
        changed: list[NewEvent] = []
        for number, event in enumerate(events, 1):
            try:
                changed.append(self._changed(rule, event))
            except Refused as refused:
                where = f"event {number} of {len(events)}: " if len(events) > 1 else ""
                raise Refused(
                    f"{where}{refused.text}", reason=refused.reason, status=refused.status
                ) from None
        return (
            SeriesBatch([event.series for event in changed]) if isinstance(events, SeriesBatch) else changed
        )

    def _changed(self, rule: Rule, event: NewEvent) -> NewEvent:
        """Return the event with the rule's labels.

        :raises Refused: the rule does not allow it.
        """
        metric = metric_of(event.series)
        if rule.metrics and not matches_any(rule.metrics, metric):
            raise _forbidden(rule, f"may not use the metric name {quoted(metric)}")
        if not rule.labels and not rule.types:
            return event
        labels = labels_of(event.series)
        for name, forced in rule.labels.items():
            given = labels.setdefault(name, forced)
            if given != forced:
                text = f"sets the label {quoted(name)} to {quoted(forced)}, the event has {quoted(given)}"
                raise _forbidden(rule, text)
        if rule.types and not matches_any(rule.types, kind := labels.get("type", "")):
            raise _forbidden(rule, f"may not use the type {quoted(kind)}")
        if not rule.labels:
            return event
        if len(labels) > self.limits.max_labels:
            text = f"with those of {rule} there are more than {self.limits.max_labels} labels"
            raise Refused(text, reason="limit")
        return event._replace(series=series_text(metric, labels.items()))

    def _check_series(self, usage: Usage, series: Sequence[str], now: float) -> None:
        """Raise `Refused` if there would be too many series with these."""
        counted = usage.series
        if counted is not None and not counted.has_room(series, now):
            label, values = counted.widest(series)
            text = (
                f"{usage.rule} allows {counted.most} different series in 24 h, and there would be more; "
                f"the label {quoted(label)} has the most values, {values}"
            ) + (" or more" if values >= MAX_VALUES else "")
            raise Refused(text, reason="limit")

    def _too_fast(self, usage: Usage, now: float) -> Refused:
        wait = 0.0 if usage.bucket is None else usage.bucket.wait(now)
        text = f"{usage.rule} allows {usage.rule.events_per_second:.7g} events per second on average"
        return Refused(text, reason="rate", status=429, retry_after=wait)


@define(eq=False)
class _Admission(AbstractContextManager[Sequence[NewEvent]]):
    """Counts the events of a request when it is known whether they were stored."""

    _usage: Usage
    _events: Sequence[NewEvent]

    def __enter__(self) -> Sequence[NewEvent]:
        return self._events

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Refused):
            self._usage.give_back(len(self._events))
        else:  # also if the request was cancelled: its events are stored nevertheless
            self._usage.accepted += len(self._events)


def _forbidden(rule: Rule, what: str) -> Refused:
    return Refused(f"{rule} {what}", reason="forbidden", status=403)
