"""What a person gets at ``/``: a status page in a browser, a few lines of text in a terminal.

Nothing here is written as HTML by hand: `twisted.web.template` escapes whatever is shown. The
page holds no script and loads nothing, and its Content-Security-Policy says so: only the one
style sheet below applies, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.template import Element, Tag, TagLoader, flattenString, renderer, tags

from oneshotd.store.interface import Census, ScraperStatus

# No & < > in here: they would be escaped, and the hash would be of another text.
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1f24;background:#fff}"
    "table{border-collapse:collapse}caption{text-align:left;font-weight:600;padding:1rem 0 .25rem}"
    "th,td{text-align:left;padding:.25rem 1rem .25rem 0;border-bottom:1px solid #d0d7de}"
    ".number{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#a40e26}"
    "@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}"
    "th,td{border-color:#30363d}.bad{color:#ff7b72}}"
)

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")

#: Headers with which the page is answered (https://www.w3.org/TR/CSP3/).
HEADERS: Mapping[bytes, bytes] = {
    b"Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ).encode("ascii"),
    b"Referrer-Policy": b"no-referrer",
}

HTML = b"text/html; charset=utf-8"

_COLUMNS = ("scraper", "kind", "to come", "owed", "scrapes", "missed", "last seen")


def welcome(scheme: str, host: str) -> bytes:
    """The doors in plain text, with addresses that work where it is read.

    :param host: ``host[:port]``, checked by the caller.
    """
    url = f"{scheme}://{host}"
    return (
        "oneshotd: an event goes in once and comes out once to each scraper.\n"
        "\n"
        f'one event     curl -X POST "{url}/event?type=deploy&version=1.2"\n'
        f'many          curl --data-binary @events.txt "{url}/events"\n'
        f'scrape        curl "{url}/metrics?scraper=NAME"\n'
        f'just look     curl -I "{url}/metrics?scraper=NAME"\n'
        f"status page   {url}/ in a browser\n"
        f"health        {url}/healthz and {url}/readyz\n"
        "\n"
        "Lines of the form type=deploy&version=1.2 are taken by UDP, too.\n"
    ).encode()


class StatusPage(Element):
    """The log and its scrapers.

    :param census: None where the store could not be asked.
    :param problem: why the daemon is not ready, or None.
    """

    def __init__(self, census: Census | None, problem: str | None) -> None:
        self._census = census
        self._problem = problem
        title = "oneshotd"
        super().__init__(
            TagLoader(
                tags.html(
                    tags.head(
                        tags.meta(charset="utf-8"),
                        tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
                        tags.title(title),
                        tags.style(_STYLE),
                    ),
                    tags.body(
                        tags.h1(title),
                        tags.p(render="state"),
                        tags.p(render="log"),
                        tags.table(render="scrapers"),
                    ),
                    lang="en",
                )
            )
        )

    @renderer
    def state(self, request: IRequest | None, tag: Tag) -> Tag:
        """Whether it can take events and answer scrapes."""
        if self._problem is None:
            return tag("Ready.")
        return tag(f"Not ready: {self._problem}", class_="bad")

    @renderer
    def log(self, request: IRequest | None, tag: Tag) -> Tag:
        """What is held."""
        if self._census is None:
            return tag("The store cannot be read now.", class_="bad")
        return tag(f"{self._census.events:,} events held, {self._census.size:,} bytes.")

    @renderer
    def scrapers(self, request: IRequest | None, tag: Tag) -> Tag:
        """Who reads, and how far."""
        if self._census is None:
            return tags.p()
        if not self._census.scrapers:
            return tags.p("No scraper has come yet.")
        head = tags.tr(*(tags.th(column, scope="col") for column in _COLUMNS))
        rows = [tags.tr(*_cells(status)) for status in self._census.scrapers]
        return tag(tags.caption("Scrapers"), tags.thead(head), tags.tbody(*rows))


def _cells(status: ScraperStatus) -> Iterator[Tag]:
    yield tags.th(status.name, scope="row")
    yield tags.td("live" if status.live else "visitor")
    for number in (status.pending, status.owed, status.answered):
        yield tags.td(f"{number:,}", class_="number")
    missed = sum(status.lost.values())
    yield tags.td(f"{missed:,}", class_="number bad" if missed else "number")
    yield tags.td(datetime.fromtimestamp(status.seen_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))


async def render(census: Census | None, problem: str | None) -> bytes:
    """The whole page; see `StatusPage` for what is shown."""
    flat: Deferred[bytes] = flattenString(None, StatusPage(census, problem))
    return b"<!DOCTYPE html>\n" + await flat
