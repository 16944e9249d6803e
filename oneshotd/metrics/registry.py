"""The daemon's own metrics: a registry of its own, over plain numbers.

One custom collector reads the numbers when they are asked for, so counting takes no lock and
nothing is exposed as ``_created``. Everything here belongs to the reactor's thread.

Names follow https://prometheus.io/docs/practices/naming/. Per-scraper figures exist for *live*
scrapers only: somebody's curl, once, leaves no series behind.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from statistics import median

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
from oneshotd.errors import REASONS
from oneshotd.metrics.histogram import Histogram
from oneshotd.metrics.looks import LookHistory
from oneshotd.metrics.own_metrics import OwnMetrics
from oneshotd.store.interface import ScraperStatus, StoreStats

#: The ways by which an event arrives.
SOURCES = ("http", "http_bulk", "udp")

#: How a read of /metrics ended: with events; without, as there were none; without, as another
#: delivery to this scraper was under way; a look; without, as there are too many scrapers.
SCRAPES = ("events", "empty", "busy", "look", "too_many")

#: Why a scraper missed an event (`store.interface.StoreStats.lost`).
LOSSES = ("away", "log full", "clock")

#: Upper bounds in seconds: scrape intervals and the default hold lie between them.
DELIVERY_BOUNDS = (0.1, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600)
#: Upper bounds in seconds: an NVMe disk is at the left end, a worn SD card at the right.
COMMIT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

#: Scrapers whose counters are kept at most until the next look at the census; well above the
#: 200 that there can be, so that a census from a moment ago takes nobody's counts away.
MAX_TALLIES = 1000

#: What a family's name is expanded with, over all types and both text formats.
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count", "_created", "_info", "_gsum", "_gcount")


#: Scrapes whose times are kept to tell a scraper's interval.
KEPT_VISITS = 6

#: Scrapes in so many seconds that came while a delivery to another connection of the same scraper
#: was under way: from so many on, two seem to share the identity. One that has lost its connection
#: and comes again makes one of them.
OVERLAP_SECONDS, OVERLAPS = 600.0, 3


@define
class Tally:
    """What this process counted for one scraper, in events.

    :ivar queueing: series whose events wait behind each other now.
    :ivar visits: when it last came, reactor seconds, ascending.
    :ivar overlaps: when it last came while a delivery to it was under way, reactor seconds.
    :ivar limits: the limits that its last scrape named.
    :ivar own_beyond: those of them that the own metrics are beyond, even without events.
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
        """Whether several seem to scrape under this identity.

        :param now: reactor seconds.
        """
        return len(self.overlaps) == OVERLAPS and now - self.overlaps[0] < OVERLAP_SECONDS

    @property
    def interval(self) -> float | None:
        """Seconds between two of its scrapes, as a rule; None before there were three."""
        if len(self.visits) < 3:
            return None
        return median(later - earlier for earlier, later in pairwise(self.visits))


#: None: there is nothing to show.
_Figure = Callable[[ScraperStatus, Tally], float | None]

#: Gauges per live scraper: name, help, the figure.
_SCRAPER_GAUGES: tuple[tuple[str, str, _Figure], ...] = (
    ("pending_events", "Events that it has to come.", lambda now, _: now.pending),
    ("owed_events", "Pending events behind its cursor.", lambda now, _: now.owed),
    (
        "oldest_pending_timestamp_seconds",
        "Unix time of the oldest event that it has to come.",
        lambda now, _: None if now.oldest_at is None else now.oldest_at / 1000,
    ),
    ("last_seen_timestamp_seconds", "Unix time of its last scrape.", lambda now, _: now.seen_at / 1000),
    ("queueing_series", "Series whose events wait behind each other.", lambda _, tally: tally.queueing),
)
#: Counters per live scraper, all of events; what was returned or revoked goes out again.
_SCRAPER_COUNTERS: tuple[tuple[str, str, _Figure], ...] = (
    ("delivered_events", "Events whose arrival was acknowledged.", lambda _, tally: tally.delivered),
    ("returned_events", "Events sent that did not arrive.", lambda _, tally: tally.returned),
    ("revoked_events", "Events that arrived and were thrown away unread.", lambda _, tally: tally.revoked),
    ("uncertain_events", "Returned events that may have arrived.", lambda _, tally: tally.uncertain),
)


