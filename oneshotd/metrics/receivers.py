"""Metrics of the receivers of remote write, beside those that they have as scrapers.

The families have samples only if the daemon has receivers. All are of this daemon alone: where several share
the store, one of them sends, and the others stand by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import frozen
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

_LABELS = ("scraper",)


@frozen(kw_only=True)
class ReceiverUse:
    """What is known of one receiver.

    :param name: that of its scraper.
    :param address: its URL without query and credentials.
    :param state: in words.
    :param trouble: why the last request was not accepted; empty: it was.
    :param host: where its last connection led, see `oneshotd.core.origin`; empty: there was none.
    :param failing: seconds since the first of the requests in a row that failed; None: the last one did not.
    :param misconfigured: only a change of the configuration, here or there, can help.
    :param standing_by: another daemon sends.
    :param requests: result -> requests.
    :param markers: "accepted", "refused" or "dropped" -> stale markers.
    :param replayed: samples that were sent again after the receiver was away.
    """

    name: str
    address: str
    state: str
    trouble: str = ""
    host: str = ""
    failing: float | None = None
    misconfigured: bool = False
    standing_by: bool = False
    requests: Mapping[str, int] = {}
    markers: Mapping[str, int] = {}
    replayed: int = 0


class ReceiverMetrics:
    """Shows the receivers.

    :ivar report: returns what is known of each; callers set it.
    """

    def __init__(self) -> None:
        self.report: Callable[[], Sequence[ReceiverUse]] = tuple

    def collect(self) -> Iterator[Metric]:
        """Yield all families, also those without samples."""
        uses = self.report()
        yield _gauge(
            "accepts",
            "1 if the receiver accepted the last request, or none was sent, 0 if not.",
            {use.name: int(use.failing is None) for use in uses},
        )
        yield _gauge(
            "failing_seconds",
            "Seconds for which the receiver has accepted no request.",
            {use.name: use.failing or 0.0 for use in uses},
        )
        yield _gauge(
            "misconfigured",
            "1 if only a change of the configuration, of this daemon or of the receiver, can help.",
            {use.name: int(use.misconfigured) for use in uses},
        )
        yield _gauge(
            "standing_by",
            "1 if another daemon on the same store sends to the receiver.",
            {use.name: int(use.standing_by) for use in uses},
        )
        requests = CounterMetricFamily(
            "oneshotd_receiver_requests", "Requests to the receiver, by result.", labels=[*_LABELS, "result"]
        )
        markers = CounterMetricFamily(
            "oneshotd_receiver_stale_markers", "Stale markers, by result.", labels=[*_LABELS, "result"]
        )
        replayed = CounterMetricFamily(
            "oneshotd_receiver_replayed_samples",
            "Samples that were sent again after the receiver was away.",
            labels=_LABELS,
        )
        for use in uses:
            for result, count in use.requests.items():
                requests.add_metric([use.name, result.replace(" ", "_")], count)
            for result, count in use.markers.items():
                markers.add_metric([use.name, result], count)
            replayed.add_metric([use.name], use.replayed)
        yield from (requests, markers, replayed)


def _gauge(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"oneshotd_receiver_{name}", text, labels=_LABELS)
    for receiver, value in values.items():
        family.add_metric([receiver], value)
    return family
