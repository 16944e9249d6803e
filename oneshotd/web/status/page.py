"""Renders ``/``: the status page for browsers, a few lines of text for other clients.

`twisted.web.template` escapes all text. The Content-Security-Policy allows the page's own files only.
The part of the page that changes, `live`, does not depend on the request and can be fetched alone;
the rest depends on the address in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.template import Comment, Element, Tag, flattenString, renderer, tags

from oneshotd import __version__
from oneshotd.web.status.assets import ASSETS, template
from oneshotd.web.status.cache import Status
from oneshotd.web.status.rules_table import rules_table
from oneshotd.web.status.tables import event_table, hour_table, scraper_table
from oneshotd.web.status.wording import count, spoken

#: Headers of the page and of its files (https://www.w3.org/TR/CSP3/).
HEADERS: Mapping[bytes, bytes] = {
    b"Content-Security-Policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    b"Referrer-Policy": b"no-referrer",
    b"Cross-Origin-Resource-Policy": b"same-origin",
}

HTML = b"text/html; charset=utf-8"

#: The place of the changing part in the rest.
_PLACE = b"<!--live-->"


def welcome(scheme: str, host: str, path: str = "") -> bytes:
    """Return the endpoints in plain text, with addresses that work for the client.

    :param host: ``host[:port]``, checked by the caller.
    :param path: prefix of all paths, as ``/oneshotd`` behind a proxy.
    """
    url = _url(scheme, host, path)
    return (
        "oneshotd delivers each event once to each Prometheus scraper.\n"
        "\n"
        f'one event     curl -X POST "{url}/event?type=deploy&version=1.2"\n'
        f'many events   curl --data-binary @events.txt "{url}/events"\n'
        f'scrape        curl "{url}/metrics?scraper=NAME"\n'
        f'look only     curl -I "{url}/metrics?scraper=NAME"\n'
        f"status page   {url}/ in a browser\n"
        f"health        {url}/healthz and {url}/readyz\n"
        "\n"
        "Events can also be sent by UDP, as lines of the form type=deploy&version=1.2.\n"
    ).encode()


class _Live(Element):
    """The part of the page that changes."""

    loader = template("live.xml")

    def __init__(self, status: Status) -> None:
        super().__init__()
        self._status = status

    @renderer
    def live(self, request: IRequest | None, tag: Tag) -> Tag:
        """Render the element, with its data for the script."""
        return tag(**{"data-now": str(self._status.now), "data-etag": self._status.etag.decode("ascii")})

    @renderer
    def verdict(self, request: IRequest | None, tag: Tag) -> Tag:
        """Render the state in one line."""
        status = self._status
        if status.problem is not None:
            return tag("Not ready", class_="bad")
        if status.scrapers is None or status.events is None:
            return tag("The store cannot be read now", class_="bad")
        if any(warning.bad for warning in status.warnings):
            return tag("Events were lost", class_="bad")
        if status.warnings:
            return tag("Attention needed", class_="warn")
        if not status.live:
            return tag("Ready; no scraper is live yet", class_="idle")
        waiting = sum(scraper.pending for scraper in status.live)
        if waiting:
            return tag(f"All is well; {count(waiting, 'event')} on the way", class_="good")
        return tag("All is well; every live scraper has everything", class_="good")

    @renderer
    def warnings(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render the warnings."""
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
        """Render which events the chart contains."""
        hour = self._status.hour
        if hour is None:
            return tag("The store cannot be read now.")
        if not hour.events:
            return tag("No events in the last hour.")
        text = f"{count(hour.events, 'event')} by type; each bar is a minute."
        if hour.since > hour.start:
            text += f" Only the last {spoken((self._status.now - hour.since) / 1000)} are counted so far."
        return tag(text)

    @renderer
    def hour(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render the chart."""
        hour = self._status.hour
        return hour_table(tag, hour, self._status.now) if hour is not None and hour.counts else ""

    @renderer
    def scrapers_note(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render a note if scrapers are missing in the table."""
        if self._status.scrapers is None:
            return tag("The store cannot be read now.")
        if not self._status.scrapers:
            return tag("No scrapers yet. See below how to set one up.")
        if self._status.unlisted:
            return tag(f"And {count(self._status.unlisted, 'scraper')} more, see /api/v1/scrapers.")
        return ""

    @renderer
    def scrapers(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render the table of scrapers."""
        return scraper_table(tag, self._status) if self._status.scrapers else ""

    @renderer
    def access(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render the part on the access file, if there is one."""
        return tag if self._status.rules else ""

    @renderer
    def rules_note(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render a note if rules are missing in the table."""
        more = self._status.unlisted_rules
        return tag(f"And {count(more, 'rule')} more.") if more else ""

    @renderer
    def rules(self, request: IRequest | None, tag: Tag) -> Tag:
        """Render the table of the rules of the access file."""
        return rules_table(tag, self._status.rules)

    @renderer
    def events_note(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render a note if there is no table of events."""
        if self._status.events is None:
            return tag("The store cannot be read now.")
        return "" if self._status.events else tag("No events held. See below how to send one.")

    @renderer
    def events(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render the table of the newest events."""
        return event_table(tag, self._status) if self._status.events else ""


class _Shell(Element):
    """The part of the page that does not change.

    :param host: ``host[:port]`` of the request, checked.
    :param udp: port for datagrams, or None.
    :param path: prefix of all paths.
    """

    loader = template("shell.xml")

    def __init__(self, scheme: str, host: str, udp: int | None, path: str) -> None:
        super().__init__()
        self._scheme, self._host, self._udp, self._path = scheme, host, udp, path

    @renderer
    def page(self, request: IRequest | None, tag: Tag) -> Tag:
        """Fill in the slots of the template."""
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
        """Render the instructions for UDP, if the daemon takes datagrams."""
        return "" if self._udp is None else tag


def _url(scheme: str, host: str, path: str) -> str:
    """Return a URL; the percent sign of a zone is escaped (RFC 6874)."""
    return f"{scheme}://{host.replace('%', '%25')}{path}"


def _bare(host: str) -> str:
    """Return the host without its port, an IPv6 address without brackets."""
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
    """Render the changing part of the page."""
    flat: Deferred[bytes] = flattenString(None, _Live(status))
    return await flat


async def render(live: bytes, scheme: str, host: str, udp: int | None, path: str = "") -> bytes:
    """Render the whole page around its changing part; see `_Shell` for the parameters."""
    flat: Deferred[bytes] = flattenString(None, _Shell(scheme, host, udp, path))
    before, _, after = (await flat).partition(_PLACE)
    return b"<!DOCTYPE html>\n" + before + live + after
