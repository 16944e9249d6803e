"""``oneshotctl audit``: compare the delivered events with what a Prometheus has counted of them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping

from attrs import define

from oneshotd.core.parsing.numbers import duration
from oneshotd.core.way import Way
from oneshotd.ctl.audit_comparison import Events, Function, Samples, compare, window
from oneshotd.ctl.audit_report import Report, Summary
from oneshotd.ctl.audit_sources import Counted, Scraper, count, matcher, read_events, read_scraper
from oneshotd.ctl.http_get import Server
from oneshotd.ctl.results import FAILED, OK, USAGE, Failed, complain, parsed_by
from oneshotd.emit.credentials import readable_by_others, unencrypted
from oneshotd.emit.settings import Credentials, Settings, Target, target

HELP = "compare delivered events with what a Prometheus has counted"

DESCRIPTION = """\
Reads the events of the last minutes from the daemon, and asks Prometheus, or a server with its query API,
how many of them it has, series by series. Compared are the events that are delivered to the scraper or
receiver; events that are pending for it are only mentioned.

    oneshotctl audit --prometheus http://localhost:9090 --scraper prometheus-a --last 10m

A sample may be later than its event by the scraper's longest lag, which the daemon keeps. So the samples of
a longer time are counted, in which samples of events before and after the range may lie, too. A difference
that these can explain is called the edge, and is no failure. A series that has events with and without a
value cannot be counted by its samples, and is called mixed.

If the store has less, or more, it is asked again for some seconds (--wait), as it may show a sample later
than it has read it. Nothing is changed at the daemon, and nobody becomes a scraper by it."""

STATUSES = {
    0: "the store has each delivered event once, or differs at the edge of the window only",
    1: "events are missing in the store, or are there too often",
    2: "the command line is wrong, the scraper is not known, or events are not held for so long",
    75: "the daemon or the store does not answer, or not now: try again later",
    76: "the server behind a URL is another one, or it refuses the request",
    77: "the credential is missing or wrong, or may not do this",
}

#: Seconds before the store is asked again, and in which it is. VictoriaMetrics may show a new series ten
#: seconds later if it was asked before it had it.
PAUSE, WAIT = 1.0, 20.0

#: Seconds by which the clocks of this machine and of a server may differ before it is mentioned, beyond
#: --skew: the header Date has whole seconds.
DATE_ERROR = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    url, seconds = parsed_by(_target), parsed_by(duration)
    parser.add_argument(
        "--daemon",
        metavar="URL",
        type=url,
        default=target("http://localhost:8090"),
        help="the daemon (default: http://localhost:8090)",
    )
    parser.add_argument(
        "--prometheus", metavar="URL", type=url, required=True, help="the store, without /api/v1/query"
    )
    parser.add_argument("--scraper", metavar="NAME", required=True, help="the scraper or receiver")
    parser.add_argument(
        "--last",
        metavar="DURATION",
        type=seconds,
        default=600.0,
        help="events of this time until now; at most the daemon's hold (default: 10m)",
    )
    parser.add_argument(
        "--way",
        choices=[way.value for way in Way],
        help="how events reach the store: scraped, scraped with timestamps=event, or pushed (default: as the"
        " daemon says)",
    )
    parser.add_argument(
        "--match",
        metavar="MATCHER",
        action="append",
        type=parsed_by(matcher),
        default=[],
        help="count only series with this label, as 'instance=\"edge-1:8090\"'; may be repeated",
    )
    parser.add_argument(
        "--lag",
        metavar="DURATION",
        type=seconds,
        help="longest time from an event to its delivery (default: as the daemon says)",
    )
    parser.add_argument(
        "--skew",
        metavar="DURATION",
        type=parsed_by(lambda text: duration(text, zero=True)),
        default=2.0,
        help="how much earlier than its event a sample may be, by the clocks and the way (default: 2s)",
    )
    parser.add_argument(
        "--wait",
        metavar="DURATION",
        type=parsed_by(lambda text: duration(text, zero=True)),
        default=WAIT,
        help="how long a difference may take to vanish (default: 20s)",
    )
    parser.add_argument(
        "--timeout", metavar="DURATION", type=seconds, default=60.0, help="of each request (default: 1m)"
    )
    parser.add_argument(
        "--show", metavar="N", type=parsed_by(_amount), default=20, help="series to list (default: 20)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for side, whose in (("daemon", "the daemon"), ("prometheus", "the store")):
        parser.add_argument(
            f"--{side}-token-file", metavar="FILE", default="", help=f"bearer token for {whose}, first line"
        )
        parser.add_argument(
            f"--{side}-ca-file",
            metavar="FILE",
            default="",
            help=f"certificates that {whose} may be signed by, instead of the system's",
        )
        parser.add_argument(
            f"--{side}-cert", metavar="FILE", default="", help=f"client certificate for {whose}, PEM"
        )
        parser.add_argument(
            f"--{side}-key", metavar="FILE", default="", help="its key, if that is in another file"
        )


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Compare, and print the result.

    :raises Failed: a server does not answer, or the range is beyond the hold.
    """
    audit = Audit(
        daemon=_server("oneshotd", arguments, "daemon"),
        store=_server("Prometheus", arguments, "prometheus"),
        arguments=arguments,
    )
    try:
        report = audit.made()
    finally:
        audit.daemon.close()
        audit.store.close()
    if arguments.json:
        print(json.dumps(report.as_json(), ensure_ascii=False, indent=2))
    else:
        for line in report.lines(arguments.show):
            print(line)
    return FAILED if report.summary.fails else OK


