"""Sample values and durations: an accepted value is a number to every scraper."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from oneshotd.core.parsing.numbers import canonical, duration


@pytest.mark.parametrize(
    ("text", "exposed"),
    [
        ("42", "42"),
        ("+42", "42"),
        (" 42", "42"),  # value=+42 in a query string, where + is a space
        ("      12\n", "12"),  # wc -l of a BSD
        ("\t1 \r\n", "1"),
        (" nan ", "NaN"),
        ("042", "42"),
        ("-0", "-0"),
        ("0.0", "0"),
        ("37.5", "37.5"),
        ("1.", "1"),
        (".5", "0.5"),
        ("-.5e1", "-5"),
        ("1e3", "1000"),
        ("1E+3", "1000"),
        ("1e 3", "1000"),
        (" 1E 3", "1000"),
        ("1e-3", "0.001"),
        ("999999999999999", "999999999999999"),
        ("1e30", "1e+30"),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("1e-400", "0"),
        ("-1e-400", "-0"),
        ("1" * 4000 + "e-3999", "1.1111111111111112"),
        ("nan", "NaN"),
        ("NaN", "NaN"),
        ("inf", "+Inf"),
        (" Inf", "+Inf"),
        ("+INFINITY", "+Inf"),
        ("-iNf", "-Inf"),
        ("-infinity", "-Inf"),
    ],
)
def test_every_spelling_of_a_number_becomes_the_same_text(text: str, exposed: str) -> None:
    assert canonical(text) == exposed
    assert canonical(exposed) == exposed


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "+", "-", ".", "e5", "1e", "1e+", "abc", "1,5", "1_000", "0x10", "0x1p-2", "1p5",
        "+nan", "-nan", "in", "infinit", "infinityy", "\u0131nf", "\u0130nf", "\uff11", "\u0663",
        "+ 1", "- 1", "1 2", "1e  3", "1 e3", "\x0b1", "1\xa0", "--1", "1.2.3", "true", "None",
        "1\0", "\ufeff1",
    ],
)  # fmt: skip
def test_what_a_scraper_could_not_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not a number$"):
        canonical(text)


@pytest.mark.parametrize("text", ["1e400", "-1e309", "1" + "0" * 400])
def test_a_number_too_large_for_a_scraper_is_not_turned_into_infinity(text: str) -> None:
    with pytest.raises(ValueError, match="beyond the range"):
        canonical(text)


@given(st.floats())
def test_a_scraper_reads_exactly_the_number_that_was_sent(number: float) -> None:
    text = canonical(repr(number))
    [family] = text_string_to_metric_families(f"m {text}\n")
    read = family.samples[0].value
    assert read == number or (math.isnan(read) and math.isnan(number))
    # The sign of zero apart: this parser makes an int of "-0", Go's does not.
    assert text.startswith("-") == (math.copysign(1, number) < 0 and not math.isnan(number))


@given(st.text(st.sampled_from("0123456789.eE+- _xpinfaNIty"), max_size=12) | st.text())
def test_any_text_is_a_number_to_a_scraper_or_refused(text: str) -> None:
    try:
        exposed = canonical(text)
    except ValueError:
        return
    [family] = text_string_to_metric_families(f"m {exposed}\n")
    assert len(family.samples) == 1
    assert not set(exposed) - set("0123456789.e+-NaInf")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("90s", 90.0), ("5m", 300.0), ("1h", 3600.0), ("1.5h", 5400.0), ("1d", 86400.0)],
)
def test_durations_have_one_unit(text: str, seconds: float) -> None:
    """An operator's `90s` would be refused or mean something else."""
    assert duration(text) == duration(text, zero=True) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 m", "-5m", "5M", "5m30s", "nan", "inf", "1e9s", "\u0663s", "5m\n"]
)
def test_other_texts_are_no_durations(text: str) -> None:
    """A typing error would become a duration that nobody meant."""
    for zero in (False, True):
        with pytest.raises(ValueError, match=r"^expected a duration such as 500ms"):
            duration(text, zero=zero)


@pytest.mark.parametrize("text", ["0s", "0ms", "0.0h"])
def test_a_duration_of_zero_is_accepted_only_where_it_has_a_meaning(text: str) -> None:
    """`--hold 0s` would delete every event; `--retry 0s` turns retries off."""
    assert duration(text, zero=True) == 0.0
    with pytest.raises(ValueError, match=r"^expected a duration"):
        duration(text)
