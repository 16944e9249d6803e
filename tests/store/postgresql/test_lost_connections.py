"""Connections that are lost at any request: what was answered is so, and what was not is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_proxy import Cut, CuttingProxy
from support.postgresql_server import running_server
from support.processes import until
from support.store_backends import LEASE, group, series_of
from twisted.internet.defer import Deferred

from oneshotd.core.identity import Visit
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import IStore, Settled, Stored
from oneshotd.store.postgresql import lane, watchdog
from oneshotd.store.postgresql.store import PostgreSQLStore

VISIT = Visit(name="p", named=True)

#: Attempts of a client that repeats a request until it is answered.
ATTEMPTS = 20


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again soon."""
    monkeypatch.setattr(lane, "RECONNECT_INTERVAL", 0.05)


def until_answered(backend: PostgreSQLBackend, ask: Callable[[], Deferred[Any]]) -> tuple[Any, int]:
    """Repeat a request until it is answered; return the answer and the number of refusals."""
    for attempt in range(ATTEMPTS):
        try:
            return backend.get(ask()), attempt
        except StoreUnavailable:
            continue
    raise AssertionError("no answer")


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("cut", [Cut.DROPPED, Cut.SWALLOWED, Cut.LINGERS, Cut.DELAYED])
def test_an_append_is_stored_once(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy, cut: Cut, key: str | None
) -> None:
    """A client that was refused sends again: events would be doubled; one that was answered does not."""
    sent = []
    for number in range(5):
        name = f"needle{number}"
        proxy.arm(cut, name.encode())
        keyed = key and f"{key}{number}"
        one = group(name, key=keyed)
        answer, refused = until_answered(backend, partial(store.append, [one]))
        assert isinstance(answer[0], Stored) and answer[0].stored == 1
        assert answer[0].first == number + 1
        if cut is not Cut.DELAYED:  # on a busy machine it may come through before the daemon connects again
            assert refused == (cut is Cut.DROPPED), "what came through was refused, or not"
        sent.append(name)
    assert proxy.cuts == 5
    assert backend.logged() == sent


@pytest.mark.parametrize(
    ("cut", "after"),
    [
        *((cut, after) for cut in (Cut.DROPPED, Cut.SWALLOWED, Cut.DELAYED) for after in range(12)),
        (Cut.LINGERS, 6),  # its locks last until the server ends the idle transaction, which takes 10 s
    ],
)
def test_a_scrape_delivers_once(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy, cut: Cut, after: int
) -> None:
    """An event would be lost or doubled, or its scraper wait, where a connection is lost in a scrape."""
    backend.append(("q", "1"), ("q", "2"), "a")
    proxy.arm(cut, after=after)
    got, _ = until_answered(backend, lambda: store.reserve(VISIT, LEASE, 10))
    assert series_of(got) == ["q", "q", "a"] and got.token is not None
    first, _ = until_answered(backend, lambda: store.settle(got.token, True, 3, [2], ()))
    assert first is Settled.SETTLED
    if after % 2:
        revoked, _ = until_answered(backend, lambda: store.revoke(got.token))
        assert revoked is Settled.SETTLED
    else:
        until_answered(backend, lambda: store.release(got.token))
    rest, _ = until_answered(backend, lambda: store.reserve(VISIT, LEASE, 10))
    expected = [1, 2, 3] if after % 2 else [2]
    assert list(rest.pending.seqs) == expected
    assert backend.status("p").owed == (0 if after % 2 else 1)


@pytest.mark.parametrize("key", [None, "k"])
def test_a_server_process_that_is_stopped_and_goes_on_later(
    backend: PostgreSQLBackend, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """A request that the server gets much later would be stored a second time."""
    monkeypatch.setattr(watchdog, "DEADLINE", 0.5)
    monkeypatch.setattr(watchdog, "INTERVAL", 0.1)
    backend.opened_besides(store := backend.another(None))
    backend.get(store.append([group("before", key=key)]))
    with psycopg.connect(backend.address, autocommit=True) as beside:
        [pid] = beside.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'oneshotd' AND query LIKE '%before%'"
        ).fetchone() or [0]
        os.kill(pid, signal.SIGSTOP)
        try:
            one = group("needle", key=key and "needle")
            answer, refused = until_answered(backend, partial(store.append, [one]))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert refused == 1 and answer[0].stored == 1
        until(
            lambda: not beside.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone(),
            20,
            "the stopped process has gone on, and ended",
        )
    assert backend.logged() == ["before", "needle"]


