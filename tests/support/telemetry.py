"""The daemon's own metrics for tests: counts in every figure, and what a response shows of them."""

from __future__ import annotations

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families as parse_text

from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import ScraperStatus, StoreStats


def scraper(
    name: str,
    *,
    live: bool = True,
    pending: int = 0,
    owed: int = 0,
    seen_at: int = 0,
    lost: dict[str, int] | None = None,
) -> ScraperStatus:
    return ScraperStatus(
        name=name,
        live=live,
        cursor=0,
        pending=pending,
        owed=owed,
        seen_at=seen_at,
        answered=3,
        timed=True,
        lost=lost or {},
    )


def stats(*scrapers: ScraperStatus, lost: dict[tuple[str, str], int] | None = None) -> StoreStats:
    return StoreStats(events=7, size=700, head=9, scrapers=scrapers, lost=lost or {})


class Shown:
    """The metrics of a response: figures by sample name and labels."""

    def __init__(self, telemetry: Telemetry, now: StoreStats, most: int | None = None) -> None:
        limits = NO_LIMITS if most is None else ScrapeLimits(samples=most)
        self.text, self.count = telemetry.render(now, limits=limits)
        self.families: list[Metric] = list(parse_text(self.text.decode()))
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def busy_telemetry() -> Telemetry:
    """Return a `Telemetry` with a count in every figure."""
    telemetry = Telemetry()
    telemetry.accepted("udp", 3)
    telemetry.refused("syntax")
    telemetry.duplicate(2)
    telemetry.datagrams(1, 4)
    telemetry.watch_drops(lambda: 5)
    telemetry.scraped("events")
    telemetry.commit(0.004)
    for name in ("a", 'quo"te\\'):
        telemetry.delivered(name, 2, [1_000, 4_000], 5_000)
        telemetry.returned(name, 3)
        telemetry.revoked(name, 4)
        telemetry.uncertain(name, 5)
        telemetry.queueing(name, 6)
    return telemetry


BUSY = stats(
    scraper("a", pending=8, owed=2, seen_at=1_500),
    scraper('quo"te\\', lost={"away": 4}),
    lost={("gone", "log full"): 12},
)
