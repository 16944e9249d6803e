"""The bounds of an access rule: what becomes of the events of a request and of a datagram."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Role, Rule
from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import NewEvent, labels_of, metric_of, series_text
from oneshotd.core.parsing.grammar import Rules
from oneshotd.errors import Refused


class Bounded:
    """A policy with one rule, its bounds, and a clock."""

    def __init__(self, limits: Rules | None = None, **given: Any) -> None:
        self.now = 1000.0
        self.policy = AccessPolicy()
        self.rule = Rule(number=1, role=Role.EMIT, user="ci", **given)
        self.policy.update(rules=[self.rule], has_users=True)
        self.bounds = EventBounds(access=self.policy, limits=limits or Rules(), seconds=lambda: self.now)

    def reload(self, *rules: Rule) -> None:
        self.policy.update(rules=rules, has_users=True)

    def store(self, *series: str) -> list[str]:
        with self.bounds.admitted(self.rule, [NewEvent(text) for text in series]) as events:
            return [event.series for event in events]

    def figures(self) -> tuple[int, dict[str, int], int | None]:
        (use,) = self.bounds.report()
        return use.accepted, dict(use.refused), use.series


def test_a_label_is_forced_onto_events() -> None:
    """The events of a team would carry no name, or one that the sender has chosen."""
    bounded = Bounded(labels={"team": "shop", "zone": 'a"b\\'})
    assert bounded.store("m", 'm{type="x",zone="a\\"b\\\\"}') == [
        'm{team="shop",zone="a\\"b\\\\"}',
        'm{team="shop",type="x",zone="a\\"b\\\\"}',
    ]
    with pytest.raises(Refused) as caught:
        bounded.store("m", 'm{team="toys"}')
    assert caught.value.status == 403
    assert caught.value.reason == "forbidden"
    assert caught.value.text == (
        "event 2 of 2: rule 1 (emit, user ci) sets the label 'team' to 'shop', the event has 'toys'"
    )
    assert bounded.figures() == (2, {"forbidden": 2}, None)


def test_value_and_key_of_an_event_stay() -> None:
    """An event with a value or an idempotency key would lose it under a rule with labels."""
    bounded = Bounded(labels={"team": "shop"})
    with bounded.bounds.admitted(bounded.rule, [NewEvent("m", "2", "k")]) as events:
        assert events == [NewEvent('m{team="shop"}', "2", "k")]


def test_columns_stay_columns() -> None:
    """A body of 10,000 plain lines would cost a record for each event."""
    bounded = Bounded(labels={"team": "shop"})
    with bounded.bounds.admitted(bounded.rule, SeriesBatch(["m", "n"])) as events:
        assert isinstance(events, SeriesBatch)
        assert events.series == ['m{team="shop"}', 'n{team="shop"}']


@pytest.mark.parametrize(
    ("bounds", "series", "fault"),
    [
        ({"metrics": ("shop_*", "m")}, "shop_sales", None),
        ({"metrics": ("shop_*", "m")}, "toys", "may not use the metric name 'toys'"),
        ({"types": ("deploy",)}, 'm{type="deploy"}', None),
        ({"types": ("deploy",)}, 'm{type="deploys"}', "may not use the type 'deploys'"),
        ({"types": ("deploy",)}, "m", "may not use the type ''"),
        ({"types": ("*",)}, "m", None),
        ({"types": ("deploy",), "labels": {"type": "deploy"}}, "m", None),
    ],
)
def test_names_and_types_are_bounded(bounds: dict[str, Any], series: str, fault: str | None) -> None:
    """A tool that may report deployments could report anything."""
    bounded = Bounded(**bounds)
    if fault is None:
        bounded.store(series)
        return
    with pytest.raises(Refused) as caught:
        bounded.store(series)
    assert (caught.value.status, caught.value.reason) == (403, "forbidden")
    assert caught.value.text == f"rule 1 (emit, user ci) {fault}"


def test_the_limit_of_labels_holds_with_forced_ones() -> None:
    """A scraper with a limit of labels would drop the events of a team whose label is forced."""
    bounded = Bounded(Rules(max_labels=2), labels={"team": "shop"})
    bounded.store('m{a="1"}', 'm{a="1",team="shop"}')
    with pytest.raises(Refused, match=r"with those of rule 1 .emit, user ci. there are more than 2 labels"):
        bounded.store('m{a="1",b="2"}')


def test_too_many_events_are_told_when_to_come_again() -> None:
    """A sender would not know why its events are refused, or try again at once."""
    bounded = Bounded(events_per_second=2.0)
    bounded.store("m", "m")
    with pytest.raises(Refused) as caught:
        bounded.store("m")
    assert (caught.value.status, caught.value.reason) == (429, "rate")
    assert caught.value.retry_after == pytest.approx(0.5)
    assert caught.value.text == "rule 1 (emit, user ci) allows 2 events per second on average"
    bounded.now += 0.5
    bounded.store("m")
    assert bounded.figures() == (3, {"rate": 1}, None)


def test_too_many_series_name_the_label() -> None:
    """A label explosion would be refused without a word on its cause."""
    bounded = Bounded(series_per_day=3)
    bounded.store('m{id="1",zone="a"}', 'm{id="2",zone="a"}')
    with pytest.raises(Refused) as caught:
        bounded.store('m{id="3"}', 'm{id="4"}')
    assert (caught.value.status, caught.value.reason) == (400, "limit")
    assert caught.value.text == (
        "rule 1 (emit, user ci) allows 3 different series in 24 h, and there would be more;"
        " the label 'id' has the most values, 4"
    )
    assert bounded.figures() == (2, {"limit": 2}, 2)
    bounded.store('m{id="3"}', 'm{id="2",zone="a"}')
    bounded.now += 90_000
    bounded.store('m{id="4"}')
    assert bounded.figures() == (5, {"limit": 2}, 1)


def test_a_refused_request_counts_nothing() -> None:
    """A tool that is refused for its label would also use up the rate of those that are not."""
    bounded = Bounded(labels={"a": "b"}, events_per_second=1.0, series_per_day=1)
    with pytest.raises(Refused, match="sets the label"):
        bounded.store("m", 'm{a="c"}')
    with pytest.raises(Refused, match="different series"):
        bounded.store("m", "n")
    assert bounded.store("n") == ['n{a="b"}']
    with pytest.raises(Refused, match="on average"):
        bounded.store("m")
    assert bounded.figures() == (1, {"forbidden": 2, "limit": 2, "rate": 1}, 1)


def test_events_that_were_not_stored_are_given_back() -> None:
    """While the disk is full, tries would use up the rate, and the events be refused after it, too."""
    bounded = Bounded(events_per_second=1.0)
    for _ in range(3):
        with pytest.raises(Refused, match="full"), bounded.bounds.admitted(bounded.rule, [NewEvent("m")]):
            raise Refused("the disk is full", reason="store", status=503)
    assert bounded.figures()[0] == 0
    with pytest.raises(KeyboardInterrupt), bounded.bounds.admitted(bounded.rule, [NewEvent("m")]):
        raise KeyboardInterrupt  # stands for a request that is cancelled: its events are stored perhaps
    with pytest.raises(Refused, match="on average"):
        bounded.store("m")


def test_without_a_rule_nothing_is_bounded() -> None:
    """A daemon without an access file would change or refuse events."""
    bounded = Bounded(events_per_second=1.0)
    events = SeriesBatch(["m"] * 50)
    for rule in (None, Rule(number=0, role=Role.EMIT)):
        for _ in range(3):
            with bounded.bounds.admitted(rule, events) as admitted:
                assert admitted is events
            assert bounded.bounds.take(rule, 50)
            bounded.bounds.give_back(rule, 50)
    bounded.policy.update(rules=None, has_users=False)
    assert bounded.bounds.report() == []


def test_the_rate_is_shared_with_the_fast_path() -> None:
    """A sender would have twice its rate, once on each way through the daemon."""
    bounded = Bounded(events_per_second=2.0)
    assert bounded.bounds.take(bounded.rule, 1)
    bounded.store("m")
    assert not bounded.bounds.take(bounded.rule, 1)
    bounded.bounds.give_back(bounded.rule, 1)
    assert bounded.bounds.take(bounded.rule, 1)
    assert bounded.figures() == (2, {}, None)


def test_usage_stays_with_an_equal_rule_when_the_file_is_read_again() -> None:
    """A change of another rule would give every sender a new day's series and a new rate."""
    bounded = Bounded(series_per_day=1)
    bounded.store("m")
    moved = Rule(number=2, role=Role.EMIT, user="ci", series_per_day=1)
    bounded.reload(Rule(number=1, role=Role.LOOK, user="b"), moved)
    assert [use.series for use in bounded.bounds.report()] == [None, 1]
    with (
        pytest.raises(Refused, match=r"rule 2 .* different series"),
        bounded.bounds.admitted(moved, [NewEvent("n")]),
    ):
        pass
    assert bounded.store("n") == ["n"]  # a request that was decided before, under a rule that is no more
    bounded.reload(Rule(number=1, role=Role.EMIT, user="ci", series_per_day=2))
    assert [use.series for use in bounded.bounds.report()] == [0]


