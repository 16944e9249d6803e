"""Features of a scraper by its User-Agent, and the timestamps it asks for.

The feature is whether a scraper stores several samples of one series from one response, with
ascending explicit timestamps. If that is unknown, the response has one sample a series: events are
counted in it or stay pending, and none is lost.
"""

from __future__ import annotations

import re
from enum import Enum

from attrs import frozen

from oneshotd.errors import Refused

_SHOWN = 80

# A product of the form that all of these have. Behind the three numbers may come a pre-release
# or what a distribution adds (3.5.3+ds1); anything else (2.45.3-gmp.5) is another vendor's build
# with its own storage.
_PRODUCT = re.compile(
    rb"([A-Za-z_-]{1,40})/v?([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})"
    rb"(?:-(?:alpha|beta|rc)\.[0-9]{1,4})?(?:[+~][0-9A-Za-z.+~]{0,40})?(?=\s|\Z)"
)

_Version = tuple[int, int, int]
_EVERY: _Version = (0, 0, 0)


@frozen
class _Row:
    """From this version of the product on, and up to the next row's."""

    product: str
    since: _Version
    several: bool


_TABLE = (
    # 2.42.0, 2.53.3 and 3.5.3 were run; older ones were not. Of all others the source was read:
    # whether `seriesAlreadyScraped` in scrape/scrape.go stops a sample that has a timestamp.
    _Row("Prometheus", (2, 42, 0), True),
    _Row("Prometheus", (2, 52, 0), False),  # prometheus#12933; the complaint is #14503
    _Row("Prometheus", (2, 53, 3), True),  # #14740
    _Row("Prometheus", (2, 54, 0), False),
    _Row("Prometheus", (2, 54, 1), True),  # #14685
    # Keeps the first sample of a series and fails the others: "inconsistent timestamps on metric
    # points" (receiver/prometheusreceiver/internal/metricfamily.go). Distributions name
    # themselves; those that call themselves Prometheus, as old ones did, give no version.
    _Row("otelcol", _EVERY, False),
    _Row("otelcol-contrib", _EVERY, False),
    # Scrape with some version of Prometheus' library, which they do not tell.
    _Row("Alloy", _EVERY, False),
    _Row("GrafanaAgent", _EVERY, False),
    # Makes a point of every line (plugins/inputs/prometheus), but what becomes of it is the
    # outputs' affair; not run.
    _Row("Telegraf", _EVERY, False),
)
# Not in the table, as their User-Agent has no version of the form above:
# - VictoriaMetrics and vmagent, `vm_promscrape` without a version. They ignore timestamps unless
#   the job sets honor_timestamps (since 1.93.0), and would store all samples at one time.
# - Datadog, `Datadog Agent/7.50.0`. It gives a gauge the time of its own check, and the last of
#   a series in it is what stays (checks/openmetrics/v2 of integrations-core).


def takes_several(user_agent: bytes | None) -> bool:
    """Return whether the scraper stores several samples of a series from one response.

    :param user_agent: the User-Agent header as received.
    """
    found = _PRODUCT.match((user_agent or b"").strip())
    if found is None:
        return False
    product = found[1].decode("ascii")
    version = (int(found[2]), int(found[3]), int(found[4]))
    several = False
    for row in _TABLE:
        if row.product == product and row.since <= version:
            several = row.several
    return several


class Timestamps(Enum):
    """Which time a sample has."""

    #: that of the scrape: samples come without one
    SCRAPE = "scrape"
    #: that of the event
    EVENT = "event"


def timestamps_mode(text: str | None) -> Timestamps | None:
    """Return the mode of ``?timestamps=``, None without the parameter.

    :raises Refused: the text is no mode.
    """
    if text is None:
        return None
    try:
        return Timestamps(text)
    except ValueError:
        raise Refused(
            f"timestamps: expected event or scrape, got {text[:_SHOWN]!a}", reason="query"
        ) from None
