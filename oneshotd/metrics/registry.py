"""The daemon's own metrics: one registry of its own, over plain numbers.

One custom collector reads the numbers when a response is rendered, so counting takes no lock and no
``_created`` samples are exposed. All of it belongs to the reactor's thread.

=====================  ================================  ==========================================
request                a store of this daemon alone      a store that several daemons share
=====================  ================================  ==========================================
``/metrics``           all families                      the figures of the store (`store_families`)
``/metrics/daemon``    all but the figures of the store  all but the figures of the store
=====================  ================================  ==========================================

Names follow https://prometheus.io/docs/practices/naming/. Figures per scraper are shown for *live*
scrapers only: a single request of a curl leaves no series behind.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

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
from oneshotd.core.origin import Origin
from oneshotd.core.scrape_limits import NO_LIMITS, ScrapeLimits
from oneshotd.core.visits import OVERLAPS
from oneshotd.core.way import Way
from oneshotd.errors import REASONS, Refused
from oneshotd.metrics import store_families
from oneshotd.metrics.doors import Doors
from oneshotd.metrics.histogram import Histogram
from oneshotd.metrics.looks import LookHistory
from oneshotd.metrics.own_metrics import OwnMetrics
from oneshotd.metrics.receivers import ReceiverMetrics
from oneshotd.metrics.reloads import ReloadMetrics
from oneshotd.metrics.tally import Tally
from oneshotd.store.abilities import ConnectionCounts
from oneshotd.store.interface import StoreStats

#: How a request for /metrics was answered: with events; without, because none were pending; without,
#: because another delivery to this scraper was in flight; as a look; without, because too many scrapers
#: are known.
SCRAPES = ("events", "empty", "busy", "look", "too_many")

#: Upper bounds in seconds; the range covers scrape intervals and the default hold.
DELIVERY_BOUNDS = (0.1, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600)
#: Upper bounds in seconds, from an NVMe disk to a worn SD card.
COMMIT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

#: Scrapers whose counters are kept before those of unknown scrapers are deleted. Well above the limit of
#: 200 known scrapers, so that slightly old store figures delete no counters of a known one.
MAX_TALLIES = 1000

#: Suffixes of a family's name, over all types and both text formats.
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count", "_created", "_info", "_gsum", "_gcount")


class Telemetry:
    """Counts events, requests and deliveries, and shows the counts as metrics.

    :param is_shared: several daemons share the store, and a scrape may reach any of them.
    :ivar writable: whether the store can be written; callers set it.
    :ivar database: returns the counts of the connections to a database; None: there is none.
    :ivar hooks: returns the names of the hooks that exist; the counter of a hook that has gone stays.
    :ivar doors: callers report to it which hooks there are, and what a door refuses.
    :ivar looks: callers report looks and scrapes to it directly.
    :ivar receivers: callers report to it which receivers there are.
    :ivar reloads: callers report to it which files are read again.

    :raises KeyError: from the counting methods, for a source, reason or result that is not in
        `doors.SOURCES`, `errors.REASONS` or `SCRAPES`: label values are closed sets.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        self.is_shared = is_shared
        self.writable = True
        self.database: Callable[[], ConnectionCounts] | None = None
        self.doors = Doors()
        self.looks = LookHistory()
        self.receivers = ReceiverMetrics()
        self.reloads = ReloadMetrics()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(self)  # last, because the last families are left out first
        self._refused = dict.fromkeys(REASONS, 0)
        self._scrapes = dict.fromkeys(SCRAPES, 0)
        self._duplicates = 0
        self._datagrams = 0
        self._lines = 0
        self._drops: list[Callable[[], int | None]] = []
        self._delivery = Histogram(DELIVERY_BOUNDS)
        self._commit = Histogram(COMMIT_BOUNDS)
        self._tallies: dict[str, Tally] = {}
        self._superseded = 0
        self._stats = store_families.NO_STATS

    # Ingest

    def accepted(self, source: str, n: int = 1) -> None:
        """Count `n` events that are on disk."""
        self.doors.accept(source, n)

    def refused(self, reason: str, n: int = 1) -> None:
        """Count `n` events, lines, datagrams or requests that were refused."""
        self._refused[reason] += n

    def refused_request(self, refused: Refused, path: bytes) -> None:
        """Count a request that was refused.

        :param path: without its query.
        """
        self.refused(refused.reason)
        self.doors.refuse_path(path, refused.text)

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
        known = list(ats)
        self._tally(scraper).delivered_to(events, known, now_ms)
        self._delivery.observe_all((now_ms - at) / 1000 for at in known)

    def returned(self, scraper: str, events: int) -> None:
        """Count the events of a delivery that did not arrive."""
        self._tally(scraper).returned += events

    def revoked(self, scraper: str, events: int) -> None:
        """Count the events of a delivery that arrived and was not read."""
        self._tally(scraper).revoked += events

    def uncertain(self, scraper: str, events: int) -> None:
        """Count the events of a delivery that the scraper may or may not have read."""
        self._tally(scraper).uncertain += events

    def superseded(self, scraper: str, events: int) -> None:
        """Count a delivery, and its events, whose end came too late to be recorded."""
        self._superseded += 1
        self._tally(scraper).superseded += events

    def forget_pace(self, scraper: str) -> None:
        """Forget when this scraper came: it has been at other daemons since."""
        tally = self._tally(scraper)
        tally.visits = tally.overlaps = ()

    def visited(self, scraper: str, now: float, origin: Origin | None = None) -> None:
        """Note the time of a scrape, in reactor seconds, and where it came from."""
        self._tally(scraper).visited(now, origin)

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

    def responded(self, scraper: str, way: Way, limits: tuple[str, ...], beyond: tuple[str, ...]) -> None:
        """Note the limits that its scrape named; `beyond`: those that the own metrics exceed."""
        tally = self._tally(scraper)
        tally.way, tally.limits, tally.own_beyond = way, limits, beyond

    def forget(self, scraper: str) -> None:
        """Delete the counts of this scraper."""
        self._tallies.pop(scraper, None)

    # Exposition

    def own_metrics(self, stats: StoreStats | None, format: Format = Format.TEXT) -> OwnMetrics:
        """Return the metrics of a scrape in a format, with these figures of the store.

        Their order: families of the whole daemon, then histograms, then families per scraper.

        :param stats: None: the store did not answer.
        """
        if self.is_shared:
            return OwnMetrics(store_families.cluster(stats), format)
        if stats is not None:
            self._forget_unknown(stats)
            self._stats = stats
        return OwnMetrics(self.registry.collect(), format)

    def daemon_metrics(self, format: Format = Format.TEXT) -> OwnMetrics:
        """Return the metrics of this daemon in a format, without the figures of the store."""
        families = (each for each in self.registry.collect() if each.name not in store_families.STORE_NAMES)
        return OwnMetrics(families, format)

    def _forget_unknown(self, stats: StoreStats) -> None:
        if len(self._tallies) > MAX_TALLIES:
            for scraper in self._tallies.keys() - {status.name for status in stats.scrapers}:
                self.forget(scraper)

    def render(
        self, stats: StoreStats | None, format: Format = Format.TEXT, limits: ScrapeLimits = NO_LIMITS
    ) -> tuple[bytes, int]:
        """Return the own metrics within limits, and the number of their samples (`OwnMetrics.within`)."""
        return self.own_metrics(stats, format).within(limits)

    def reserved_names(self) -> frozenset[str]:
        """Return every metric name that an event may not have.

        All names with all suffixes, whatever the type of the family: a gauge ``process_cpu_seconds_total``
        beside the process collector breaks a strict parser for the whole response.
        """
        shared = (*store_families.cluster(store_families.NO_STATS), *self._of_shared_store())
        families = (*self.registry.collect(), *shared)
        return frozenset(family.name + suffix for family in families for suffix in SUFFIXES)

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
        accepted = self.doors.accepted()
        yield _counts("oneshotd_events_accepted", "Events stored, by source.", "source", accepted)
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
        yield from store_families.held(self._stats)
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
        yield store_families.lost(self._stats, lambda scraper: self.tally(scraper).limits)
        yield self.looks.collect()
        yield from self.receivers.collect()
        # Whether a scraper seems to be shared is no metric, so any time will do.
        yield from store_families.per_scraper(self._stats, lambda status: self.tally(status.name).counts(0.0))
        if self.is_shared:
            yield from self._of_shared_store()

    def _kernel_drops(self) -> Metric:
        family = CounterMetricFamily(
            "oneshotd_udp_kernel_drops", "Datagrams that the kernel dropped before they were read.", labels=[]
        )
        totals = [total() for total in self._drops]
        known = [total for total in totals if total is not None]
        if len(known) == len(totals):  # a sum without one of the sockets would be too low
            family.add_metric([], sum(known))
        return family

    def _of_shared_store(self) -> Iterator[Metric]:
        counts = ConnectionCounts() if self.database is None else self.database()
        yield CounterMetricFamily(
            "oneshotd_database_reconnects",
            "Connections to the database that were opened again.",
            value=counts.reconnects,
        )
        yield CounterMetricFamily(
            "oneshotd_database_commits_in_doubt",
            "Commits whose outcome was not known at first.",
            value=counts.in_doubt,
        )
        yield CounterMetricFamily(
            "oneshotd_superseded_deliveries",
            "Deliveries whose end came after their lease, when another daemon had the scraper.",
            value=self._superseded,
        )

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