def test_events_of_a_datagram_stand_alone() -> None:
    """One bad line would cost the others of its datagram, which nobody sends again."""
    bounded = Bounded(types=("a", "b"), labels={"team": "x"}, series_per_day=2, events_per_second=3.0)
    series = ['m{type="a"}', 'm{type="c"}', 'm{type="b"}', 'm{type="b",z="1"}', 'm{type="a"}', 'm{type="a"}']
    kept, refusals = bounded.bounds.each(bounded.rule, [NewEvent(text) for text in series])
    assert [event.series for event in kept] == [f'm{{team="x",type="{kind}"}}' for kind in ("a", "b", "a")]
    assert [refused.reason for refused in refusals] == ["forbidden", "limit", "rate"]
    assert all(str(bounded.rule) in refused.text for refused in refusals)
    assert bounded.figures() == (3, {"forbidden": 1, "limit": 1, "rate": 1}, 2)


def test_datagrams_have_no_debt() -> None:
    """A flood from one host would shut the others of its network out for minutes."""
    bounded = Bounded(events_per_second=5.0)
    kept, refusals = bounded.bounds.each(bounded.rule, SeriesBatch(["m"] * 2000))
    assert len(kept) == 5
    assert {refused.reason for refused in refusals} == {"rate"}
    bounded.now += 0.2
    assert len(bounded.bounds.each(bounded.rule, SeriesBatch(["m"]))[0]) == 1


