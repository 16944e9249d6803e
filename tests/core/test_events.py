"""The text of a series: it is an identity, and it is what a scraper reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from prometheus_client.parser import text_string_to_metric_families
from support.strategies import labels, metric_names

from oneshotd.core.events import (
    Event,
    Pending,
    escape,
    labels_of,
    metric_of,
    series_text,
)


@pytest.mark.parametrize(
    ("name", "pairs", "text"),
    [
        ("up_down", [], "up_down"),
        ("m", [("a", "")], "m"),
        ("m", [("b", "2"), ("a", "1")], 'm{a="1",b="2"}'),
        ("m", [("B", "2"), ("a", "1"), ("_", "0")], 'm{B="2",_="0",a="1"}'),
        ("m", [("a", 'C:\\new "dir"\n')], 'm{a="C:\\\\new \\"dir\\"\\n"}'),
        ("m", [("a", "é\r\u2028\0{},=")], 'm{a="é\r\u2028\0{},="}'),
    ],
)
def test_a_series_has_one_spelling(name: str, pairs: list[tuple[str, str]], text: str) -> None:
    assert series_text(name, pairs) == text
    assert series_text(name, reversed(pairs)) == text


def test_text_without_special_characters_is_left_alone() -> None:
    assert escape("a 'quiet' text\r\t") == "a 'quiet' text\r\t"


@given(metric_names(), labels())
def test_a_series_can_be_taken_apart_again(name: str, given_labels: dict[str, str]) -> None:
    text = series_text(name, given_labels.items())
    assert metric_of(text) == name
    assert labels_of(text) == given_labels


@given(metric_names(), labels())
def test_a_scraper_reads_the_series_as_it_was_meant(name: str, given_labels: dict[str, str]) -> None:
    [family] = text_string_to_metric_families(series_text(name, given_labels.items()) + " 1\n")
    [sample] = family.samples
    assert (sample.name, sample.labels) == (name, given_labels)


@given(labels(), labels())
def test_two_series_never_share_a_text(first: dict[str, str], second: dict[str, str]) -> None:
    same_text = series_text("m", first.items()) == series_text("m", second.items())
    assert same_text == (first == second)


def test_the_length_of_pending_is_its_number_of_events() -> None:
    assert len(Pending(seqs=(4, 7), series=("m", "m"), values=(None, "1"), ats=(1, 2))) == 2
    assert not Pending()


def test_a_text_that_no_daemon_wrote_is_read_all_the_same() -> None:
    """The page and the API failed on a rotted file."""
    assert labels_of(r'm{a="\t\\\l",b="\n"}') == {"a": "\\t\\\\l", "b": "\n"}


def test_the_rows_of_a_reservation_are_whole_events() -> None:
    """What a scraper is owed would have the time or the value of another event."""
    pending = Pending(
        seqs=[3, 7, 8], series=["a", "b", "c"], values=[None, "1", None], ats=[30, 70, 80], owed=1, cursor=6
    )
    assert pending.rows({7, 3, 99}) == [Event(3, 30, "a", None), Event(7, 70, "b", "1")]
    assert pending.rows(set()) == []
