"""A client's text stays on its line, wherever it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshotd.core.text import escape_unprintable, without_secrets


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


SECRET = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"GET /ping/{SECRET}/start?rid=1 HTTP/1.1", "GET /ping/… HTTP/1.1"),
        (f"GET /p/{SECRET}/job?state=run", "GET /p/…"),
        (f"GET http://host/ping/{SECRET} HTTP/1.1", "GET http://host/ping/… HTTP/1.1"),
        (f"GET //ping//{SECRET}", "GET //ping/…"),
        (f"GET /%70%69n%67%2F{SECRET} HTTP/1.1", "GET /%70%69n%67%2F… HTTP/1.1"),
        (f"GET %2f%70/{SECRET}/a", "GET %2f%70/…"),
        (
            f'"GET /ping/{SECRET} HTTP/1.1" 200 2 "http://chat/ping/{SECRET}" "curl"',
            '"GET /ping/… HTTP/1.1" 200 2 "http://chat/ping/…" "curl"',
        ),
        (f'GET /ping/"{SECRET} HTTP/1.1', "GET /ping/… HTTP/1.1"),
        ("GET /ping/ HTTP/1.1", "GET /ping/ HTTP/1.1"),
        ("POST /event?type=ping&path=100%25 HTTP/1.1", "POST /event?type=ping&path=100%25 HTTP/1.1"),
        ("GET /api/v1/events?type=p HTTP/1.1", "GET /api/v1/events?type=p HTTP/1.1"),
        ("GET /hook/shipping HTTP/1.1", "GET /hook/shipping HTTP/1.1"),
    ],
)
def test_the_url_of_a_ping_is_not_logged(line: str, shown: str) -> None:
    """Who reads the log could send pings."""
    assert without_secrets(line) == shown
