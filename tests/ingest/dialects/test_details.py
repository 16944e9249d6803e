"""Details are cut to their limit: an event is not refused because of a long text beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.events import details_of
from oneshotd.core.parsing.details import MAX_DETAIL_BYTES
from oneshotd.core.parsing.grammar import Rules, event
from oneshotd.ingest.dialects.details import fitted

LONG = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda text: text * 300)


def stored(details: dict[str, str], **options: list[str]) -> dict[str, str]:
    """Return what the grammar makes of fitted details."""
    return details_of(event([("type", "x"), *fitted(details, **options)], Rules()).detail)


def test_short_texts_stay_and_empty_ones_are_left_out() -> None:
    assert stored({"text": "a\r\nb", "time": "", "end": "now"}) == {"text": "a\nb", "end": "now"}
    assert stored({}) == {}


def test_the_longest_text_is_cut_and_the_others_stay() -> None:
    found = stored({"text": "x" * 10_000, "time": "2026-11-22T22:15:00Z"})
    assert found["time"] == "2026-11-22T22:15:00Z"
    assert found["text"].startswith("xxx")
    assert found["text"].endswith("x…")
    assert MAX_DETAIL_BYTES - 100 < len(found["text"].encode()) <= MAX_DETAIL_BYTES


def test_the_end_of_a_jobs_output_is_kept() -> None:
    """What a job says last is why it has failed."""
    found = stored({"text": "begin" + "x" * 10_000 + "disk full"}, keep_end=["text"])
    assert found["text"].startswith("…x")
    assert found["text"].endswith("xdisk full")


@pytest.mark.parametrize(
    "text", ["\x1b" * 5000, '"' * 5000, "é" * 5000, "\U0001f600" * 5000, "a\x00é" * 2000]
)
@pytest.mark.parametrize("keep_end", [[], ["text"]])
def test_what_takes_more_room_as_json_is_cut_more(text: str, keep_end: list[str]) -> None:
    found = stored({"text": text, "other": text}, keep_end=keep_end)
    assert found["text"].strip("…") in text
    assert len(found["text"]) > 300


@given(st.dictionaries(st.sampled_from(["text", "time", "link", "env"]), LONG))
def test_any_texts_fit(details: dict[str, str]) -> None:
    assert stored(details).keys() <= details.keys()


@pytest.mark.parametrize("char", ["x", '"', "\x01", "\x7f", "é", "\u2029", "\U0001f600"])
def test_around_the_limit_the_grammar_takes_what_was_fitted(char: str) -> None:
    """A text that just seems to fit would be refused."""
    for length in [*range(660, 690), *range(1010, 1030), *range(4060, 4100)]:
        assert stored({"a": char * length, "time": "now"})["time"] == "now"
