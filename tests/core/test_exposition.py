"""What a scraper reads: if these fail, a scrape response is refused or says something else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.strategies import metric_names, sample_values, series

from oneshotd.core.batches import CountSamples
from oneshotd.core.events import Sample, labels_of, metric_of, series_text
from oneshotd.core.exposition import (
    CONTENT_TYPE_OPENMETRICS,
    CONTENT_TYPE_TEXT,
    HELP,
    STAMP_SIZE,
    head_size,
    line_size,
    openmetrics,
    text,
)

#: Names that are parts of a family of another type, which a gauge may have all the same.
PARTS = [f"a{suffix}" for suffix in ("", "_total", "_created", "_info", "_count", "_sum", "_bucket", "_gsum")]
SERIES = series() | st.builds(
    lambda name, label: series_text(name, [(label, "0.5")]),
    st.sampled_from([*PARTS, "a_gcount"]),
    st.sampled_from(["le", "quantile", "a", "x"]),
)
#: Until 2038, as far as seconds in a float64 hold milliseconds for Prometheus.
ATS = st.integers(1_100_000_000_000, 2**31 * 1000 - 1)
#: A series comes with a timestamp each time, ascending, or once without.
TIMES = st.just([None]) | st.lists(ATS, min_size=1, max_size=3, unique=True).map(sorted)
SAMPLES = st.lists(st.tuples(SERIES, TIMES), max_size=6, unique_by=lambda pair: pair[0]).flatmap(
    lambda pairs: st.tuples(
        *(st.builds(Sample, st.just(one), sample_values(), st.just(at)) for one, ats in pairs for at in ats)
    )
)


def openmetrics_families(body: bytes) -> Iterator[Metric]:
    yield from parse_openmetrics(body.decode() + "# EOF\n")


def text_families(body: bytes) -> Iterator[Metric]:
    yield from parse_text(body.decode())


#: How a format is written, and how its strictest reader at hand reads it.
FORMATS = st.sampled_from([(text, text_families), (openmetrics, openmetrics_families)])
Format = tuple[Callable[[Iterable[Sample]], bytes], Callable[[bytes], Iterable[Metric]]]


def test_a_whole_response() -> None:
    """Families stand together under their HELP and TYPE, in order of first appearance."""
    samples = [
        Sample('b{x="1"}', "2"),
        Sample("a", "37.5"),
        Sample('b{x="ü\\n"}', "NaN", 1_700_000_000_123),
    ]
    assert text(samples).decode() == (
        f"# HELP b {HELP}\n"
        "# TYPE b gauge\n"
        'b{x="1"} 2\n'
        'b{x="ü\\n"} NaN 1700000000123\n'
        f"# HELP a {HELP}\n"
        "# TYPE a gauge\n"
        "a 37.5\n"
    )


def test_no_samples_are_no_bytes() -> None:
    """Without events the response holds the daemon's own metrics and nothing else."""
    assert text([]) == b""
    assert openmetrics([]) == b""


def test_a_whole_response_in_openmetrics() -> None:
    """Times are seconds with three decimals; the end is left to the daemon's own metrics."""
    samples = [
        Sample('b{x="1"}', "2", 1_700_000_000_000),
        Sample('b{x="1"}', "-0.25", 1_700_000_000_007),
        Sample("a", "37.5"),
        Sample('b{x="ü\\n"}', "+Inf", 1_700_000_001_120),
    ]
    assert openmetrics(samples).decode() == (
        f"# HELP b {HELP}\n"
        "# TYPE b gauge\n"
        'b{x="1"} 2 1700000000.000\n'
        'b{x="1"} -0.25 1700000000.007\n'
        'b{x="ü\\n"} +Inf 1700000001.120\n'
        f"# HELP a {HELP}\n"
        "# TYPE a gauge\n"
        "a 37.5\n"
    )


def test_content_types_name_the_version() -> None:
    """Prometheus 3 throws a response away whose type it does not know."""
    assert CONTENT_TYPE_TEXT == "text/plain; version=0.0.4; charset=utf-8"
    assert CONTENT_TYPE_OPENMETRICS == "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_help_needs_no_escaping() -> None:
    """A backslash or newline in HELP would have to be escaped, or breaks the response."""
    assert HELP.isascii() and HELP.isprintable() and "\\" not in HELP


