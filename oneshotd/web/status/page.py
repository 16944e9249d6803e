"""What a person gets at ``/``: a status page in a browser, a few lines of text in a terminal.

`twisted.web.template` escapes whatever is shown. The page runs and loads nothing but its own
files, and its Content-Security-Policy says so. Its living part, `live`, is the same for everybody
and can be fetched alone; around it stands what depends on the address in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.template import Comment, Element, Tag, flattenString, renderer, tags

from oneshotd import __version__
from oneshotd.web.status.assets import ASSETS, template
from oneshotd.web.status.cache import Status
from oneshotd.web.status.tables import event_table, hour_table, scraper_table
from oneshotd.web.status.wording import count, spoken

#: Headers of the page and all that belongs to it (https://www.w3.org/TR/CSP3/).
HEADERS: Mapping[bytes, bytes] = {
    b"Content-Security-Policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    b"Referrer-Policy": b"no-referrer",
    b"Cross-Origin-Resource-Policy": b"same-origin",
}

HTML = b"text/html; charset=utf-8"

#: Where the living part goes in the rest.
_PLACE = b"<!--live-->"


def welcome(scheme: str, host: str, path: str = "") -> bytes:
    """The doors in plain text, with addresses that work where it is read.

    :param host: ``host[:port]``, checked by the caller.
    :param path: in front of the doors' paths, as ``/oneshotd`` behind a proxy.
    """
    url = _url(scheme, host, path)
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


class _Live(Element):
    """What changes with time."""

    loader = template("live.xml")

    def __init__(self, status: Status) -> None:
        super().__init__()
        self._status = status

    @renderer
    def live(self, request: IRequest | None, tag: Tag) -> Tag:
        """The whole, with what the script has to know."""
        return tag(**{"data-now": str(self._status.now), "data-etag": self._status.etag.decode("ascii")})

    @renderer
    def verdict(self, request: IRequest | None, tag: Tag) -> Tag:
        """One line: is everything well?"""
        status = self._status
        if status.problem is not None:
            return tag("Out of order", class_="bad")
        if status.scrapers is None or status.events is None:
            return tag("The store cannot be read now", class_="bad")
        if any(warning.bad for warning in status.warnings):
            return tag("Events were lost", class_="bad")
        if status.warnings:
            return tag("Something needs a look", class_="warn")
        if not status.live:
            return tag("Ready, and no scraper waits for events yet", class_="idle")
        waiting = sum(scraper.pending for scraper in status.live)
        if waiting:
            return tag(f"All is well; {count(waiting, 'event')} on the way", class_="good")
        return tag("All is well; every live scraper has everything", class_="good")

    @renderer
    def warnings(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """What needs a look, in words."""
        if not self._status.warnings:
            return ""
        return tag(
            [
                tags.li(warning.text, class_="bad" if warning.bad else "warn")
                for warning in self._status.warnings
            ],
            class_="warnings",
        )

    @renderer
    def covered(self, request: IRequest | None, tag: Tag) -> Tag:
        """How much the picture shows."""
        hour = self._status.hour
        if hour is None:
            return tag("The store cannot be read now.")
        if not hour.events:
            return tag("No event came in the last hour.")
        text = f"{count(hour.events, 'event')} by type; a bar is a minute."
        if hour.since > hour.start:
            text += f" Only the last {spoken((self._status.now - hour.since) / 1000)} are counted so far."
        return tag(text)

    @renderer
    def hour(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """The picture."""
        hour = self._status.hour
        return hour_table(tag, hour, self._status.now) if hour is not None and hour.counts else ""

    @renderer
    def scrapers_note(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """What the table does not say."""
        if self._status.scrapers is None:
            return tag("The store cannot be read now.")
        if not self._status.scrapers:
            return tag("No scraper has come yet. How to set one up stands below.")
        if self._status.unlisted:
            return tag(f"And {count(self._status.unlisted, 'scraper')} more, see /api/v1/scrapers.")
        return ""

    @renderer
    def scrapers(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Who reads, and how far."""
        return scraper_table(tag, self._status) if self._status.scrapers else ""

    @renderer
    def events_note(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """What the table does not say."""
        if self._status.events is None:
            return tag("The store cannot be read now.")
        return "" if self._status.events else tag("No event is held. How to send one stands below.")

    @renderer
    def events(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """The newest events, and who has them."""
        return event_table(tag, self._status) if self._status.events else ""


class _Shell(Element):
    """What does not change.

    :param host: ``host[:port]`` under which the browser knows us, checked.
    :param udp: port for datagrams, or None.
    :param path: in front of the doors' paths.
    """

    loader = template("shell.xml")

    def __init__(self, scheme: str, host: str, udp: int | None, path: str) -> None:
        super().__init__()
        self._scheme, self._host, self._udp, self._path = scheme, host, udp, path

    @renderer
    def page(self, request: IRequest | None, tag: Tag) -> Tag:
        """The whole."""
        url = _url(self._scheme, self._host, self._path)
        return tag.fillSlots(
            mark=ASSETS["mark.svg"].address,
            style=ASSETS["page.css"].address,
            script=ASSETS["page.js"].address,
            host=self._host,
            version=__version__,
            live=Comment("live"),
            curl=f'curl -X POST "{url}/event?type=deploy&version=1.2"',
            line=f'echo "type=backup&value=37.5" > /dev/udp/{_bare(self._host)}/{self._udp}',
            command=f"ONESHOTD_URL={url} \\\n  oneshot-emit --exec type=cron task=backup -- true",
            config=_config(self._scheme, self._host, self._path),
        )

    @renderer
    def datagram(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """The way by UDP, where there is one."""
        return "" if self._udp is None else tag


def _url(scheme: str, host: str, path: str) -> str:
    """A zone in it has its percent sign escaped (RFC 6874)."""
    return f"{scheme}://{host.replace('%', '%25')}{path}"


def _bare(host: str) -> str:
    """The host without its port, and IPv6 without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _config(scheme: str, host: str, path: str) -> str:
    tls = "    scheme: https\n" if scheme == "https" else ""
    below = f"    metrics_path: {path}/metrics\n" if path else ""
    port = "" if host.rpartition("]")[2].count(":") else (":443" if tls else ":80")
    return (
        "scrape_configs:\n"
        "  - job_name: oneshotd\n"
        f"{tls}{below}"
        "    scrape_interval: 15s\n"
        "    params:\n"
        "      scraper: [prometheus-a]\n"
        "      # and each limit that the job has, for instance\n"
        '      # sample_limit: ["5000"]\n'
        "    static_configs:\n"
        f'      - targets: ["{host}{port}"]\n'
    )


async def render_live(status: Status) -> bytes:
    """The living part; see `_Live` for what is shown."""
    flat: Deferred[bytes] = flattenString(None, _Live(status))
    return await flat


async def render(live: bytes, scheme: str, host: str, udp: int | None, path: str = "") -> bytes:
    """The whole page around its living part; see `_Shell` for the others."""
    flat: Deferred[bytes] = flattenString(None, _Shell(scheme, host, udp, path))
    before, _, after = (await flat).partition(_PLACE)
    return b"<!DOCTYPE html>\n" + before + live + after
