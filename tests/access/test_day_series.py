"""The different series of a day, and the label that has the most values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.access.day_series import MAX_NAMES, MAX_VALUES, STEP, STEPS, DaySeries

DAY = STEP * STEPS


def texts(label: str, numbers: range, rest: str = "") -> list[str]:
    return [f'm{{{label}="{n}"{rest}}}' for n in numbers]


def test_a_series_counts_once_in_24_hours() -> None:
    """A tool that reports the same event each minute would use up its series."""
    series = DaySeries(most=2)
    for minute in range(0, 3 * 1440, 7):
        now = minute * 60.0
        assert series.has_room(["a", "b", "a"], now)
        series.note(["a", "b"], now)
        assert series.count(now) == 2
        assert not series.has_room(["a", "c"], now)


def test_a_series_is_free_again_after_24_hours() -> None:
    """A sender that had too many series once would be refused until the daemon is restarted."""
    series = DaySeries(most=1)
    series.note(["a"], 100.0)
    assert not series.has_room(["b"], 100.0 + DAY - 1)
    assert series.has_room(["b"], 100.0 + DAY + STEP)
    series.note(["b"], 100.0 + DAY + STEP)
    assert series.count(100.0 + DAY + STEP) == 1


@given(
    st.lists(
        st.tuples(st.floats(0, 20_000), st.lists(st.integers(0, 12), min_size=1, max_size=6)), max_size=60
    ),
    st.integers(1, 8),
)
def test_never_more_series_than_allowed(calls: list[tuple[float, list[int]]], most: int) -> None:
    """The limit would not hold, or refuse series that are allowed."""
    series = DaySeries(most=most)
    now = 1e6
    last: dict[str, float] = {}
    for pause, numbers in calls:
        now += pause
        wanted = {f'm{{a="{n}"}}' for n in numbers}
        young = {text for text, at in last.items() if now - at < DAY}
        kept = {text for text, at in last.items() if now - at < DAY + STEP}
        room = series.has_room(wanted, now)
        assert room or len(kept | wanted) > most
        assert not room or len(young | wanted) <= most
        if room:
            series.note(wanted, now)
            last.update(dict.fromkeys(wanted, now))
            assert series.count(now) <= most


def test_the_label_with_the_most_values_is_named() -> None:
    """An operator would not know which label of which tool explodes."""
    series = DaySeries(most=1000)
    series.note(texts("id", range(50), ',zone="a"'), 0.0)
    series.note(texts("path", range(20)), 0.0)
    assert series.widest([]) == ("id", 50)
    assert series.widest(texts("path", range(10, 70))) == ("path", 70)
    assert series.widest(['m{id="x"}']) == ("id", 51)
    assert DaySeries(most=1).widest(texts("request", range(20))) == ("request", 20)
    assert DaySeries(most=1).widest([f"m{n}" for n in range(20)]) == ("__name__", 20)


def test_old_values_are_not_counted() -> None:
    """The refusal would name a label that was mended yesterday."""
    series = DaySeries(most=1000)
    series.note(texts("id", range(50)), 0.0)
    series.note(texts("path", range(3)), DAY)
    assert series.widest([]) == ("id", 50)
    series.note([], DAY + STEP)
    assert series.widest([]) == ("path", 3)


def test_memory_is_bounded_by_names_and_values() -> None:
    """A sender that invents names of labels could fill the daemon's memory."""
    series = DaySeries(most=100_000)
    series.note(texts("id", range(3 * MAX_VALUES), ',path="x"'), 0.0)
    series.note(texts("path", range(2 * MAX_VALUES), ',id="7"'), 0.0)
    assert series.widest([]) == ("id", 3 * MAX_VALUES)
    series.note([f'm{{label{n}="x"}}' for n in range(3 * MAX_NAMES)], 0.0)
    assert len(series._labels) == MAX_NAMES
    assert max(len(values.kept) for values in series._labels.values()) == MAX_VALUES


@pytest.mark.parametrize("most", [1, 1000])
def test_a_large_request_beyond_the_limit_costs_little(most: int) -> None:
    """A body of 10,000 new series could hold up the daemon just by being refused."""
    series = DaySeries(most=most)
    body = texts("id", range(10_000))
    assert not series.has_room(body, 0.0)
    name, values = series.widest(body)
    assert name == "id"
    assert most < values or values == 1000
    assert series.count(0.0) == 0