class Telemetry:
    """Counts what happens and shows it.

    Attributes to set: `writable`, whether the store can be written; `looks` counts by itself.

    :raises KeyError: from the counting methods, for a source, reason or result that is not in
        `SOURCES`, `errors.REASONS` or `SCRAPES`: label values are closed sets.
    """

    def __init__(self) -> None:
        self.writable = True
        self.looks = LookHistory()
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(self)  # last: what may be left out comes last
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
        self._census = StoreStats(events=0, size=0, head=0, scrapers=(), lost={})

    # What comes in

    def accepted(self, source: str, n: int = 1) -> None:
        """`n` events are on disk."""
        self._accepted[source] += n

    def refused(self, reason: str, n: int = 1) -> None:
        """`n` events, lines, datagrams or requests were not taken."""
        self._refused[reason] += n

    def duplicate(self, n: int = 1) -> None:
        """`n` events were known by their key."""
        self._duplicates += n

    def datagrams(self, count: int, lines: int) -> None:
        """So many datagrams were read; `lines` of them were no blanks."""
        self._datagrams += count
        self._lines += lines

    def watch_drops(self, total: Callable[[], int | None]) -> None:
        """Ask this for the datagrams that the kernel dropped so far; None: not to be known."""
        self._drops.append(total)

    def commit(self, seconds: float) -> None:
        """A commit of the store took so long; so it can be written."""
        self.writable = True
        self._commit.observe(seconds)

    # What goes out

    def scraped(self, result: str) -> None:
        """A read of /metrics was answered; see `SCRAPES`."""
        self._scrapes[result] += 1

    def delivered(self, scraper: str, events: int, ats: Iterable[int], now_ms: int) -> None:
        """A delivery of so many events ended well.

        :param ats: when each was accepted, Unix ms, in any order.
        :param now_ms: now, on the same clock.
        """
        self._tally(scraper).delivered += events
        self._delivery.observe_all((now_ms - at) / 1000 for at in ats)

    def returned(self, scraper: str, events: int) -> None:
        """A delivery of so many events did not arrive."""
        self._tally(scraper).returned += events

    def revoked(self, scraper: str, events: int) -> None:
        """A delivery of so many events arrived and was thrown away."""
        self._tally(scraper).revoked += events

    def uncertain(self, scraper: str, events: int) -> None:
        """Nobody can say whether a delivery of so many events arrived."""
        self._tally(scraper).uncertain += events

    def visited(self, scraper: str, now: float) -> None:
        """It came to scrape.

        :param now: reactor seconds.
        """
        tally = self._tally(scraper)
        tally.visits = (*tally.visits, now)[-KEPT_VISITS:]

    def overlapped(self, scraper: str, now: float) -> None:
        """It came to scrape while a delivery to another connection was under way.

        :param now: reactor seconds.
        """
        tally = self._tally(scraper)
        tally.overlaps = (*tally.overlaps, now)[-OVERLAPS:]

    def tally(self, scraper: str) -> Tally:
        """What was counted for this scraper since the start; to read only."""
        return self._tallies.get(scraper) or Tally()

    def queueing(self, scraper: str, series: int) -> None:
        """In so many series events wait behind each other for this scraper, now."""
        self._tally(scraper).queueing = series

    def limited(self, scraper: str, limits: tuple[str, ...], own_beyond: tuple[str, ...]) -> None:
        """Its scrape named these limits; `own_beyond`: those that the own metrics are beyond."""
        tally = self._tally(scraper)
        tally.limits, tally.own_beyond = limits, own_beyond

    def forget(self, scraper: str) -> None:
        """Drop what was counted for this scraper, if anything was."""
        self._tallies.pop(scraper, None)

    # What is shown

    def own_metrics(self, census: StoreStats, format: Format = Format.TEXT) -> OwnMetrics:
        """The own metrics in a format, as of this census.

        Their order: what is of the daemon as a whole, then histograms, then what is per scraper.
        """
        self._census = census
        if len(self._tallies) > MAX_TALLIES:
            for scraper in self._tallies.keys() - {status.name for status in census.scrapers}:
                self.forget(scraper)
        return OwnMetrics(self.registry, format)

    def render(
        self, census: StoreStats, format: Format = Format.TEXT, limits: ScrapeLimits = NO_LIMITS
    ) -> tuple[bytes, int]:
        """The own metrics within limits, and how many samples they are (`OwnMetrics.within`)."""
        return self.own_metrics(census, format).within(limits)

    def reserved_names(self) -> frozenset[str]:
        """Every metric name that an event may not have.

        All forms of all families, whatever their type: a gauge ``process_cpu_seconds_total``
        beside the process collector breaks a strict parser for the whole response.
        """
        return frozenset(family.name + suffix for family in self.registry.collect() for suffix in SUFFIXES)

    def describe(self) -> list[Metric]:
        """Nothing to register under: the registry calls this instead of `collect`."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families, also those that have no samples yet; what may be left out comes last."""
        yield InfoMetricFamily(
            "oneshotd_build",
            "The running version.",
            value={"version": __version__, "python": ".".join(platform.python_version_tuple()[:2])},
        )
        yield GaugeMetricFamily(
            "oneshotd_store_writable", "1 if events can be stored, 0 if not.", value=int(self.writable)
        )
        yield _counts("oneshotd_events_accepted", "Events stored, by source.", "source", self._accepted)
        yield _counts(
            "oneshotd_refused",
            "Events, lines, datagrams and requests that were refused, by reason.",
            "reason",
            self._refused,
        )
        yield CounterMetricFamily(
            "oneshotd_events_duplicate",
            "Events that were known by their idempotency key.",
            value=self._duplicates,
        )
        log = self._census
        yield GaugeMetricFamily("oneshotd_held_events", "Events in the log.", value=log.events)
        yield GaugeMetricFamily("oneshotd_held_bytes", "Size of the events in the log.", value=log.size)
        yield CounterMetricFamily("oneshotd_udp_datagrams", "Datagrams read.", value=self._datagrams)
        yield CounterMetricFamily("oneshotd_udp_lines", "Lines in datagrams.", value=self._lines)
        yield self._kernel_drops()
        yield _counts("oneshotd_scrapes", "Reads of /metrics, by what came of them.", "result", self._scrapes)
        yield HistogramMetricFamily(
            "oneshotd_delivery_seconds",
            "From the acceptance of an event to its delivery, over all scrapers.",
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
            "oneshotd_udp_kernel_drops", "Datagrams dropped by the kernel unread.", labels=[]
        )
        totals = [total() for total in self._drops]
        known = [total for total in totals if total is not None]
        if len(known) == len(totals):  # no figure at all rather than one that is too low
            family.add_metric([], sum(known))
        return family

    def _lost(self) -> Metric:
        lost: dict[tuple[str, str], int] = {}
        for status in self._live():
            limits = self.tally(status.name).limits  # also at zero, for `increase()`
            lost.update({(status.name, reason): 0 for reason in (*LOSSES, *limits)})
            lost.update({(status.name, reason): events for reason, events in status.lost.items()})
        lost.update(self._census.lost)
        family = CounterMetricFamily(
            "oneshotd_scraper_lost_events", "Events that it will never get.", labels=["scraper", "reason"]
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
        return (status for status in self._census.scrapers if status.live)

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
