"""The measures of the store: a scrape beside a long log, and of a backlog that trickled in."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.measures import at_most, below, figure_in, ratio, scrape
from bench.rig import Measure, Pair, daemon, folder, timed
from oneshotd.core import exposition
from oneshotd.core.events import Group, NewEvent
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.sampling.scrape_time import plan
from oneshotd.store.clock import Clock
from oneshotd.store.sqlite.connection import open_database
from oneshotd.store.sqlite.figures import stats
from oneshotd.store.sqlite.ledger import Ledger, Limits

#: Commits of one event in the log of `long_log`, and pending events in `trickled`.
COMMITS = 500_000
BACKLOG = 9000


@contextmanager
def _ledger(path: Path, events: int, body: int) -> Iterator[Ledger]:
    """The ledger of a store with so many events, which came `body` a commit, in a transaction."""
    connection = open_database(str(path))
    ledger = Ledger(Limits(), Clock())
    ledger.load(connection)
    connection.execute("BEGIN IMMEDIATE")
    ledger.begin()
    for first in range(0, events, body):
        numbers = range(first, min(first + body, events))
        ledger.append([Group(events=[NewEvent(f's{{host="web{n % 100}",number="{n}"}}') for n in numbers])])
        ledger.flush()
    yield ledger
    connection.execute("COMMIT")
    connection.close()


def _deliver(
    ledger: Ledger, name: str, number: int, events: int = BACKLOG, cursor: int | None = None
) -> None:
    """A scrape of the store alone: from the file to the bytes of the response, and its settlement."""
    reservation = ledger.reserve(Visit(name=name.format(number), named=True), 60.0, events)
    planned = plan(reservation.pending, Caps())
    body = exposition.text(planned.samples)
    assert body.count(b"\n") == events + 2
    assert reservation.token is not None
    cursor = planned.cursor if cursor is None else cursor
    ledger.settle(reservation.token, True, cursor, planned.newly_owed, planned.went_out)
    ledger.release(reservation.token)


def long_log(rounds: int) -> Measure:
    """The stats that each scrape takes, in the store's thread, with 10 scrapers that have events to come."""
    pairs = []
    with folder() as place, _ledger(place / "store.sqlite", COMMITS, 1) as ledger:
        for number in range(10):
            _deliver(ledger, "s{}", number, 1, COMMITS - 1000 + 50 * number)
        for _ in range(rounds):
            assert sum(status.pending > 0 for status in stats(ledger).scrapers) == 10
            pairs.append(Pair(min(timed(lambda: stats(ledger)) for _ in range(20)) * 1000, 1.0))
    return Measure(
        name=f"10 scrapers with pending events beside {COMMITS:,} commits of one event: stats",
        unit="ms",
        rounds=pairs,
        shown=figure_in("ms"),
        reach="≤ 1 ms",
        aim="≤ 0.1 ms",
        met=below(1.0),
    )


def trickled(rounds: int) -> list[Measure]:
    """A backlog that came one event a commit, against the same in bodies of 1,000."""
    alone, whole = [], []
    with folder() as place:
        files = {body: place / f"{body}.sqlite" for body in (1, 1000)}
        for body, file in files.items():
            with _ledger(file, BACKLOG, body):
                pass
        with _ledger(files[1], 0, 1) as small, _ledger(files[1000], 0, 1) as large:
            for number in range(rounds):
                alone.append(
                    _best(partial(_deliver, each, f"alone-{number}-{{}}") for each in (small, large))
                )
        with daemon(store=files[1]) as one, daemon(store=files[1000]) as many:
            ports = one.port, many.port
            for number in range(rounds):
                whole.append(_best(partial(_scrape_all, port, f"scrape-{number}-{{}}") for port in ports))
    return [
        Measure(
            name=f"{BACKLOG:,} pending events that came one a commit, against bodies of 1,000: {what}",
            unit="ms",
            rounds=pairs,
            shown=ratio,
            reach=f"≤ {reach}x",
            aim="1.0x",
            met=at_most(reach),
        )
        for what, pairs, reach in (("a scrape", whole, 1.5), ("reading and rendering alone", alone, 2.0))
    ]


def _best(works: Iterable[Callable[[int], object]]) -> Pair:
    """The least time of each, in ms; by turns, so that other work on the machine meets both."""
    both = tuple(works)
    times = [[timed(partial(work, number)) * 1000 for work in both] for number in range(10)]
    ours, theirs = map(min, zip(*times, strict=True))
    return Pair(ours, theirs)


def _scrape_all(port: int, name: str, number: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    assert scrape(connection, name.format(number)).count(b"\ns{") == BACKLOG
    connection.close()