names = st.sampled_from(["a", "b", "team", "type"])
values = st.text(st.sampled_from('ab"\\,{}=\n'), min_size=1, max_size=4)
events = st.builds(
    lambda metric, labels: series_text(metric, labels.items()),
    st.sampled_from(["m", "n"]),
    st.dictionaries(names, values, max_size=3),
)


@given(
    st.lists(st.lists(events, min_size=1, max_size=5), max_size=12),
    st.dictionaries(names, values, max_size=2),
)
def test_all_or_nothing(requests: list[list[str]], forced: dict[str, str]) -> None:
    """A part of a refused request would be stored or counted, or an event be stored beyond its rule."""
    bounded = Bounded(
        labels=forced, metrics=("m",), types=("a*", "*b"), series_per_day=4, events_per_second=7.0
    )
    stored: set[str] = set()
    count = 0
    for request in requests:
        bounded.now += 0.3
        before = bounded.figures()
        admitted: list[str] = []
        with suppress(Refused):
            admitted = bounded.store(*request)
        if not admitted:
            after = bounded.figures()
            assert (after[0], after[2]) == (before[0], before[2])
            assert sum(after[1].values()) == sum(before[1].values()) + len(request)
            continue
        count += len(admitted)
        stored |= set(admitted)
        for series, given_series in zip(admitted, request, strict=True):
            labels = labels_of(series)
            assert labels == labels_of(given_series) | forced
            assert series == series_text(metric_of(series), labels.items())
            assert metric_of(series) == "m"
        assert bounded.figures() == (count, before[1], len(stored))
        assert len(stored) <= 4


def test_a_count_that_is_no_longer_exact_says_so() -> None:
    """An operator would take the bound of the count for the number of values."""
    bounded = Bounded(series_per_day=1)
    with pytest.raises(Refused, match="the label 'id' has the most values, 1000 or more"):
        bounded.store(*[f'm{{id="{n}"}}' for n in range(1500)])
