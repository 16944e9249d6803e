"""A scraper's own limits, in the words of its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.events import labels_of, metric_of, series_text
from oneshotd.core.scrape_limits import NO_LIMITS, PARAMETERS, ScrapeLimits, scrape_limits
from oneshotd.errors import Refused

READ: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {}),
    ({"scraper": "ann", "timestamps": "event"}, {}),
    ({"limit": "7"}, {"samples": 7}),
    ({"sample_limit": "007"}, {"samples": 7}),
    ({"sample_limit": "9", "limit": "8"}, {"samples": 8}),
    ({"sample_limit": "0", "limit": "8"}, {"samples": 8}),
    ({"sample_limit": "999999999"}, {"samples": 999_999_999}),
    # 0 is no limit in every scrape configuration.
    (dict.fromkeys(PARAMETERS, "0"), {}),
    ({"label_limit": "3"}, {"labels": 3}),
    ({"label_limit": "30", "extra_labels": "2"}, {"labels": 30, "extra_labels": 2}),
    ({"extra_labels": "2"}, {}),
    ({"label_name_length_limit": "8"}, {"name_length": 8}),
    ({"label_value_length_limit": "1"}, {"value_length": 1}),
    # Prometheus takes a body that is smaller than its limit, and KB is KiB there.
    ({"body_size_limit": "1000B"}, {"body": 999}),
    ({"body_size_limit": "1000"}, {"body": 999}),
    ({"body_size_limit": "1KB"}, {"body": 1023}),
    ({"body_size_limit": "1KiB"}, {"body": 1023}),
    ({"body_size_limit": "1.5KB"}, {"body": 1535}),
    ({"body_size_limit": "10MB"}, {"body": 10 * 2**20 - 1}),
    ({"body_size_limit": "1MB512KB"}, {"body": 3 * 2**19 - 1}),
    ({"body_size_limit": "2GB"}, {"body": 2**31 - 1}),
    # VictoriaMetrics takes a body as large as its limit, and KB is 1000 bytes there.
    ({"max_scrape_size": "1000"}, {"body": 1000, "body_name": "max_scrape_size"}),
    ({"max_scrape_size": "1KB"}, {"body": 1000, "body_name": "max_scrape_size"}),
    ({"max_scrape_size": "1.5KiB"}, {"body": 1536, "body_name": "max_scrape_size"}),
    ({"max_scrape_size": "16MB", "body_size_limit": "1MB"}, {"body": 2**20 - 1}),
    ({"max_scrape_size": "1MB", "body_size_limit": "1MB"}, {"body": 10**6, "body_name": "max_scrape_size"}),
]


@pytest.mark.parametrize(("asked", "limits"), READ)
def test_numbers_and_units_are_those_of_the_scrape_configuration(
    asked: dict[str, str], limits: dict[str, Any]
) -> None:
    """A limit that is read larger than the scraper means loses a whole response."""
    found = scrape_limits(asked)
    assert found == ScrapeLimits(**limits)
    assert (found is NO_LIMITS) == (limits == {})


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1e3", " 1", "1\n", "1_0", "٣", "9" * 5000, "1 KB", "KB", "1KBs", ".", "1.B."]
)
def test_what_is_no_limit_is_refused(name: str, text: str) -> None:
    """A typing error in a limit is said, and not taken for "no limit"."""
    with pytest.raises(Refused, match=f"^{name}: expected ") as caught:
        scrape_limits({name: text})
    assert (caught.value.reason, caught.value.status) == ("query", 400)
    assert len(caught.value.text) < 200 and caught.value.text.isprintable()


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"label_limit": "2"}, "label_limit: expected at least 3, for __name__, job and instance, got '2'"),
        (
            {"label_limit": "4", "extra_labels": "2"},
            "label_limit: expected at least 5, for __name__, job and instance and the extra_labels, got '4'",
        ),
        (
            {"label_name_length_limit": "7"},
            "label_name_length_limit: expected at least 8, for __name__ and instance, got '7'",
        ),
        (
            {"body_size_limit": "255B"},
            "body_size_limit: expected at least 256 bytes, for one sample with its HELP and TYPE, got '255B'",
        ),
        (
            {"max_scrape_size": "1B"},
            "max_scrape_size: expected at least 256 bytes, for one sample with its HELP and TYPE, got '1B'",
        ),
    ],
)
def test_a_limit_that_no_series_can_keep_is_refused(asked: dict[str, str], text: str) -> None:
    """The scrape fails with a reason; else every single event would be lost for this scraper."""
    with pytest.raises(Refused) as caught:
        scrape_limits(asked)
    assert caught.value.text == text


#: Limits, labels, and the limit that they are beyond. The metric is "m".
LABELS: list[tuple[dict[str, Any], dict[str, str], str | None]] = [
    ({"labels": 3}, {}, None),
    ({"labels": 4}, {"a": "x"}, None),
    ({"labels": 3}, {"a": "x"}, "label_limit"),
    ({"labels": 4, "extra_labels": 1}, {"a": "x"}, "label_limit"),
    ({"labels": 4}, {"a": '="'}, None),
    ({"labels": 4}, {"a": "x="}, None),
    ({"name_length": 8}, {"a" * 8: "x"}, None),
    ({"name_length": 8}, {"a" * 9: "x"}, "label_name_length_limit"),
    ({"name_length": 12}, {"job": "x"}, None),
    ({"name_length": 11}, {"job": "x"}, "label_name_length_limit"),
    ({"name_length": 16}, {"instance": "x"}, "label_name_length_limit"),
    ({"name_length": 20}, {"job": "x", "exported_job": "y"}, "label_name_length_limit"),
    ({"name_length": 21}, {"job": "x", "exported_job": "y"}, None),
    ({"value_length": 4}, {"a": "ö" * 2}, None),
    ({"value_length": 3}, {"a": "ö" * 2}, "label_value_length_limit"),
    ({"value_length": 4}, {"a": '\n"\\='}, None),
    ({"value_length": 3}, {"a": '\n"\\='}, "label_value_length_limit"),
    ({"labels": 3, "name_length": 8, "value_length": 1}, {"a" * 9: "xx"}, "label_limit"),
    ({"labels": 4, "name_length": 8, "value_length": 1}, {"a" * 9: "xx"}, "label_name_length_limit"),
]


@pytest.mark.parametrize(("limits", "labels", "fault"), LABELS)
def test_a_series_as_the_scraper_will_have_it(
    limits: dict[str, Any], labels: dict[str, str], fault: str | None
) -> None:
    """`__name__`, job and instance count; job and instance of an event get another name."""
    assert ScrapeLimits(**limits).label_fault("m", labels) == fault
    assert ScrapeLimits(**limits).series_fault(series_text("m", labels.items())) == fault


def test_the_metrics_name_is_a_value_as_well() -> None:
    assert ScrapeLimits(value_length=3).series_fault("abcd") == "label_value_length_limit"
    assert ScrapeLimits(value_length=4).series_fault("abcd") is None


TEXTS = st.text('ab="\\\n,{}ö', max_size=6)
NAMES = st.sampled_from(["a", "bb", "ccc", "job", "instance", "exported_job", "long_label_name"])


@given(
    labels=st.dictionaries(NAMES, TEXTS.filter(bool), max_size=4),
    limits=st.builds(
        ScrapeLimits,
        labels=st.none() | st.integers(3, 8),
        name_length=st.none() | st.integers(8, 24),
        value_length=st.none() | st.integers(1, 12),
        extra_labels=st.integers(0, 2),
    ),
)
def test_the_quick_look_at_a_series_finds_the_same(labels: Mapping[str, str], limits: ScrapeLimits) -> None:
    """It only spares taking the text apart where it is short enough as a whole."""
    series = series_text("m", labels.items())
    assert limits.series_fault(series) == limits.label_fault(metric_of(series), labels_of(series))


def test_what_is_left_of_no_limits_is_no_limits() -> None:
    assert NO_LIMITS.less(5, 500) is NO_LIMITS.half() is NO_LIMITS
    limits = ScrapeLimits(samples=5, body=500, labels=9)
    assert limits.less(2, 200) == ScrapeLimits(samples=3, body=300, labels=9)
    assert limits.less(7, 700) == ScrapeLimits(samples=0, body=0, labels=9)
    assert limits.half() == ScrapeLimits(samples=2, body=250, labels=9)
    assert limits.names == ("sample_limit", "body_size_limit", "label_limit")
