"""A synchronous standby is promoted: what was answered is there, once, and what was not is told."""

from __future__ import annotations

import psycopg
import pytest
from store.contract_details import TEXT, shown, with_detail
from store.contract_states import count, end, start, values
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import running_server
from support.processes import until
from support.store_backends import LEASE, group, series_of

from oneshotd.core.events import Group
from oneshotd.core.identity import Visit
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import Settled, Stored
from oneshotd.store.postgresql import lane

VISIT = Visit(name="p", named=True)

#: Attempts of a client whose request is refused, some tenths of a second apart.


def replicates(address: str, state: str) -> bool:
    """Return whether a standby is connected in this way."""
    with psycopg.connect(address) as connection:
        rows = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
    return (state,) in rows


@pytest.mark.e2e
def test_a_promoted_standby_has_all_that_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failover would cost or double events, or a scraper would get them twice."""
    monkeypatch.setattr(lane, "RECONNECT_INTERVAL", 0.1)
    with running_server(durable=True) as primary, running_server(durable=True, copy_of=primary) as standby:
        database = primary.new_database()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        until(lambda: replicates(primary.address(database), "sync"), 30, "the standby is synchronous")
        backend = PostgreSQLBackend(primary, database)
        hosts = f"host={primary.socket},{standby.socket} user=oneshotd dbname={database}"
        backend.address = f"{hosts} target_session_attrs=read-write"
        try:
            backend.append("before")
            backend.append_groups(start(), count(3), Group(events=[with_detail("detailed")]))
            first = backend.reserve("p", limit=1)
            in_flight = [backend.store.append([group(f"s{number}")]) for number in range(3)]
            primary.stop("immediate")
            standby.promote()
            sent = ["before", "begun", "counted", "counted", "detailed"]
            for number, deferred in enumerate(in_flight):
                try:
                    backend.get(deferred)
                except StoreUnavailable:
                    again(backend, f"s{number}")
                sent.append(f"s{number}")
            again(backend, "after")
            backend.again(lambda: backend.store.append([end(key="k"), count(4, key="l")]))
            sent += ["ended", "counted"]
            assert settled(backend, first.token or 0) is Settled.SETTLED
            backend.get(backend.store.release(first.token or 0))
            assert shown(backend) == {5: TEXT}
            assert len(values(backend)) == 1 and values(backend) != [-1]
            assert sorted(backend.logged()) == sorted([*sent, "after"])
            rest = backend.get(backend.store.reserve(VISIT, LEASE, 20))
            assert sorted(series_of(rest)) == sorted([*sent[1:], "after"])
        finally:
            backend.finish()


@pytest.mark.e2e
def test_no_answer_before_the_standby_has_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody cancels the wait, PostgreSQL calls that a success, and a failover takes the event away."""
    monkeypatch.setattr(lane, "RECONNECT_INTERVAL", 0.1)
    with running_server(durable=True) as primary, running_server(durable=True, copy_of=primary) as standby:
        database = primary.new_database()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        until(lambda: replicates(primary.address(database), "sync"), 30, "the standby is synchronous")
        backend = PostgreSQLBackend(primary, database)
        try:
            backend.append("before")
            standby.stop()
            asked = backend.store.append([group("a")])
            until(lambda: len(waiting(primary.address("postgres"))) == 1, 20, "the COMMIT waits")
            [pid] = waiting(primary.address("postgres"))
            primary.execute(f"SELECT pg_cancel_backend({pid})")
            until(lambda: waiting(primary.address("postgres")) not in ([], [pid]), 20, "the question waits")
            assert backend.pump.idle, "it was answered"
            standby.start()
            assert backend.get(asked) == [Stored(stored=1, first=2)]
            assert backend.logged() == ["before", "a"]
        finally:
            backend.finish()


def waiting(address: str) -> list[int]:
    """The server processes that wait for the standby."""
    with psycopg.connect(address) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'oneshotd'"
        ).fetchall()
    return [pid for (pid,) in rows]


def again(backend: PostgreSQLBackend, series: str) -> None:
    """Report an event until it is taken."""
    backend.again(lambda: backend.store.append([group(series)]))


def settled(backend: PostgreSQLBackend, token: int) -> Settled:
    """Settle until it is done."""
    return backend.again(lambda: backend.store.settle(token, True, 1, (), ()))
