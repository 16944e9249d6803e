"""What a scraper reads: if these fail, a scrape response is refused or says something else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from oneshotd.core.event import Sample, labels_of, metric_of, series_text
from oneshotd.core.exposition import CONTENT_TYPE_TEXT, HELP, head_size, line_size, text

NAMES = st.sampled_from(["events_to_metrics", "backup_seconds", "a:b", "a"])
LABEL_NAMES = st.sampled_from(["host", "type", "x", "_1"])
# A bare carriage return and the like are legal in a value, but the oracle splits lines at them.
LABEL_VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]) | st.just("\n"), max_size=6)
SERIES = st.builds(series_text, NAMES, st.dictionaries(LABEL_NAMES, LABEL_VALUES).map(dict.items))
VALUES = st.sampled_from(["1", "42", "37.5", "1e+30", "-0.25", "NaN", "+Inf", "-Inf"])
ATS = st.none() | st.integers(0, 4_102_444_800_000)
SAMPLES = st.lists(st.builds(Sample, SERIES, VALUES, ATS), unique_by=lambda sample: sample.series)


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


def test_content_type_names_the_version() -> None:
    """Prometheus 3 throws a response away whose type it does not know."""
    assert CONTENT_TYPE_TEXT == "text/plain; version=0.0.4; charset=utf-8"


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


@given(SAMPLES)
def test_a_parser_reads_back_what_was_written(samples: list[Sample]) -> None:
    """Labels, values and timestamps arrive as they were, in order; every family is a gauge."""
    families = list(text_string_to_metric_families(text(samples).decode()))
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
            assert float(got.timestamp) == pytest.approx(sent.at / 1000, abs=1e-4)


@given(SAMPLES)
def test_sizes_told_beforehand_are_the_sizes_written(samples: list[Sample]) -> None:
    """Otherwise a response grows over its cap, and over the scraper's body_size_limit."""
    heads = {metric_of(sample.series): head_size(sample.series) for sample in samples}
    assert len(text(samples)) == sum(heads.values()) + sum(line_size(*sample) for sample in samples)
