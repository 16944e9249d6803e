"""All scrapers at work at the same time, in both modes, and what they are given.

Two daemons: of the first every scraper reads with nothing in between; before the second there is
a proxy for each, which spoils a response when it is told to. A phase ends when all has arrived
everywhere, and what would have come twice, too; then is noted what each server says.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request

from attrs import frozen
from support.cutting_proxy import CuttingProxy, Fault
from support.daemon import BROWSER, Daemon
from support.processes import free_port, until
from support.prometheus import Prometheus
from support.response_reader import Reader
from support.scrapers import KINDS, Job, server, thrown_away, warnings

from oneshotd.core.negotiation import Format

MODES = ("scrape", "event")

#: Seconds between two scrapes. Those of the first daemon have large responses, which all servers
#: together take some seconds to make and read on two cores that have other work, too.
LONG, SHORT = 3, 2

#: Behind a selector: the last ten minutes and the next ones. The events of a burst in one series
#: are a millisecond apart, so that the last ones are ahead of the clock.
WINDOW = "[20m] offset -10m"

#: Every character that a format escapes, that ends something in it, or that a parser written by
#: hand may stumble over.
TEXTS = (
    "back\\slash",
    'quo"te',
    "new\nline",
    "\\n",
    '\\"',
    "\\\\",
    '\\\n"\\',
    "ends in \\",
    '"',
    "\n",
    "tab\tand\rreturn\r\n",
    "\0nul\x01\x1b[31m\x7f",
    "\x85\xa0\u2028\u2029\ufeff\u200b",
    "é ß 漢 😀 \U0010ffff",
    '{a="b"} 1 1700000000000',
    "# EOF",
    "a,b=c;d|e",
    "  spaces  ",
    "'",
    "x" * 4096,
)

VALUES = (1.5, 2.5, 2.5, 4.0)

#: Name -> value, each in a series of its own.
SPECIAL = {
    "nan": "NaN",
    "inf": "+Inf",
    "minus inf": "-Inf",
    "minus zero": "-0",
    "tenth": "0.1",
    "small": "1e-300",
    "smallest": "5e-324",
    "large": "1.7976931348623157e+308",
}

#: Events without a value in one series, and in as many series; a response has 20 000 samples at most.
BURST, SERIES = 50_000, 25_000
#: Events that make a response of a megabyte, half of which is more than any socket buffer here.
PADDED, PAD = 1600, 308

Line = Mapping[str, object]


@frozen(kw_only=True)
class Verdict:
    """What a server itself says of its scrapes.

    :param thrown_away: see `scrapers.thrown_away`.
    :param warnings: of its log.
    :param down: job -> how many of its scrapes failed.
    """

    thrown_away: Mapping[str, float]
    warnings: list[str]
    down: Mapping[str, int]


class Stage:
    """See the module; `stage` makes it and plays the first phase."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.direct, self.spoiled = _daemon(folder / "direct"), _daemon(folder / "spoiled")
        self.proxies = {
            f"{kind.name}/spoiled-{mode}": stack.enter_context(CuttingProxy(self.spoiled.port))
            for kind in KINDS
            for mode in MODES
        }
        self.servers = {}
        for kind in KINDS:
            jobs = [Job(name=mode, port=self.direct.port, mode=mode, interval=LONG) for mode in MODES]
            for mode in MODES:
                name = f"spoiled-{mode}"
                port = self.proxies[f"{kind.name}/{name}"].port
                jobs.append(Job(name=name, port=port, mode=mode, interval=SHORT))
            self.servers[kind.name] = server(kind, folder / kind.name, jobs)
        _start(stack, [self.direct, self.spoiled])
        _start(stack, self.servers.values())
        self.readers = {
            f"{format.name}/{mode}": Reader(self.direct, f"reader/{format.name}/{mode}", format, mode)
            for format in Format
            for mode in MODES
        }
        for reader in self.readers.values():
            assert reader.read() == []
        until(
            lambda: len(pending(self.direct)) == len(pending(self.spoiled)) == len(self.proxies),
            30,
            lambda: f"every scraper is known: {pending(self.direct)} {pending(self.spoiled)}",
        )

    def cut_and_burst(self) -> dict[str, Verdict]:
        """The first phase: everything that must leave no trace in a server's own metrics."""
        self.arm(Fault.CUT)
        cut = spoiled("cut") + [{"__name__": "padded", "n": n, "pad": _noise(n)} for n in range(PADDED)]
        post(self.spoiled, cut)
        post(self.direct, small())
        for _ in range(5):
            post(self.direct, [{"__name__": "burst"}] * (BURST // 5))
        self.await_delivery()
        post(self.direct, [{"__name__": "counted", "task": "a"}] * 4)
        for start in range(0, SERIES, 5000):
            post(self.direct, [{"__name__": "distinct", "n": n} for n in range(start, start + 5000)])
        return self.settle("distinct", SERIES, MODES)

    def throw_away(self) -> dict[str, Verdict]:
        """The second phase: responses that were read, but look to the daemon as if they were not."""
        self.arm(Fault.THROWN_AWAY)
        post(self.spoiled, spoiled("thrown"))
        return self.settle("thrown", 1 + 3 + 1 + 2 + 3, [f"spoiled-{mode}" for mode in MODES])

    def arm(self, fault: Fault) -> None:
        for proxy in self.proxies.values():
            proxy.arm(fault)

    def await_delivery(self) -> None:
        """Wait until no scraper has anything to come."""

        def left() -> dict[str, int]:
            waits = [*pending(self.direct).items(), *pending(self.spoiled).items()]
            return {name: events for name, events in waits if events}

        until(lambda: not left(), 60, lambda: f"nothing to come: {left()}")

    def await_all(self, condition: Callable[[Prometheus], bool], what: str) -> None:
        """Wait until it is so in every server."""

        def missing() -> list[str]:
            return [name for name, made in self.servers.items() if not condition(made)]

        until(lambda: not missing(), 60, lambda: f"{what}: not in {missing()}")

    def settle(self, metric: str, total: int, jobs: Iterable[str]) -> dict[str, Verdict]:
        """Wait until all is delivered and the servers show it, and for what would come twice.

        :param metric: what was sent last; the sum of it is at least `total`.
        """
        self.await_delivery()
        for job in jobs:
            show = f'sum(sum_over_time({metric}{{job="{job}"}}{WINDOW}))'
            self.await_all(partial(_is_at_least, show, total), show)
        # A scrape of each job with the long interval, and those of the others meanwhile.
        enough = {name: made.scrapes() + 2 + 2 * LONG // SHORT for name, made in self.servers.items()}
        self.await_all(lambda made: made.scrapes() >= enough[made.folder.name], "further scrapes")
        return {name: verdict(made) for name, made in self.servers.items()}


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Everything started and known to everybody; ended with the context."""
    with ExitStack() as stack:
        yield Stage(folder, stack)


def small() -> list[Line]:
    """A few events of every sort."""
    return [
        *[{"__name__": "counted", "task": "a"}] * 5,
        *[{"__name__": "counted", "task": "b"}] * 3,
        *[{"__name__": "valued", "value": value} for value in VALUES],
        {"__name__": "mixed"},
        {"__name__": "mixed", "value": 7},
        *[{"__name__": "mixed"}] * 2,
        *[{"__name__": "texts", "text": text} for text in TEXTS],
        *[{"__name__": "special", "which": name, "value": value} for name, value in SPECIAL.items()],
        *[{"__name__": "job:deploys:done", "env": "prod"}] * 2,
        {"task": "the usual name"},
    ]


def spoiled(name: str) -> list[Line]:
    """One event, repeats that are counted, and repeats with values."""
    return [
        {"__name__": name, "task": "one"},
        *[{"__name__": name, "task": "three"}] * 3,
        *[{"__name__": name, "task": "values", "value": value} for value in (1, 2, 3)],
    ]


def post(daemon: Daemon, lines: Iterable[Line]) -> None:
    """Report events, and wait until they are on disk."""
    body = "\n".join(map(urlencode, lines)).encode()
    request = Request(f"{daemon.url}/events", data=body, headers={"Content-Type": "text/plain"})
    with BROWSER.open(request, timeout=30) as answer:
        assert answer.status == 200


def pending(daemon: Daemon) -> dict[str, int]:
    """Server/job -> events that it has to come, as the daemon itself says."""
    found = figures(daemon, "oneshotd_scraper_pending_events")
    return {name: events for name, events in found.items() if not name.startswith("reader/")}


def figures(daemon: Daemon, name: str) -> dict[str, int]:
    """Scraper -> the daemon's figure of this name."""
    found = re.findall(rf'^{name}\{{scraper="([^"]*)"\}} (\S+)$', daemon.look(), re.MULTILINE)
    return {scraper: int(float(number)) for scraper, number in found}


def verdict(made: Prometheus) -> Verdict:
    """What the server says now."""
    down = made.query("up[20m]")
    return Verdict(
        thrown_away=thrown_away(made),
        warnings=warnings(made),
        down={row["metric"]["job"]: sum(value != "1" for _, value in row["values"]) for row in down},
    )


def _is_at_least(show: str, total: int, made: Prometheus) -> bool:
    return made.value(show) >= total


def _start(stack: ExitStack, made: Iterable[Daemon | Prometheus]) -> None:
    """Start them at the same time; they end with the stack."""
    made = list(made)
    for one in made:
        stack.push(one)
    with ThreadPoolExecutor(len(made)) as pool:
        list(pool.map(lambda one: one.start(), made))


def _daemon(folder: Path) -> Daemon:
    """One that shows newcomers nothing old: every look costs it no more than its own metrics."""
    port = free_port()
    http, udp = f"--http=localhost:{port}", f"--udp=127.0.0.1:{port}"
    store = f"--store=sqlite:{folder / 'oneshotd.sqlite'}"
    return Daemon(folder, options=(http, udp, store, "--newcomers=1ms"), port=port)


def _noise(seed: int) -> str:
    """Hexadecimal digits that gzip can make half as long, no less."""
    return random.Random(seed).randbytes(PAD).hex()
