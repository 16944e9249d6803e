"""The histogram behind the daemon's durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.metrics.histogram import Histogram

seconds = st.floats(min_value=-5, max_value=100, allow_nan=False)


@pytest.mark.parametrize(
    ("observed", "cumulative"),
    [
        ([], [0, 0, 0]),
        ([0.5], [1, 1, 1]),
        ([1], [1, 1, 1]),  # a bound belongs to its bucket, as `le` says
        ([1.001], [0, 1, 1]),
        ([3, 3], [0, 0, 2]),
        ([-1], [1, 1, 1]),
    ],
)
def test_each_duration_is_in_the_buckets_that_its_bound_says(
    observed: list[float], cumulative: list[int]
) -> None:
    histogram = Histogram((1, 2))
    for each in observed:
        histogram.observe(each)
    assert histogram.buckets() == list(zip(["1.0", "2.0", "+Inf"], cumulative, strict=True))


@given(st.lists(seconds), st.lists(seconds))
def test_many_at_once_count_as_one_by_one(first: list[float], second: list[float]) -> None:
    """Otherwise the delivery histogram is wrong for every scrape with more than one event."""
    singly, together = Histogram((0.1, 1, 10)), Histogram((0.1, 1, 10))
    for each in first + second:
        singly.observe(each)
    together.observe_all(first)
    together.observe_all(second)
    assert together.buckets() == singly.buckets()
    assert together.sum == pytest.approx(singly.sum)


@given(seconds, st.integers(min_value=0, max_value=50))
def test_n_at_once_are_n(duration: float, n: int) -> None:
    once, often = Histogram((0.1, 1, 10)), Histogram((0.1, 1, 10))
    once.observe(duration, n)
    for _ in range(n):
        often.observe(duration)
    assert once.buckets() == often.buckets()
    assert once.sum == pytest.approx(often.sum)


def test_a_clock_that_was_set_back_does_not_make_the_sum_fall() -> None:
    """A falling sum is a counter reset to Prometheus, and a wrong average."""
    histogram = Histogram((1,))
    histogram.observe(-3)
    histogram.observe_all([-2, 0.5])
    assert histogram.sum == 0.5


@pytest.mark.parametrize("bounds", [(), (1, 1), (2, 1)])
def test_bounds_that_do_not_ascend_are_a_mistake(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="bounds: expected ascending"):
        Histogram(bounds)