def test_a_lease_whose_settlement_was_refused_lapses(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy
) -> None:
    """A scraper of a daemon that has lost the database would get nothing from the others."""
    backend.append("a")
    token = backend.get(store.reserve(VISIT, LEASE, 10)).token
    assert token is not None
    proxy.arm(Cut.DROPPED)
    with pytest.raises(StoreUnavailable):
        backend.get(store.settle(token, True, 1, (), (), lost={"clock": [1]}))
    assert backend.reserve("p").busy == "in flight"
    backend.time.advance(LEASE)
    assert backend.take("p") == ["a"]
    late, _ = until_answered(backend, lambda: store.settle(token, True, 1, (), (), lost={"clock": [1]}))
    assert late is Settled.SUPERSEDED
    assert backend.status("p").lost == {}


def test_a_request_for_events_that_arrives_much_later_is_void(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy
) -> None:
    """The scraper would find a lease that nobody holds, and be busy until it lapses."""
    backend.take("p")
    proxy.arm(Cut.HELD, b",60000,")
    for number in range(4):
        backend.append(f"s{number}")
        got, refused = until_answered(backend, lambda: store.reserve(VISIT, LEASE, 10))
        assert (series_of(got), refused) == ([f"s{number}"], 0)
        assert backend.get(store.settle(got.token, True, got.pending.end, (), ())) is Settled.SETTLED
        backend.get(store.release(got.token))
    proxy.go_on.set()
    assert proxy.done.wait(20) and proxy.cuts == 1
    assert not backend.status("p").in_flight
    assert backend.reserve("p").busy is None


def test_a_run_that_was_taken_for_dead_grants_nothing_over_its_old_connection(
    backend: PostgreSQLBackend,
) -> None:
    """The last request of a run that was killed may arrive after the next run has ended its leases."""
    backend.opened_besides(old := backend.another("bob"))
    backend.get(old.reserve(VISIT, LEASE, 10))
    backend.server.execute("UPDATE daemon SET up = up - 10000 WHERE name = 'bob'", backend.database)
    backend.opened_besides(backend.another("bob"))
    assert old.connection_counts().reconnects == 0
    assert until_answered(backend, lambda: old.reserve(VISIT, LEASE, 10))[0].busy is None
    assert old.connection_counts().reconnects == 1, "an answer over the connection before"


def test_a_visit_that_is_noted_much_later_does_not_set_its_time_back(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy
) -> None:
    """A scraper that comes regularly would be forgotten."""
    backend.take("p")
    held = backend.reserve("p", lease=10 * LEASE)
    proxy.arm(Cut.HELD, b";\nCOMMIT")
    for _ in range(2):
        assert until_answered(backend, lambda: store.reserve(VISIT, LEASE, 10))[0].busy == "in flight"
        backend.time.advance(LEASE)
    seen_at = backend.status("p").seen_at
    proxy.go_on.set()
    assert proxy.done.wait(20) and proxy.cuts == 1
    assert backend.status("p").seen_at == seen_at
    backend.settle(held)


def test_a_daemon_whose_row_was_removed_registers_again(
    backend: PostgreSQLBackend, store: PostgreSQLStore
) -> None:
    """A daemon that was paused for longer than upkeep keeps its row would grant no lease any more."""
    backend.append("a")
    with psycopg.connect(backend.address) as beside:
        beside.execute("DELETE FROM daemon")
    got, refused = until_answered(backend, lambda: store.reserve(VISIT, LEASE, 10))
    assert (series_of(got), refused) == (["a"], 0)


def test_a_restart_of_the_server_loses_and_doubles_nothing() -> None:
    """Every restart of the database would cost events."""
    with running_server(durable=True) as server:
        backend = PostgreSQLBackend(server, server.new_database())
        try:
            stores: list[IStore] = [backend.store, another := backend.another(None)]
            backend.opened_besides(another)
            sent = []
            for number in range(6):
                asked = [store.append([group(f"{number}-{index}")]) for index, store in enumerate(stores)]
                server.restart("immediate" if number % 2 else "fast")
                for index, deferred in enumerate(asked):
                    name = f"{number}-{index}"
                    try:
                        backend.get(deferred)
                    except StoreUnavailable:
                        until_answered_slowly(backend, partial(stores[index].append, [group(name)]))
                    sent.append(name)
            backend.time.reconnect()
            assert sorted(until_answered_slowly(backend, lambda: held(backend))) == sorted(sent)
        finally:
            backend.finish()


def held(backend: PostgreSQLBackend) -> Deferred[list[str]]:
    """The series of the log."""
    found: Deferred[list[str]] = Deferred()
    try:
        found.callback(backend.logged())
    except StoreUnavailable as error:
        found.errback(error)
    return found


def until_answered_slowly(backend: PostgreSQLBackend, ask: Callable[[], Deferred[Any]]) -> Any:
    """As `until_answered`, where the store waits between two attempts to connect."""
    for _ in range(10):
        try:
            return until_answered(backend, ask)[0]
        except AssertionError:
            backend.pause()
    raise AssertionError("no answer")
