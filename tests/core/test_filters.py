"""What somebody asks for is what is found, whatever stands in the labels."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import label_names, labels, metric_names, texts

from oneshotd.core.events import labels_of, metric_of, series_text
from oneshotd.core.filters import METRIC, Selection


def expected(series: str, where: Mapping[str, str]) -> bool:
    """The same rule, by taking the series apart."""
    found = labels_of(series)
    return all(
        metric_of(series) == value if name == METRIC else found.get(name, "") == value
        for name, value in where.items()
    )


FEW_NAMES = st.sampled_from(["a", "b", "ab", "type", "subtype"]) | label_names()
FEW_VALUES = st.sampled_from(["", "x", 'x"', "x\\", '",a="x', ',a="x"', "\n"]) | texts(max_size=4)
FEW_VALUES |= st.sampled_from([",type=", "type=", ",a=", ',b="x'])
LABELS = st.dictionaries(FEW_NAMES, FEW_VALUES, max_size=4)
WHERE = st.dictionaries(FEW_NAMES | st.just(METRIC), FEW_VALUES, max_size=3)


@given(st.sampled_from(["m", "x", "mm"]) | metric_names(), LABELS, WHERE)
def test_a_series_is_found_if_its_labels_say_so(
    name: str, pairs: dict[str, str], where: dict[str, str]
) -> None:
    """A text within a label would be taken for another label."""
    series = series_text(name, pairs.items())
    assert Selection(where=where).series_test()(series) is expected(series, where)


@given(metric_names(), labels(), st.data())
def test_a_series_is_found_by_any_part_of_itself(
    name: str, pairs: dict[str, str], data: st.DataObject
) -> None:
    parts = {**pairs, METRIC: name, "absent_label": ""}
    where = {key: parts[key] for key in data.draw(st.sets(st.sampled_from(sorted(parts))))}
    if "absent_label" not in pairs:
        assert Selection(where=where).series_test()(series_text(name, pairs.items()))


@pytest.mark.parametrize(
    ("since", "until", "wanted"),
    [
        (None, None, [1, 2, 3, 4]),
        (2, None, [2, 3, 4]),
        (None, 3, [1, 2]),
        (2, 4, [2, 3]),
        (3, 3, []),
        (4, 1, []),
    ],
)
def test_spans_of_time_that_follow_each_other_share_nothing(
    since: int | None, until: int | None, wanted: list[int]
) -> None:
    """A client that reads hour by hour would get the event at the boundary twice, or never."""
    selection = Selection(since=since, until=until)
    assert [at for at in range(1, 5) if selection.in_time(at)] == wanted


@pytest.mark.parametrize(
    ("members", "every", "some"),
    [
        ([("tags", "a")], True, True),
        ([("tags", "b,c")], False, False),
        ([("tags", "a"), ("env", "prod")], True, True),
        ([("tags", "a"), ("env", "dev")], False, True),
        ([("tags", "x"), ("env", "dev")], False, False),
        ([("env", "pro")], False, False),
        ([("tags", 'say "c"')], True, True),
        ([("text", "a,b")], True, True),
        ([("absent", "a")], False, False),
    ],
)
def test_members_of_labels(members: list[tuple[str, str]], every: bool, some: bool) -> None:
    """A chart would show the marks of other services."""
    series = series_text("m", {"tags": 'a,b,say "c"', "env": "prod", "text": "a,b"}.items())
    assert Selection(members=members).series_test()(series) is every
    assert Selection(members=members, any_member=True).series_test()(series) is some
    assert not Selection(members=members, where={"env": "dev"}).series_test()(series)
    assert not Selection(members=members, where={METRIC: "x"}, any_member=True).series_test()(series)
