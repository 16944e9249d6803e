"""A client's text stays on its line, wherever it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.text import escape_unprintable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("type=deploy 'é' \\", "type=deploy 'é' \\"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x00\x1b[2J\x7f", r"\x00\x1b[2J\x7f"),
        ("\xa0\u2028\u202e", r"\xa0\u2028\u202e"),
        ("\udc80", r"\udc80"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    """A client could forge a log line, or move the cursor of the operator's terminal."""
    assert escape_unprintable(text) == shown


@given(st.text())
def test_every_text_becomes_printable_utf8(text: str) -> None:
    """An answer with half a surrogate pair could not be encoded, and the request would fail."""
    shown = escape_unprintable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert escape_unprintable(shown) == shown
