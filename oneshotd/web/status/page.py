"""Renders ``/`` for browsers: the status page.

`twisted.web.template` escapes all text. The Content-Security-Policy allows the page's own files only.
The part of the page that changes, `live`, does not depend on the request and can be fetched alone;
the rest depends on the address in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.web.iweb import IRequest
from twisted.web.template import Comment, Element, Tag, flattenString, renderer, tags

from oneshotd import __version__
from oneshotd.web.status.assets import ASSETS, template
from oneshotd.web.status.cache import Status
from oneshotd.web.status.doors_table import doors_table, unused_hooks
from oneshotd.web.status.examples import Examples
from oneshotd.web.status.rules_table import rules_table
from oneshotd.web.status.tables import event_table, hour_table, scraper_table
from oneshotd.web.status.wording import count, shown, spoken

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

#: Characters of the name of a daemon.
MAX_DAEMON = 120

#: The place of the changing part in the rest.
_PLACE = b"<!--live-->"


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
    def daemon(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render which of the daemons that share the store has answered."""
        name = self._status.daemon
        if name is None:
            return ""
        return tag(
            "Answered by the daemon ",
            tags.bdi(shown(name, MAX_DAEMON)),
            "; scrapers and events are those of all daemons that share this PostgreSQL database.",
        )

    @renderer
    def durability(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render where the events are."""
        meaning = self._status.durability
        return tag(f"An event that was answered with 200 {meaning}.") if meaning else ""

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
    def doors_note(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render the names of the hooks that are not in the table."""
        unused = unused_hooks(self._status.doors)
        return tag(unused) if unused else ""

    @renderer
    def doors(self, request: IRequest | None, tag: Tag) -> Tag:
        """Render the table of the doors by which events arrive."""
        status = self._status
        return doors_table(tag, status.doors, status.now, of_one_daemon=status.daemon is not None)

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
        return rules_table(tag, self._status.rules, of_one_daemon=self._status.daemon is not None)

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
    """The part of the page that does not change."""

    loader = template("shell.xml")

    def __init__(self, examples: Examples, hooks: Sequence[str]) -> None:
        super().__init__()
        self._examples = examples
        self._hooks = hooks

    @renderer
    def page(self, request: IRequest | None, tag: Tag) -> Tag:
        """Fill in the slots of the template."""
        return tag.fillSlots(
            mark=ASSETS["mark.svg"].address,
            style=ASSETS["page.css"].address,
            script=ASSETS["page.js"].address,
            host=self._examples.host,
            version=__version__,
            live=Comment("live"),
            curl=self._examples.curl,
            line=self._examples.datagram,
            command=self._examples.command,
            config=self._examples.scrape_config,
            hooks=" ".join(self._hooks),
            trial=self._examples.trial,
        )

    @renderer
    def datagram(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render the instructions for UDP, if the daemon takes datagrams."""
        return "" if self._examples.udp is None else tag

    @renderer
    def trial(self, request: IRequest | None, tag: Tag) -> Tag | str:
        """Render the part in which admins try a hook; the script makes its fields."""
        return tag if self._hooks else ""


async def render_live(status: Status) -> bytes:
    """Render the changing part of the page."""
    flat: Deferred[bytes] = flattenString(None, _Live(status))
    return await flat


async def render(live: bytes, examples: Examples, hooks: Sequence[str] = ()) -> bytes:
    """Render the whole page around its changing part.

    :param hooks: the names of those that the client may try.
    """
    flat: Deferred[bytes] = flattenString(None, _Shell(examples, hooks))
    before, _, after = (await flat).partition(_PLACE)
    return b"<!DOCTYPE html>\n" + before + live + after
