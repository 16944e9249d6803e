"""The status page as a browser takes it."""

from __future__ import annotations

from html.parser import HTMLParser

from support.web_fakes import FakeServer

BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class PageReader(HTMLParser):
    """The elements and the text of a page, as a browser takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def classes(self) -> list[str]:
        return [attributes.get("class") or "" for _, attributes in self.elements]


def read(server: FakeServer, *lines: str) -> PageReader:
    """Ask for the status page as a browser does."""
    reader = PageReader()
    reader.feed(server.ask("GET /", BROWSER, *lines).text)
    return reader
