"""Events in a response beside others, read back by the strictest readers at hand.

Three of them: `prometheus_client`'s two parsers, and the lines that the lexers of Prometheus
(model/textparse/promlex.l and openmetricslex.l, version 2.42 as well as 3.5) take.
"""

from __future__ import annotations

import functools
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from oneshotd.core.events import (
    NewEvent,
    Pending,
    Sample,
    detail_text,
    details_of,
    metric_of,
    series_text,
)
from oneshotd.core.exposition import openmetrics, text
from oneshotd.core.negotiation import Format
from oneshotd.core.parsing.formats import Rules
from oneshotd.core.sampling.event_time import plan_event_time
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.sampling.scrape_time import plan
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import StoreStats

_telemetry = Telemetry()

#: As the daemon has them.
RULES = Rules(taken=_telemetry.reserved_names())

NOW = 1_700_000_000_123

#: What else may be in a response, before and behind the events: they must not suffer.
NEIGHBOURS = (
    NewEvent('events_to_metrics{type="neighbour"}'),
    NewEvent('neighbour{le="0.5",text="\\\\\\"\\n"}', "NaN"),
    NewEvent("neighbour_total", "-Inf"),
)

_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:\\[\\"n]|[^\\"\n])*"'
_VALUE = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-][0-9]+)?|NaN|[+-]Inf"
_LINE = re.compile(
    rf"[a-zA-Z_:][a-zA-Z0-9_:]*(?:{{{_LABEL}(?:,{_LABEL})*}})? (?:{_VALUE})(?: [0-9]+(?:\.[0-9]{{3}})?)?"
)

#: Metric names that were found not to clash with the daemon's own; only names can.
_cleared: set[str] = set()
MAX_CLEARED = 100_000

#: A sample as it is compared: NaN is equal to itself here (and -0 to 0, which the readers confuse).
Read = tuple[str, bytes, int | None]


def check(events: Sequence[NewEvent]) -> None:
    """See that a response with these events and others reads back equal.

    :raises AssertionError: it does not.
    :raises ValueError: from the strict parsers.
    """
    for event in events:
        assert detail_text(details_of(event.detail)) == event.detail
    around = [*NEIGHBOURS, *events, *NEIGHBOURS]
    pending = Pending(
        seqs=range(1, len(around) + 1),
        series=[event.series for event in around],
        values=[event.value for event in around],
        ats=range(NOW, NOW + len(around)),
        end=len(around),
    )
    names = {metric_of(event.series) for event in events} - {RULES.metric} - _cleared
    # The formats escape alike, and both modes write the same series: two ways say it all.
    scrape_time = plan(pending, Caps())
    event_time = plan_event_time(pending, Caps(), now_ms=NOW + len(around), several=True)
    _check_one(text, parse_text, Format.TEXT, scrape_time.samples, bool(names))
    _check_one(openmetrics, parse_openmetrics, Format.OPENMETRICS, event_time.samples, bool(names))
    assert len(event_time.samples) == len(around)
    assert {sample.series for sample in scrape_time.samples} == set(pending.series)
    if len(_cleared) < MAX_CLEARED:
        _cleared.update(names)


def _check_one(
    write: Callable[[Iterable[Sample]], bytes],
    parse: Callable[[str], Iterable[Metric]],
    format: Format,
    samples: Sequence[Sample],
    clashes: bool,
) -> None:
    own, own_samples = b"# EOF\n" if format is Format.OPENMETRICS else b"", 0
    if clashes:
        own, own_samples = _own(format)
    body = write(samples)
    for line in body.decode().split("\n")[:-1]:
        assert line.startswith("# ") or _LINE.fullmatch(line), line
    found = [sample for family in parse((body + own).decode()) for sample in family.samples]
    assert len(found) == len(samples) + own_samples
    # What a parser makes of its timestamps is its own affair; both write whole milliseconds.
    read = [
        (
            series_text(sample.name, sample.labels.items()),
            _bits(sample.value),
            None if sample.timestamp is None else round(float(sample.timestamp) * 1000),
        )
        for sample in found[: len(samples)]
    ]
    expected = [(sample.series, _bits(float(sample.value)), sample.at) for sample in samples]
    assert Counter(read) == Counter(expected)


def _bits(value: float) -> bytes:
    return b"NaN" if value != value else struct.pack("d", value + 0.0)


@functools.cache
def _own(format: Format) -> tuple[bytes, int]:
    return _telemetry.render(StoreStats(events=1, size=2, head=3, scrapers=(), lost={}), format)
