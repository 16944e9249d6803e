"""The daemon's own metrics: one registry of its own, over plain numbers.

One custom collector reads the numbers when a response is rendered, so counting takes no lock and no
``_created`` samples are exposed. All of it belongs to the reactor's thread.

Names follow https://prometheus.io/docs/practices/naming/. Figures per scraper are shown for *live*
scrapers only: a single request of a curl leaves no series behind.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import define
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from oneshotd import __version__
from oneshotd.core.negotiation import Format
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits
from oneshotd.core.visits import KEPT_VISITS, OVERLAPS, interval, is_shared
from oneshotd.errors import REASONS
from oneshotd.metrics.histogram import Histogram
from oneshotd.metrics.looks import LookHistory
from oneshotd.metrics.own_metrics import OwnMetrics
from oneshotd.metrics.reloads import ReloadMetrics
from oneshotd.store.interface import ScraperStatus, StoreStats

#: The ways by which an event arrives.
SOURCES = ("http", "http_bulk", "udp")

#: How a request for /metrics was answered: with events; without, because none were pending; without,
#: because another delivery to this scraper was in flight; as a look; without, because too many scrapers
#: are known.
SCRAPES = ("events", "empty", "busy", "look", "too_many")

#: Reasons of losses (`store.interface.StoreStats.lost`).
LOSSES = ("away", "log full", "clock")

#: Upper bounds in seconds; the range covers scrape intervals and the default hold.
DELIVERY_BOUNDS = (0.1, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600)
#: Upper bounds in seconds, from an NVMe disk to a worn SD card.
COMMIT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

#: Scrapers whose counters are kept before those of unknown scrapers are deleted. Well above the limit of
#: 200 known scrapers, so that slightly old store figures delete no counters of a known one.
MAX_TALLIES = 1000

#: Suffixes of a family's name, over all types and both text formats.
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count", "_created", "_info", "_gsum", "_gcount")


@define
class Tally:
    """The counts of this process for one scraper, in events.

    :ivar queueing: series whose events wait behind each other now.
    :ivar visits: times of its last scrapes, reactor seconds, ascending.
    :ivar overlaps: times of its last scrapes during another delivery, reactor seconds.
    :ivar limits: the limits that its last scrape named.
    :ivar own_beyond: the limits among them that the own metrics exceed, even without events.
    """

    delivered: int = 0
    returned: int = 0
    revoked: int = 0
    uncertain: int = 0
    queueing: int = 0
    visits: tuple[float, ...] = ()
    overlaps: tuple[float, ...] = ()
    limits: tuple[str, ...] = ()
    own_beyond: tuple[str, ...] = ()

    def is_shared(self, now: float) -> bool:
        """Whether several scrapers seem to use this identity.

        :param now: reactor seconds.
        """
        return is_shared(self.overlaps, now)

    @property
    def interval(self) -> float | None:
        """Return the median of the seconds between its scrapes; None before the third."""
        return interval(self.visits)


#: Returns the figure of a scraper; None: no sample.
_Figure = Callable[[ScraperStatus, Tally], float | None]

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
    ("queueing_series", "Series whose events wait behind each other.", lambda _, tally: tally.queueing),
)
#: Counters per live scraper, all of events; returned and revoked events go out again.
_SCRAPER_COUNTERS: tuple[tuple[str, str, _Figure], ...] = (
    ("delivered_events", "Events whose arrival was acknowledged.", lambda _, tally: tally.delivered),
    ("returned_events", "Events sent that did not arrive.", lambda _, tally: tally.returned),
    (
        "revoked_events",
        "Events that arrived and that the scraper did not read.",
        lambda _, tally: tally.revoked,
    ),
    (
        "uncertain_events",
        "Returned or revoked events that the scraper may have read.",
        lambda _, tally: tally.uncertain,
    ),
)


class Telemetry:
    """Counts events, requests and deliveries, and shows the counts as metrics.

    :ivar writable: whether the store can be written; callers set it.
    :ivar looks: callers report looks and scrapes to it directly.
    :ivar reloads: callers report to it which files are read again.

    :raises KeyError: from the counting methods, for a source, reason or result that is not in
        `SOURCES`, `errors.REASONS` or `SCRAPES`: label values are closed sets.
    """

    def __init__(self) -> None:
        self.writable = True
        self.looks = LookHistory()
        self.reloads = ReloadMetrics()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(self)  # last, because the last families are left out first
        self._accepted = dict.fromkeys(SOURCES, 0)
        self._refused = dict.fromkeys(REASONS, 0)
        self._scrapes = dict.fromkeys(SCRAPES, 0)
        self._duplicates = 0
        self._datagrams = 0
        self._lines = 0
        self._drops: list[Callable[[], int | None]] = []
        self._delivery = Histogram(DELIVERY_BOUNDS)
        self._commit = Histogram(COMMIT_BOUNDS)
        self._tallies: dict[str, Tally] = {}
        self._stats = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})

    # Ingest

    def accepted(self, source: str, n: int = 1) -> None:
        """Count `n` events that are on disk."""
        self._accepted[source] += n

    def refused(self, reason: str, n: int = 1) -> None:
        """Count `n` events, lines, datagrams or requests that were refused."""
        self._refused[reason] += n

    def duplicate(self, n: int = 1) -> None:
        """Count `n` events whose key was known."""
        self._duplicates += n

    def datagrams(self, count: int, lines: int) -> None:
        """Count datagrams, and the lines in them that were not blank."""
        self._datagrams += count
        self._lines += lines

    def watch_drops(self, total: Callable[[], int | None]) -> None:
        """Add a socket whose kernel drops are shown.

        :param total: returns the datagrams that the kernel dropped so far; None: not known.
        """
        self._drops.append(total)

    def commit(self, seconds: float) -> None:
        """Count a commit of the store by its duration; the store is writable."""
        self.writable = True
        self._commit.observe(seconds)

    # Delivery

    def scraped(self, result: str) -> None:
        """Count an answered request for /metrics; see `SCRAPES`."""
        self._scrapes[result] += 1

    def delivered(self, scraper: str, events: int, ats: Iterable[int], now_ms: int) -> None:
        """Count the events of a delivery that arrived, and their latencies.

        :param ats: the acceptance time of each event, Unix ms, in any order.
        :param now_ms: now, on the same clock.
        """
        self._tally(scraper).delivered += events
        self._delivery.observe_all((now_ms - at) / 1000 for at in ats)

    def returned(self, scraper: str, events: int) -> None:
        """Count the events of a delivery that did not arrive."""
        self._tally(scraper).returned += events

    def revoked(self, scraper: str, events: int) -> None:
        """Count the events of a delivery that arrived and was not read."""
        self._tally(scraper).revoked += events

    def uncertain(self, scraper: str, events: int) -> None:
        """Count the events of a delivery that the scraper may or may not have read."""
        self._tally(scraper).uncertain += events

    def visited(self, scraper: str, now: float) -> None:
        """Note the time of a scrape.

        :param now: reactor seconds.
        """
        tally = self._tally(scraper)
        tally.visits = (*tally.visits, now)[-KEPT_VISITS:]

    def overlapped(self, scraper: str, now: float) -> None:
        """Note the time of a scrape that arrived while a delivery to another connection was in flight.

        :param now: reactor seconds.
        """
        tally = self._tally(scraper)
        tally.overlaps = (*tally.overlaps, now)[-OVERLAPS:]

    def tally(self, scraper: str) -> Tally:
        """Return the counts of this scraper since the start; read-only."""
        return self._tallies.get(scraper) or Tally()

    def queueing(self, scraper: str, series: int) -> None:
        """Note the number of series whose events wait behind each other for this scraper."""
        self._tally(scraper).queueing = series

    def limited(self, scraper: str, limits: tuple[str, ...], own_beyond: tuple[str, ...]) -> None:
        """Note the limits that its scrape named; `own_beyond`: those that the own metrics exceed."""
        tally = self._tally(scraper)
        tally.limits, tally.own_beyond = limits, own_beyond

    def forget(self, scraper: str) -> None:
        """Delete the counts of this scraper."""
        self._tallies.pop(scraper, None)

    # Exposition

    def own_metrics(self, stats: StoreStats, format: Format = Format.TEXT) -> OwnMetrics:
        """Return the own metrics in a format, with these figures of the store.

        Their order: families of the whole daemon, then histograms, then families per scraper.
        """
        self._stats = stats
        if len(self._tallies) > MAX_TALLIES:
            for scraper in self._tallies.keys() - {status.name for status in stats.scrapers}:
                self.forget(scraper)
        return OwnMetrics(self.registry, format)

    def render(
        self, stats: StoreStats, format: Format = Format.TEXT, limits: ScrapeLimits = NO_LIMITS
    ) -> tuple[bytes, int]:
        """Return the own metrics within limits, and the number of their samples (`OwnMetrics.within`)."""
        return self.own_metrics(stats, format).within(limits)

    def reserved_names(self) -> frozenset[str]:
        """Return every metric name that an event may not have.

        All names with all suffixes, whatever the type of the family: a gauge ``process_cpu_seconds_total``
        beside the process collector breaks a strict parser for the whole response.
        """
        return frozenset(family.name + suffix for family in self.registry.collect() for suffix in SUFFIXES)

    def describe(self) -> list[Metric]:
        """Return no families: the registry calls this instead of `collect` when it registers names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all families, also those without samples, in order of importance."""
        yield InfoMetricFamily(
            "oneshotd_build",
            "The running version.",
            value={"version": __version__, "python": ".".join(platform.python_version_tuple()[:2])},
        )
        yield GaugeMetricFamily(
            "oneshotd_store_writable", "1 if events can be stored, 0 if not.", value=int(self.writable)
        )
        yield from self.reloads.collect()
        yield _counts("oneshotd_events_accepted", "Events stored, by source.", "source", self._accepted)
        yield _counts(
            "oneshotd_refused",
            "Refused events, lines, datagrams and requests, by reason.",
            "reason",
            self._refused,
        )
        yield CounterMetricFamily(
            "oneshotd_events_duplicate",
            "Events whose idempotency key was known already.",
            value=self._duplicates,
        )
        log = self._stats
        yield GaugeMetricFamily("oneshotd_held_events", "Events in the log.", value=log.events)
        yield GaugeMetricFamily("oneshotd_held_bytes", "Size of the events in the log.", value=log.size)
        yield CounterMetricFamily("oneshotd_udp_datagrams", "Datagrams read.", value=self._datagrams)
        yield CounterMetricFamily("oneshotd_udp_lines", "Lines in datagrams.", value=self._lines)
        yield self._kernel_drops()
        yield _counts("oneshotd_scrapes", "Requests for /metrics, by result.", "result", self._scrapes)
        yield HistogramMetricFamily(
            "oneshotd_delivery_seconds",
            "Seconds from the acceptance of an event to its delivery, over all scrapers.",
            buckets=self._delivery.buckets(),
            sum_value=self._delivery.sum,
        )
        yield HistogramMetricFamily(
            "oneshotd_commit_seconds",
            "Duration of the store's commits.",
            buckets=self._commit.buckets(),
            sum_value=self._commit.sum,
        )
        yield self._lost()
        yield self.looks.collect()
        yield from self._per_scraper()

    def _kernel_drops(self) -> Metric:
        family = CounterMetricFamily(
            "oneshotd_udp_kernel_drops", "Datagrams that the kernel dropped before they were read.", labels=[]
        )
        totals = [total() for total in self._drops]
        known = [total for total in totals if total is not None]
        if len(known) == len(totals):  # a sum without one of the sockets would be too low
            family.add_metric([], sum(known))
        return family

    def _lost(self) -> Metric:
        lost: dict[tuple[str, str], int] = {}
        for status in self._live():
            limits = self.tally(status.name).limits  # also at zero, for `increase()`
            lost.update({(status.name, reason): 0 for reason in (*LOSSES, *limits)})
            lost.update({(status.name, reason): events for reason, events in status.lost.items()})
        lost.update(self._stats.lost)
        family = CounterMetricFamily(
            "oneshotd_scraper_lost_events",
            "Events that the scraper will never get.",
            labels=["scraper", "reason"],
        )
        for key, events in lost.items():
            family.add_metric(key, events)
        return family

    def _per_scraper(self) -> Iterator[Metric]:
        live = [(status, self.tally(status.name)) for status in self._live()]
        tables = ((GaugeMetricFamily, _SCRAPER_GAUGES), (CounterMetricFamily, _SCRAPER_COUNTERS))
        for kind, table in tables:
            for name, text, figure in table:
                family = kind(f"oneshotd_scraper_{name}", text, labels=["scraper"])
                for status, tally in live:
                    if (number := figure(status, tally)) is not None:
                        family.add_metric([status.name], number)
                yield family

    def _live(self) -> Iterator[ScraperStatus]:
        return (status for status in self._stats.scrapers if status.live)

    def _tally(self, scraper: str) -> Tally:
        tally = self._tallies.get(scraper)
        if tally is None:
            tally = self._tallies[scraper] = Tally()
        return tally


def _counts(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    """A counter family with one label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
