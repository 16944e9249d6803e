"""The PostgreSQL store beside the SQLite store in the same run; the server is Debian's, on the same cores."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import psycopg
from support.daemon import Daemon
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import until

from bench.measures import (
    LOAD,
    Scraping,
    at_least,
    at_most,
    below,
    figure_in,
    post_all,
    ratio,
    scrape,
)
from bench.rig import Measure, Pair, check_stored, daemon, figure, fill, median, timed, wrk

#: However many rounds: none is dropped.
ROOM = "--max-events=100000000"

#: Of wrk, if it is not told another number.
CONNECTIONS = 64

#: Events that a scraper has to come, delivered in responses of 20,000.
BACKLOG = 100_000


@contextmanager
def server(standby: bool = False) -> Iterator[PostgreSQLServer]:
    """A durable server, with a synchronous standby on the same disk or without one."""
    with ExitStack() as stack:
        primary = stack.enter_context(running_server(durable=True))
        if standby:
            stack.enter_context(running_server(durable=True, copy_of=primary))
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.execute("SELECT pg_reload_conf()")
            until(partial(_is_synchronous, primary), 30, "the standby is synchronous")
        yield primary


def _is_synchronous(primary: PostgreSQLServer) -> bool:
    with psycopg.connect(primary.address("postgres")) as connection:
        rows = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
    return ("sync",) in rows


@contextmanager
def beside_sqlite(*options: str, standby: bool = False) -> Iterator[tuple[Daemon, Daemon]]:
    """A daemon with a PostgreSQL database of its own, and one with a SQLite file."""
    with (
        server(standby) as postgresql,
        daemon(*options, database=postgresql.address(postgresql.new_database())) as ours,
        daemon(*options) as sqlite,
    ):
        yield ours, sqlite


def posts(rounds: int) -> Iterator[Measure]:
    """One event a request, with and without a synchronous standby."""
    for standby in (False, True):
        pairs = []
        with beside_sqlite(ROOM, standby=standby) as (ours, sqlite):
            stored = 0
            for _ in range(rounds):
                theirs = wrk(sqlite.port, LOAD)
                load = wrk(ours.port, LOAD)
                stored += load.requests
                check_stored(ours, stored, CONNECTIONS * rounds)
                pairs.append(Pair(load.rate, theirs.rate))
        yield Measure(
            name="PostgreSQL against SQLite: `POST /event`, 64 connections"
            + (", synchronous standby on the same disk" if standby else ""),
            unit="requests/s",
            rounds=pairs,
            shown=ratio,
            reach="–" if standby else "0.7x",
            aim="–" if standby else "1.0x",
            met=at_least(0.0 if standby else 0.7),
        )


def two_daemons(rounds: int) -> Measure:
    """The same connections, shared by two daemons on one database, against one daemon."""
    pairs = []
    with server() as postgresql:
        shared, alone = (postgresql.address(postgresql.new_database()) for _ in range(2))
        with (
            daemon(ROOM, database=shared) as first,
            daemon(ROOM, database=shared) as second,
            daemon(ROOM, database=alone) as one,
            ThreadPoolExecutor(2) as threads,
        ):
            stored = 0
            for _ in range(rounds):
                single = wrk(one.port, LOAD)
                half = partial(wrk, seconds=LOAD, connections=CONNECTIONS // 2)
                loads = list(threads.map(half, (first.port, second.port)))
                stored += sum(load.requests for load in loads)
                check_stored(first, stored, CONNECTIONS * rounds)
                pairs.append(Pair(sum(load.rate for load in loads), single.rate))
    return Measure(
        name="`POST /event`, 64 connections: two daemons on one PostgreSQL, against one daemon",
        unit="requests/s",
        rounds=pairs,
        shown=ratio,
        reach="0.95x",
        aim="1.0x",
        met=at_least(0.95),
    )


def bodies(rounds: int) -> Measure:
    """1,000 lines a body, over four connections."""
    pairs = []
    with beside_sqlite(ROOM) as (ours, sqlite):
        for number in range(rounds):
            rates = []
            for running in (ours, sqlite):
                work = [
                    [
                        [
                            f"type=bulk&round={number}&part={part}&body={body}&line={line}"
                            for line in range(1000)
                        ]
                        for body in range(30)
                    ]
                    for part in range(4)
                ]
                before = figure(running, "oneshotd_held_events")
                with ThreadPoolExecutor(4) as threads:
                    seconds = timed(lambda: list(threads.map(partial(post_all, running.port), work)))  # noqa: B023
                assert figure(running, "oneshotd_held_events") - before == 120_000
                rates.append(120_000 / seconds)
            pairs.append(Pair(*rates))
    return Measure(
        name="PostgreSQL beside SQLite: `POST /events`, 1,000 lines a body, 4 connections",
        unit="events/s",
        rounds=pairs,
        shown=figure_in("events/s"),
        reach="200,000",
        aim="–",
        met=lambda pairs: median([pair.ours for pair in pairs]) >= 200_000,
    )


def scrapes(rounds: int) -> Iterator[Measure]:
    """A backlog of 100,000 events, and then scrapes with nothing to come."""
    whole, empty = [], []
    with beside_sqlite("--newcomers=1h") as (ours, sqlite):
        for running in (ours, sqlite):
            fill(running.port, BACKLOG)
        for number in range(rounds):
            times = [timed(partial(_drain, running.port, f"s{number}")) for running in (ours, sqlite)]
            whole.append(Pair(*times))
            medians = []
            for running in (ours, sqlite):
                connection = http.client.HTTPConnection("127.0.0.1", running.port)
                medians.append(
                    median([timed(partial(scrape, connection, f"s{number}")) * 1000 for _ in range(200)])
                )
                connection.close()
            empty.append(Pair(*medians))
    yield Measure(
        name=f"PostgreSQL against SQLite: {BACKLOG:,} pending events, in responses of 20,000",
        unit="s",
        rounds=whole,
        shown=ratio,
        reach="≤ 1.6x",
        aim="≤ 1.2x",
        met=at_most(1.6),
    )
    yield Measure(
        name="PostgreSQL beside SQLite: a scrape with nothing to come",
        unit="ms",
        rounds=empty,
        shown=figure_in("ms"),
        reach="≤ 3 ms",
        aim="≤ 2 ms",
        met=below(3.0),
    )


def _drain(port: int, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    got = 0
    for _ in range(40):
        got += scrape(connection, name).count(b"\nevents_to_metrics{")
        if got == BACKLOG:
            break
    connection.close()
    assert got == BACKLOG, got


def latency(rounds: int) -> Measure:
    """p99.9 of an append while scrapes of 20,000 events run without a pause."""
    pairs = []
    with server() as postgresql:
        for number in range(rounds):
            address = postgresql.address(postgresql.new_database())
            with daemon("--newcomers=1h", ROOM, database=address) as running:
                fill(running.port, 1_000_000)
                alone = wrk(running.port, LOAD, connections=1)
                scraping = Scraping(running.port, f"s{number}")
                scraping.start()
                beside = wrk(running.port, LOAD, connections=1)
                assert scraping.is_alive(), "the scrapes ended before the load did"
                scraping.done.set()
                scraping.join(60)
                assert len(scraping.events) > 5, scraping.events
                pairs.append(Pair(beside.p999, alone.p999))
    return Measure(
        name="PostgreSQL: p99.9 of `POST /event` beside scrapes of 20,000 events, and alone",
        unit="ms",
        rounds=pairs,
        shown=figure_in("ms"),
        reach="≤ 20 ms",
        aim="≤ 10 ms",
        met=below(20),
    )
