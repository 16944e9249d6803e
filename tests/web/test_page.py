"""What a person sees at ``/``."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from attrs import evolve
from web_fakes import House

from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import ScraperStatus

BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PROMETHEUS = ScraperStatus(
    name="192.0.2.7 Prometheus",
    live=True,
    cursor=100,
    pending=7,
    owed=2,
    seen_at=1_700_000_000_000,
    answered=4321,
    timed=True,
)


class _Reader(HTMLParser):
    """The elements and the text of a page, as a browser takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(house: House) -> _Reader:
    reader = _Reader()
    reader.feed(house.ask("GET /", BROWSER).text)
    return reader


def test_a_terminal_gets_ten_lines_with_addresses_that_work_from_there() -> None:
    answer = House().ask("GET /", "Host: metrics.example:9999", "Accept: */*")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Vary"] == "Accept"
    assert len(answer.text.splitlines()) <= 10
    for door in ("/event?", "/events", "/metrics?scraper=NAME", "/healthz", "/readyz"):
        assert f"http://metrics.example:9999{door}" in answer.text


def test_a_browser_gets_the_scrapers_and_how_far_they_are() -> None:
    house = House()
    house.store.scrapers = (PROMETHEUS, evolve(PROMETHEUS, name="visitor", live=False, lost={"away": 12}))
    page = read(house)
    for shown in (
        "192.0.2.7 Prometheus",
        "live",
        "visitor",
        "4,321",
        "12",
        "2023-11-14 22:13:20 UTC",
        "Ready.",
        "1,234 events held, 98,765 bytes.",
    ):
        assert shown in page.words


def test_only_missed_events_are_marked() -> None:
    house = House()
    house.store.scrapers = (evolve(PROMETHEUS, pending=3, lost={}),)
    assert all("bad" not in (attributes.get("class") or "") for _, attributes in read(house).elements)
    house.store.scrapers = (evolve(PROMETHEUS, pending=3, lost={"away": 3}),)
    marked = [tag for tag, attributes in read(house).elements if "bad" in (attributes.get("class") or "")]
    assert marked == ["td"]


def test_before_the_first_scrape_the_page_says_that_there_was_none() -> None:
    assert "No scraper has come yet." in read(House()).words


def test_a_name_with_markup_in_it_is_shown_and_not_obeyed() -> None:
    name = '<script>alert("1")</script>&amp;'
    house = House()
    house.store.scrapers = (evolve(PROMETHEUS, name=name),)
    page = read(house)
    assert "script" not in [tag for tag, _ in page.elements]
    assert name in "".join(page.words)


def test_the_page_allows_its_own_style_and_nothing_else() -> None:
    """A hash that is not the style's leaves the page bare; anything wider lets others in."""
    answer = House().ask("GET /", BROWSER)
    style = re.search(r"<style>(.*)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.text.startswith("<!DOCTYPE html>\n")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


def test_the_page_comes_even_if_the_store_is_in_trouble() -> None:
    """That is when somebody looks at it."""
    house = House()
    house.store.fault = StoreUnavailable("no space left")
    words = read(house).words
    assert "Not ready: store: no space left" in words
    assert "The store cannot be read now." in words


def test_a_head_request_gets_the_pages_length() -> None:
    house = House()
    whole, head = house.ask("GET /", BROWSER), house.ask("HEAD /", BROWSER)
    assert head.body == b""
    assert head.headers["Content-Length"] == str(len(whole.body))
