"""The metrics of the rules of the access file."""

from __future__ import annotations

from contextlib import suppress

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rule_metrics import MAX_SHOWN, RuleMetrics
from oneshotd.access.rules import Role, Rule
from oneshotd.core.events import NewEvent
from oneshotd.core.parsing.grammar import Rules
from oneshotd.errors import Refused
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import StoreStats

NOBODY = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})


def shown(policy: AccessPolicy, *bodies: list[str]) -> list[str]:
    """Return the samples of rules in the daemon's own metrics, after these requests under the first rule."""
    telemetry = Telemetry()
    bounds = EventBounds(access=policy, limits=Rules(), seconds=lambda: 0.0)
    telemetry.registry.register(RuleMetrics(bounds.report))
    for body in bodies:
        assert policy.rules is not None
        with (
            suppress(Refused),
            bounds.admitted(policy.rules[0], [NewEvent(series) for series in body]),
        ):
            pass
    text, _ = telemetry.render(NOBODY)
    return [line for line in text.decode().splitlines() if "oneshotd_access" in line]


def test_without_an_access_file_there_is_not_even_a_name() -> None:
    """Each scrape of each daemon would carry families that mean nothing there."""
    assert shown(AccessPolicy()) == []
    policy = AccessPolicy()
    policy.update(rules=[Rule(number=1, role=Role.LOOK, user="a")], has_users=True)
    assert shown(policy) == []


def test_refusals_and_series_of_each_rule() -> None:
    """No alert could fire before a rule refuses a sender that has ever more series."""
    policy = AccessPolicy()
    policy.update(
        rules=[
            Rule(number=1, role=Role.EMIT, user="ci", series_per_day=4),
            Rule(number=2, role=Role.SCRAPE, user="ci"),
            Rule(number=3, role=Role.EMIT, user="other"),
        ],
        has_users=True,
    )
    lines = shown(policy, ["a", "b", "c"], ["d", "e"])
    assert [line for line in lines if not line.startswith("#")] == [
        'oneshotd_access_refused_events_total{reason="forbidden",rule="1"} 0.0',
        'oneshotd_access_refused_events_total{reason="limit",rule="1"} 2.0',
        'oneshotd_access_refused_events_total{reason="rate",rule="1"} 0.0',
        'oneshotd_access_refused_events_total{reason="forbidden",rule="3"} 0.0',
        'oneshotd_access_refused_events_total{reason="limit",rule="3"} 0.0',
        'oneshotd_access_refused_events_total{reason="rate",rule="3"} 0.0',
        'oneshotd_access_series_ratio{rule="1"} 0.75',
    ]


def test_their_number_is_bounded() -> None:
    """A file of a thousand rules would add thousands of series to each scraper."""
    policy = AccessPolicy()
    rules = [Rule(number=n, role=Role.EMIT, user=f"u{n}", series_per_day=1) for n in range(1, 1001)]
    policy.update(rules=rules, has_users=True)
    samples = [line for line in shown(policy) if not line.startswith("#")]
    assert len(samples) == 4 * MAX_SHOWN
