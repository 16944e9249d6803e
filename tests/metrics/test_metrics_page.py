"""docs/scraping.md names every metric, its labels, and where it is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from support.telemetry import BUSY, busy_telemetry

from oneshotd.access.rule_metrics import RuleMetrics
from oneshotd.access.rules import Role, Rule
from oneshotd.access.usage import RuleUse
from oneshotd.core.identity import Visit
from oneshotd.core.look import LookReason
from oneshotd.core.scrape_limits import NO_LIMITS
from oneshotd.metrics.looks import REPORTED_LOOKS, REPORTED_SECONDS
from oneshotd.metrics.receivers import ReceiverUse
from oneshotd.metrics.registry import Telemetry
from oneshotd.metrics.reloads import FILES, ReloadState

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scraping.md"
_ROW = re.compile(r"^\| `((?:oneshotd|process)_[^`]+)` \|([^|]*)\| [^|]+ \| ([^|]+) \|$", re.MULTILINE)

#: Where a metric is with a database, in the words of the page -> at /metrics, at /metrics/daemon.
PLACES = {"`/metrics`": {True}, "`/metrics/daemon`": {False}, "both": {True, False}}


def complete() -> Telemetry:
    """Return metrics that lack none of the families."""
    telemetry = busy_telemetry()
    for number in range(REPORTED_LOOKS + 1):
        seconds = number * REPORTED_SECONDS / REPORTED_LOOKS
        telemetry.looks.looked(Visit(name="only", named=True), LookReason.BROWSER, seconds)
    for file in FILES:
        telemetry.reloads.watch(file, lambda: ReloadState(True, 1.0))
    telemetry.reloads.certificate_end = lambda: 1.0
    use_of_receiver = ReceiverUse(
        name="r", address="", state="idle", requests={"accepted": 1}, markers={"accepted": 1}
    )
    telemetry.receivers.report = lambda: [use_of_receiver]
    rule = Rule(number=1, role=Role.EMIT, series_per_day=10)
    use = RuleUse(rule=rule, accepted=1, refused=(("rate", 1),), series=1)
    telemetry.registry.register(RuleMetrics(lambda: [use]))
    return telemetry


STATS = evolve(BUSY, scrapers=tuple(evolve(status, oldest_at=1_000) for status in BUSY.scrapers))


def labels_of(bodies: Iterable[bytes]) -> dict[str, set[str]]:
    """Metric, in the words of the page -> its labels."""
    found: dict[str, set[str]] = {}
    for body in bodies:
        for family in text_string_to_metric_families(body.decode()):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            name = "process_…" if name.startswith("process_") else name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = found.get(name, set()) | labels
    return found


def test_every_metric_has_its_row() -> None:
    """A metric that nobody explains, or one that is never shown."""
    rows = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels, _ in _ROW.findall(PAGE.read_text())}
    telemetry = complete()
    alone = telemetry.render(STATS)[0]
    telemetry.is_shared = True
    shared = (telemetry.render(STATS)[0], telemetry.daemon_metrics().within(NO_LIMITS)[0])
    assert labels_of([alone, *shared]) == rows


@pytest.mark.parametrize("is_at_metrics", [True, False])
def test_it_says_where_a_metric_is_with_a_database(is_at_metrics: bool) -> None:
    """A rule or a panel would ask the wrong job."""
    rows = {name for name, _, place in _ROW.findall(PAGE.read_text()) if is_at_metrics in PLACES[place]}
    telemetry = complete()
    telemetry.is_shared = True
    body = telemetry.render(STATS)[0]
    if not is_at_metrics:
        body, _ = telemetry.daemon_metrics().within(NO_LIMITS)
    assert labels_of([body]).keys() == rows
