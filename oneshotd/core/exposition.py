"""Samples -> the bytes of a scrape response, in the formats that scrapers read.

A family's samples must stand together under one HELP and one TYPE (text format 0.0.4,
prometheus.io/docs/instrumenting/exposition_formats), so samples are gathered by metric name;
families and the samples in them keep the order in which they first came. A series is already
written as it is exposed, so there is nothing to escape here.

The `_size` functions say beforehand how many bytes `text` will write; `core/sampling.py` fits a
response into its cap by them.
"""

from __future__ import annotations

from collections.abc import Iterable

from oneshotd.core.event import Sample, metric_of

CONTENT_TYPE_TEXT = "text/plain; version=0.0.4; charset=utf-8"

#: One text for every metric: what a tool reports brings no description of its own.
HELP = "One-shot metric: how many events since the last scrape, or the value that one event brought."


def text(samples: Iterable[Sample]) -> bytes:
    """Text format 0.0.4; nothing at all for no samples.

    An explicit timestamp is written in milliseconds, as this format has it.
    """
    families: dict[str, list[str]] = {}
    for series, value, at in samples:
        name = series.partition("{")[0]  # metric_of, without the call: this is the hot line
        line = f"{series} {value}\n" if at is None else f"{series} {value} {at}\n"
        lines = families.get(name)
        if lines is None:
            families[name] = [_head(name), line]
        else:
            lines.append(line)
    return "".join(["".join(lines) for lines in families.values()]).encode()


def line_size(series: str, value: str, at: int | None = None) -> int:
    """Bytes of one sample's line."""
    stamp = 0 if at is None else 1 + len(str(at))
    return _utf8_size(series) + len(value) + stamp + 2  # the space and the newline


def head_size(series: str) -> int:
    """Bytes of what stands before the first sample of this series' family."""
    return len(_head(metric_of(series)))


def _head(name: str) -> str:
    return f"# HELP {name} {HELP}\n# TYPE {name} gauge\n"


def _utf8_size(series: str) -> int:
    return len(series) if series.isascii() else len(series.encode())