@define(kw_only=True)
class Audit:
    """One run of the command.

    :param clock: returns Unix seconds; `sleep` waits.
    """

    daemon: Server
    store: Server
    arguments: argparse.Namespace
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def made(self) -> Report:
        """Compare until nothing is missing or repeated, or the wait is over."""
        since: int | None = None
        left = self.arguments.wait
        pause = 0.0
        while True:
            report = self._attempt(since, pause)
            since, pause = report.window.since, PAUSE
            if not report.summary.fails or left < 2 * PAUSE:
                return report
            self.sleep(PAUSE)
            left -= 2 * PAUSE

    def _attempt(self, since: int | None, pause: float) -> Report:
        """Compare once.

        The daemon is asked for the cursor before the store, so that all that must be there is; and for the
        events from then on after it, so that all that may be there is known.

        :param since: Unix ms; None: the range ends now.
        :param pause: seconds between both, in which the store may come to show the last delivery.
        """
        given = self.arguments
        scraper = read_scraper(self.daemon, given.scraper)
        now = self._now()
        since = now - round(given.last * 1000) if since is None else since
        held = now - round(scraper.hold * 1000)
        if since < held and given.last > scraper.hold:
            raise Failed(
                f"--last: {self.daemon.name} holds events for {scraper.hold:g} s, got {given.last:g} s", USAGE
            )
        notes: list[str] = []
        way = self._way(scraper, notes)
        lag = self._lag(scraper, since, way, notes)
        wanted = window(since, now, way, lag=lag, skew=given.skew)
        self.sleep(pause)
        events = Events(window=wanted, cursor=scraper.cursor, owed_from=scraper.owed_from)
        read_events(self.daemon, wanted, events)
        rows = list(self._rows(events, way))
        read_events(self.daemon, wanted, events)  # those that are newer
        samples = Samples(events.series)
        for function, metric, row in rows:
            samples.add(metric, row.labels, function, row.number)
        self._note_clocks(notes)
        return Report(
            scraper=scraper.name,
            store=self.store.name,
            way=way,
            window=wanted,
            lag=lag,
            pending=scraper.pending,
            lost=scraper.lost,
            notes=notes,
            summary=Summary.of(compare(events, samples, way, held=held)),
        )

    def _now(self) -> int:
        """Return Unix ms by the daemon's clock, which gives events their time."""
        now, there = self.clock(), self.daemon.date
        if there is not None and abs(now - there) > DATE_ERROR:
            now = there
        return round(now * 1000)

    def _way(self, scraper: Scraper, notes: list[str]) -> Way:
        given = None if self.arguments.way is None else Way(self.arguments.way)
        if given is not None and scraper.way is not None and given is not scraper.way:
            notes.append(f"--way is {given.value}, the daemon says {scraper.way.value}")
        if given is None and scraper.way is None:
            notes.append(
                "the daemon does not say how events reach the store (it is older, or nothing was delivered"
                f" since its start): {Way.SCRAPE.value} is assumed, see --way"
            )
        return given or scraper.way or Way.SCRAPE

    def _lag(self, scraper: Scraper, since: int, way: Way, notes: list[str]) -> float | None:
        if way is Way.PUSH:
            return 0.0
        if self.arguments.lag is not None:
            return float(self.arguments.lag)
        if scraper.lag is not None and scraper.lag_since is not None and scraper.lag_since <= since:
            return scraper.lag
        notes.append(
            "the daemon does not know the longest lag of the whole range (its start or the scraper's first"
            " delivery is in it, or several daemons share the store): a repetition may be taken for an edge,"
            " see --lag"
        )
        return None

    def _rows(self, events: Events, way: Way) -> Iterator[tuple[Function, str, Counted]]:
        """Ask the store for the sum, or the number, of the samples of each metric."""
        for metric, (counted, valued) in sorted(events.metrics().items()):
            wanted = {Function.SUM: counted, Function.COUNT: valued}
            if way is Way.PUSH:
                wanted = {Function.COUNT: True}
            for function in (function for function, is_wanted in wanted.items() if is_wanted):
                for row in count(self.store, function, metric, self.arguments.match, events.window):
                    yield function, metric, row

    def _note_clocks(self, notes: list[str]) -> None:
        there = self.store.date
        ahead = 0.0 if there is None else there - self._now() / 1000
        if abs(ahead) > DATE_ERROR + self.arguments.skew:
            notes.append(
                f"the clock of {self.store.name} differs by {abs(ahead):.0f} s from the daemon's, see --skew"
            )


def _server(what: str, arguments: argparse.Namespace, side: str) -> Server:
    files = {name: getattr(arguments, f"{side}_{name}") for name in ("token_file", "ca_file", "cert", "key")}
    where: Target = getattr(arguments, side)
    credentials = Credentials(**files)
    if credentials.key and not credentials.cert:
        raise Failed(f"--{side}-key: expected --{side}-cert, too", USAGE)
    if where.scheme == "http" and (credentials.ca_file or credentials.cert):
        raise Failed(f"--{side}-ca-file, --{side}-cert: expected https://, got {where}", USAGE)
    for warning in (
        unencrypted(Settings(where, arguments.timeout, 0.0, credentials)),
        readable_by_others(credentials),
    ):
        if warning is not None:
            complain(f"oneshotctl audit: --{side}: {warning}")
    return Server(what, where, credentials, arguments.timeout)


def _target(url: str) -> Target:
    found = target(url)
    if found.scheme not in ("http", "https"):
        raise ValueError(f"expected http:// or https://, got {found}")
    return found


def _amount(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(f"expected a whole number, got {text[:80]!r}")
    return int(text)
