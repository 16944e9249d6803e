"""Write samples as the bytes of a scrape response, in the formats of scrapers.

A family's samples must stand together under one HELP and one TYPE (text format 0.0.4,
prometheus.io/docs/instrumenting/exposition_formats; OpenMetrics 1.0,
prometheus.io/docs/specs/om/open_metrics_spec), so samples are gathered by metric name; families
and the samples in them keep the order in which they first came. A series is already written as it
is exposed (the formats escape alike), so there is nothing to escape here.

Every family is a gauge, whatever its name. A gauge expands to its own name only, so ``a``,
``a_total`` and ``a_info`` do not clash as they would beside a counter or an info ``a``; events
with names of the daemon's own families, in all their forms, are refused. OpenMetrics only advises
against such names, and a safer type there is not: Datadog drops what is of type unknown.

The `_size` functions return how many bytes `text` writes; `core/sampling/scrape_time.py` keeps responses
within their limit with them.
"""

from __future__ import annotations

from collections.abc import Iterable

from oneshotd.core.batches import CountSamples
from oneshotd.core.events import Sample, metric_of

CONTENT_TYPE_TEXT = "text/plain; version=0.0.4; charset=utf-8"

#: Without ``escaping``, whatever was asked for: Prometheus 3 goes by the media type alone
#: (`extractMediaType` in model/textparse of 3.5.0), and to those that look, no escaping means
#: names of ``[a-zA-Z0-9_:]``, which all of ours are.
CONTENT_TYPE_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: One text for every metric: what a tool reports brings no description of its own.
HELP = "One-shot metric: how many events since the last scrape, or the value that one event brought."

#: Bytes of an explicit timestamp with the space before it, in the longer of the formats, until
#: the year 2286.
STAMP_SIZE = len(" 1700000000.123")

_MILLISECONDS = tuple(f".{ms:03d}\n" for ms in range(1000))


def text(samples: Iterable[Sample]) -> bytes:
    """Return samples in the text format 0.0.4; no bytes for no samples.

    An explicit timestamp is written in milliseconds, as this format has it.
    """
    if isinstance(samples, CountSamples):
        return _counts(samples)
    families: dict[str, list[str]] = {}
    prefix, lines = "\n", [""]  # of no series
    for series, value, at in samples:
        if not series.startswith(prefix):
            prefix, lines = _family(families, series)
        lines.append(f"{series} {value}\n" if at is None else f"{series} {value} {at}\n")
    return "".join(["".join(lines) for lines in families.values()]).encode()


def openmetrics(samples: Iterable[Sample]) -> bytes:
    """Return samples in OpenMetrics 1.0.0 without ``# EOF``, which ends the daemon's own metrics behind them.

    An explicit timestamp is written in seconds with three decimals. Prometheus makes milliseconds
    of them by ``int64(seconds * 1000)``, which is exact for all times until January 2038; then,
    for twenty months, a quarter of them would come out one less.

    :param samples: the samples of a series stand together and ascend, as the format demands.
    """
    if isinstance(samples, CountSamples):
        return _counts(samples)
    families: dict[str, list[str]] = {}
    prefix, lines = "\n", [""]
    for series, value, at in samples:
        if not series.startswith(prefix):
            prefix, lines = _family(families, series)
        if at is None:
            lines.append(f"{series} {value}\n")
        else:
            lines.append(f"{series} {value} {at // 1000}{_MILLISECONDS[at % 1000]}")
    return "".join(["".join(lines) for lines in families.values()]).encode()


def _counts(samples: CountSamples) -> bytes:
    """Return samples without timestamps, which both formats write alike."""
    if not samples:
        return b""
    if samples.values.count("1") == len(samples):
        lines = " 1\n".join(samples.series) + " 1\n"
    else:
        lines = "".join([f"{series} {value}\n" for series, value, _ in samples])
    return (_head(metric_of(samples.series[0])) + lines).encode()


def _family(families: dict[str, list[str]], series: str) -> tuple[str, list[str]]:
    """What all series with labels of this one's family begin with, and the lines of that family."""
    name = metric_of(series)
    return name + "{", families.setdefault(name, [_head(name)])


def line_size(series: str, value: str, at: int | None = None) -> int:
    """Return the bytes of a sample's line, an explicit timestamp in milliseconds."""
    stamp = 0 if at is None else 1 + len(str(at))
    return _utf8_size(series) + len(value) + stamp + 2  # the space and the newline


def head_size(series: str) -> int:
    """Return the bytes of HELP and TYPE of this series' family."""
    return len(_head(metric_of(series)))


def _head(name: str) -> str:
    return f"# HELP {name} {HELP}\n# TYPE {name} gauge\n"


def _utf8_size(series: str) -> int:
    return len(series) if series.isascii() else len(series.encode())
