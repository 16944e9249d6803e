"""Tables and indexes under load: their sizes level off, and rows that change often stay few.

Half a minute here; an hour with ``ONESHOTD_LOAD_MINUTES=60`` and ``-s -o faulthandler_timeout=4000``. The
sizes are printed.
"""

from __future__ import annotations

import os
import time

import psycopg
import pytest
from attrs import evolve
from store import contract_states as states
from store.contract_details import with_detail
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import running_server
from support.store_backends import group

from oneshotd.core.events import Group

SECONDS = 60 * float(os.environ.get("ONESHOTD_LOAD_MINUTES", "0.5"))

#: Bytes that a table of few rows may have: dead rows stay for as long as the snapshot, a third of the time.
HOT = (2 << 20) + int(SECONDS / 3) * (4 << 10)

#: Samples of the sizes: a third to fill the log, a third beside an old snapshot, a third after it.
SAMPLES = 30

_SIZES = """
SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables
WHERE schemaname = 'public' ORDER BY relname"""


def sizes(connection: psycopg.Connection[tuple[str, int]]) -> dict[str, int]:
    """The bytes of each table with its indexes."""
    return dict(connection.execute(_SIZES).fetchall())


def work(backend: PostgreSQLBackend, until: float, start: int) -> int:
    """Report and scrape until then; returns the number of commits."""
    number = start
    while time.monotonic() < until:
        store = backend.store
        backend.get(store.append([group(*(f's{{n="{number}-{line}"}}' for line in range(50)))]))
        if number % 10 == 0:
            backend.append(f"k{number}", key=f"k{number}")
            backend.append_groups(states.start(f"s{number}"), states.end(f"s{number}"), states.start("s"))
            backend.append_groups(states.count(number))
            backend.append_groups(*[Group(events=[with_detail("a")])] * 5)
            backend.take("p")
        if number % 100 == 0:
            backend.prune()
        number += 1
    return number - start


@pytest.mark.e2e
def test_tables_level_off_and_hot_rows_stay_small_beside_an_old_snapshot() -> None:
    """The disk would fill, or commits become slower and slower, after days."""
    with running_server() as server:
        backend = PostgreSQLBackend(server, server.new_database())
        backend.limits = evolve(backend.limits, max_events=20_000, max_keys=200)
        try:
            seen: list[dict[str, int]] = []
            done: list[int] = []
            with psycopg.connect(backend.address, autocommit=True) as beside:
                for sample in range(SAMPLES):
                    if sample == SAMPLES // 3:
                        old = psycopg.connect(backend.address)
                        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                        old.execute("SELECT 1 FROM state")
                    if sample == 2 * SAMPLES // 3:
                        old.close()
                    done.append(work(backend, time.monotonic() + SECONDS / SAMPLES, sum(done)))
                    backend.time.advance(SECONDS / SAMPLES)
                    seen.append(sizes(beside))
            for name in seen[0]:
                print(name, *(each[name] // 1024 for each in seen), "KiB")
            print("commits", *done)
            third = SAMPLES // 3
            first, last = seen[third - 1], seen[-1]
            for name in ("state", "daemon", "scraper", "shown", "owed", "loss", "keyed_state"):
                assert max(each[name] for each in seen) < HOT, name
            for name in ("segment", "key", "detail"):
                # Dead rows of the middle third are used again in the last one.
                assert last[name] <= max(each[name] for each in seen[: 2 * third]) * 1.25 + (1 << 20), name
            assert first["segment"] < 32 << 20
        finally:
            backend.finish()
