"""The texts beside an event on the status page: shown and not obeyed, bounded, and few of them are links."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.page_reader import BROWSER, read
from support.status_examples import seen
from support.web_fakes import FakeServer

from oneshotd.query import EventsPage
from oneshotd.web.status.details import MAX_DETAILS, MAX_TEXT, is_link


def showing(details: dict[str, str]) -> FakeServer:
    """A server with an event that has these details, and one that has none."""
    server = FakeServer()
    server.queries.page = EventsPage(events=(evolve(seen(7, 4), detail=details), seen(6, 5)), next=None)
    return server


def test_an_events_details_are_shown_in_its_row() -> None:
    page = read(showing({"text": "first line\nsecond line", "by": "ana"}))
    assert [tag for tag, _ in page.elements].count("details") == 1
    assert "2 details" in page.text
    assert "first line\nsecond line" in page.text and "ana" in page.text


def test_markup_in_details_is_shown_and_not_obeyed() -> None:
    bad = '<script>alert("1")</script><a href="https://example.com">&amp;\'x'
    page = read(showing({"text": bad, "link": f"https://example.com/{bad}"}))
    assert page.text.count(bad) == 2
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 1
    assert not [attributes for tag, attributes in page.elements if (attributes.get("href") or "") == bad]
    assert not [a for tag, a in page.elements if tag == "a" and (a.get("href") or "").startswith("https")]


def test_what_is_invisible_or_turns_text_around_is_spelled_out() -> None:
    page = read(showing({"text": "\u202egnp.\x00\x1b[31m\r\u2028"}))
    assert "\\u202egnp.\\x00\\x1b[31m\\r\\u2028" in page.text


@pytest.mark.parametrize(
    "link",
    [
        "https://example.com/",
        "http://localhost:8090/a?b=c&d=%20#e",
        "HTTPS://ci.example/build/1;x=(y)",
        "https://[2001:db8::1]/",
    ],
)
def test_the_address_of_a_page_is_a_link(link: str) -> None:
    """It opens a page of its own, which gets neither this one's window nor its address."""
    [made] = [a for tag, a in read(showing({"link": link})).elements if a.get("href") == link]
    assert (made["rel"], made["target"]) == ("noopener noreferrer", "_blank")
    assert is_link(link)


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)//https://example.com",
        "data:text/html,<script>alert(1)</script>",
        "ftp://example.com/",
        "file:///etc/passwd",
        "//example.com/",
        "https:example.com",
        "https://",
        "https:///path",
        "https://[::1",
        "https://exam ple.com/",
        "see https://example.com/",
        "https://example.com/ and more",
        "https://example.com/\n",
        "https://example.com\\@other.example/",
        'https://example.com/"onclick="alert(1)',
        "https://exampl\u0435.com/",
        "https://example.com/\u202e",
        "https://example.com/" + "x" * 1000,
        "",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert not is_link(text)
    assert not [a for tag, a in read(showing({"link": text or " "})).elements if a.get("href") == text]


def test_long_details_are_cut_and_many_are_counted() -> None:
    page = read(showing({"text": "x" * 4000}))
    assert "x" * (MAX_TEXT - 1) + "…" in page.text and "x" * MAX_TEXT not in page.text
    page = read(showing({f"key{n:02}": "y" for n in range(MAX_DETAILS + 3)}))
    assert page.text.count("key") == MAX_DETAILS
    assert "and 3 details more" in page.text
    page = read(showing({"a": "x" * MAX_TEXT, "b": "not shown", "c": "neither"}))
    assert "and 2 details more" in page.text and "not shown" not in page.text


def test_the_page_is_bounded_whatever_the_details_are() -> None:
    """A page of many megabytes would take the browser down."""
    server = FakeServer()
    details = {f"n{n}": "<" * 1000 for n in range(4)}
    events = tuple(evolve(seen(n, 1), detail=details) for n in range(1000, 0, -1))
    server.queries.page = EventsPage(events=events, next=None)
    assert len(server.ask("GET /", BROWSER).body) < 250_000
