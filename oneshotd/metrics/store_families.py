"""The metrics from the figures of the store: the log, and each live scraper.

Where several daemons share the store, each of them shows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)

from oneshotd import __version__
from oneshotd.store.interface import LATE, ScraperCounts, ScraperStatus, StoreStats

#: Reasons of losses (`store.interface.StoreStats.lost`).
LOSSES = ("away", "log full", "clock")

#: No figures.
NO_STATS = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})

#: Returns the counts of a scraper.
Counts = Callable[[ScraperStatus], ScraperCounts]

#: Returns the figure of a scraper; None: no sample.
_Figure = Callable[[ScraperStatus, ScraperCounts], float | None]

#: Gauges per live scraper: name, help, the figure.
_SCRAPER_GAUGES: tuple[tuple[str, str, _Figure], ...] = (
    ("pending_events", "Events not yet delivered to the scraper.", lambda status, _: status.pending),
    ("owed_events", "Pending events behind the scraper's cursor.", lambda status, _: status.owed),
    (
        "oldest_pending_timestamp_seconds",
        "Unix time of the oldest event not yet delivered to the scraper.",
        lambda status, _: None if status.oldest_at is None else status.oldest_at / 1000,
    ),
    ("last_seen_timestamp_seconds", "Unix time of the last scrape.", lambda status, _: status.seen_at / 1000),
    ("queueing_series", "Series whose events wait behind each other.", lambda _, counts: counts.queueing),
)
#: Counters per live scraper, all of events; returned and revoked events go out again.
_SCRAPER_COUNTERS: tuple[tuple[str, str, _Figure], ...] = (
    ("delivered_events", "Events whose arrival was acknowledged.", lambda _, counts: counts.delivered),
    ("returned_events", "Events sent that did not arrive.", lambda _, counts: counts.returned),
    (
        "revoked_events",
        "Events that arrived and that the scraper did not read.",
        lambda _, counts: counts.revoked,
    ),
    (
        "uncertain_events",
        "Returned or revoked events that the scraper may have read.",
        lambda _, counts: counts.uncertain,
    ),
)
#: The same, only where several daemons share the store.
_CLUSTER_COUNTERS: tuple[tuple[str, str, _Figure], ...] = (
    (
        "superseded_events",
        "Events delivered after another delivery had taken their place: they went out twice.",
        lambda _, counts: counts.superseded,
    ),
)


def live(stats: StoreStats) -> Iterator[ScraperStatus]:
    """Return the scrapers that have figures."""
    return (status for status in stats.scrapers if status.live)


def held(stats: StoreStats) -> Iterator[Metric]:
    """Yield the families of the log."""
    yield GaugeMetricFamily("oneshotd_held_events", "Events in the log.", value=stats.events)
    yield GaugeMetricFamily("oneshotd_held_bytes", "Size of the events in the log.", value=stats.size)


def lost(stats: StoreStats, more: Callable[[str], Sequence[str]] = lambda scraper: ()) -> Metric:
    """Return the family of lost events.

    :param more: returns further reasons for a scraper, which are shown at zero, too, for `increase()`.
    """
    found: dict[tuple[str, str], int] = {}
    for status in live(stats):
        found.update({(status.name, reason): 0 for reason in (*LOSSES, *more(status.name))})
        found.update({(status.name, reason): events for reason, events in status.lost.items()})
    found.update(stats.lost)
    family = CounterMetricFamily(
        "oneshotd_scraper_lost_events",
        "Events that the scraper will never get.",
        labels=["scraper", "reason"],
    )
    for key, events in found.items():
        family.add_metric(key, events)
    return family


def per_scraper(stats: StoreStats, counts: Counts, *, is_shared: bool = False) -> Iterator[Metric]:
    """Yield the families of scrapers.

    :param is_shared: several daemons share the store.
    """
    rows = [(status, counts(status)) for status in live(stats)]
    # With one daemon it takes a pause beyond the lease: most never have such a figure.
    more = is_shared or any(counted.superseded for _, counted in rows)
    counters = _SCRAPER_COUNTERS + _CLUSTER_COUNTERS if more else _SCRAPER_COUNTERS
    for kind, table in ((GaugeMetricFamily, _SCRAPER_GAUGES), (CounterMetricFamily, counters)):
        for name, text, figure in table:
            family = kind(f"oneshotd_scraper_{name}", text, labels=["scraper"])
            for status, counted in rows:
                if (number := figure(status, counted)) is not None:
                    family.add_metric([status.name], number)
            yield family


def cluster(stats: StoreStats | None) -> Iterator[Metric]:
    """Yield the families of a scrape where several daemons share the store, in order of importance.

    :param stats: None: the store did not answer. Earlier figures are not shown: another daemon may have
        shown later ones, and Prometheus takes a counter that falls for one that began at zero.
    """
    # Without the version of Python, which may differ from daemon to daemon.
    yield InfoMetricFamily("oneshotd_build", "The running version.", value={"version": __version__})
    if stats is None:
        return
    yield CounterMetricFamily("oneshotd_events_accepted", "Events stored.", value=stats.head)
    yield from held(stats)
    yield lost(stats, lambda scraper: (LATE,))
    yield from per_scraper(stats, _counted, is_shared=True)


def _counted(status: ScraperStatus) -> ScraperCounts:
    return status.counts or ScraperCounts()


#: Names of the families that are the cluster's alone where several daemons share the store.
STORE_NAMES = frozenset(
    family.name
    for family in (*held(NO_STATS), lost(NO_STATS), *per_scraper(NO_STATS, _counted, is_shared=True))
)