def test_a_series_several_times_keeps_its_order() -> None:
    """With explicit timestamps descending samples of a series are dropped by scrapers."""
    samples = [Sample("a", "1", 1000), Sample("b", "5", 1500), Sample("a", "2", 2000)]
    assert [line for line in text(samples).splitlines() if line.startswith(b"a")] == [
        b"a 1 1000",
        b"a 2 2000",
    ]


@given(FORMATS, SAMPLES)
def test_a_parser_reads_back_what_was_written(format: Format, samples: tuple[Sample, ...]) -> None:
    """Labels, values and timestamps arrive as they were, in order; every family is a gauge."""
    write, read = format
    families = list(read(write(samples)))
    names = list(dict.fromkeys(metric_of(sample.series) for sample in samples))
    assert [(family.name, family.type, family.documentation) for family in families] == [
        (name, "gauge", HELP) for name in names
    ]
    expected = sorted(samples, key=lambda sample: names.index(metric_of(sample.series)))
    found = [sample for family in families for sample in family.samples]
    assert len(found) == len(expected)
    for got, sent in zip(found, expected, strict=True):
        assert (got.name, got.labels) == (metric_of(sent.series), labels_of(sent.series))
        value = float(sent.value)
        assert math.isnan(got.value) if math.isnan(value) else got.value == value
        if sent.at is None or got.timestamp is None:
            assert sent.at is got.timestamp
        else:
            assert round(float(got.timestamp) * 1000) == sent.at


@given(
    format=FORMATS,
    label=st.sampled_from(["le", "quantile", "a", "a_total"]),
    names=st.permutations(PARTS),
    values=st.permutations(["NaN", "-1", "0.5", "+Inf", "1", "-Inf", "2", "3"]),
)
def test_names_like_parts_of_another_family_are_gauges_as_well(
    format: Format, label: str, names: list[str], values: list[str]
) -> None:
    """A tool may call its metric ``a_total`` or ``a_bucket``; nobody's response breaks by it."""
    samples = [
        Sample(series_text(name, [(label, "x")]), value, 1_700_000_000_000)
        for name, value in zip(names, values, strict=True)
    ]
    write, read = format
    families = list(read(write(samples)))
    assert [(family.name, family.type, len(family.samples)) for family in families] == [
        (name, "gauge", 1) for name in names
    ]


@given(metric_names(), ATS)
def test_prometheus_reads_the_millisecond(name: str, at: int) -> None:
    """A millisecond less, and a sample is taken for its predecessor in the series, and dropped."""
    line = openmetrics([Sample(name, "1", at)]).splitlines()[-1]
    seconds = float(line.split(b" ")[-1])
    assert int(seconds * 1000) == at  # Go: int64(ts * 1000), in model/textparse/openmetricsparse.go


@given(FORMATS, SAMPLES)
def test_sizes_told_beforehand_are_not_exceeded(format: Format, samples: tuple[Sample, ...]) -> None:
    """Otherwise a response grows over its cap, and over the scraper's body_size_limit."""
    heads = sum({metric_of(sample.series): head_size(sample.series) for sample in samples}.values())
    lines = sum(line_size(series, value) + (at is not None) * STAMP_SIZE for series, value, at in samples)
    assert len(format[0](samples)) <= heads + lines


@given(SAMPLES)
def test_sizes_are_exact_for_text(samples: tuple[Sample, ...]) -> None:
    """What is kept free for nothing is missing elsewhere."""
    heads = sum({metric_of(sample.series): head_size(sample.series) for sample in samples}.values())
    assert len(text(samples)) == heads + sum(line_size(*sample) for sample in samples)


@given(st.dictionaries(st.sampled_from(["e", 'e{a="1"}', 'e{a="2"}', 'e{b="ü"}']), st.integers(1, 3)))
def test_columns_are_written_as_samples_are(counts: dict[str, int]) -> None:
    """Which way a response was made must not be seen."""
    columns = CountSamples(list(counts), list(map(str, counts.values())))
    for write in (text, openmetrics):
        assert write(columns) == write(list(columns))
