"""Patterns with ``*``."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.patterns import matches, matches_any


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("deploy", "deploy", True),
        ("deploy", "deploys", False),
        ("deploy*", "deploy", True),
        ("*_total", "a_total", True),
        ("a*a", "a", False),
        ("a*b*b", "ab", False),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("d?ploy", "deploy", False),
        ("[a-z]", "a", False),
        ("a.b", "axb", False),
        ("*", "a\nb", True),
    ],
)
def test_a_star_and_nothing_else_is_special(pattern: str, text: str, expected: bool) -> None:
    """An operator's list would admit names that it does not have."""
    assert matches(pattern, text) is expected
    assert matches_any(["never", pattern], text) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_the_same_as_the_regular_expression(pattern: str, text: str) -> None:
    """A pattern of several stars would be matched at the wrong place."""
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert matches(pattern, text) is (re.fullmatch(expression, text, re.DOTALL) is not None)


def test_a_hostile_text_costs_little() -> None:
    """A sender's value could hold up the daemon, as it can with a regular expression."""
    assert not matches("*".join(["a"] * 50) + "b", "a" * 4096)
