"""A server that is killed, whose disk is full, or on which somebody waits: nothing is lost or doubled."""

from __future__ import annotations

import errno
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import choices
from string import ascii_letters
from typing import TypeVar

import psycopg
import pytest
from store.contract_details import TEXT, shown
from store.contract_states import about, count, end, start, values
from support.disks import FaultyDisk
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_proxy import Cut, CuttingProxy
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import until
from support.store_backends import LEASE, group
from twisted.internet.defer import Deferred

from oneshotd.core.events import Group, NewEvent
from oneshotd.core.identity import Visit
from oneshotd.errors import StoreUnavailable
from oneshotd.store.interface import Stored
from oneshotd.store.postgresql import lane
from oneshotd.store.postgresql.store import PostgreSQLStore

T = TypeVar("T")

VISIT = Visit(name="p", named=True)

#: Attempts of a client, some tenths of a second apart.
ATTEMPTS = 100


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again soon."""
    monkeypatch.setattr(lane, "RECONNECT_INTERVAL", 0.05)


def again(backend: PostgreSQLBackend, ask: Callable[[], Deferred[T]]) -> T:
    return backend.again(ask, ATTEMPTS)


@pytest.mark.parametrize("cut", [Cut.DROPPED, Cut.SWALLOWED, Cut.DELAYED])
@pytest.mark.parametrize("after", range(6))
def test_a_keyed_append_is_stored_once_wherever_its_connection_is_lost(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy, cut: Cut, after: int
) -> None:
    """A client that repeats a request with its key would double its events, or lose them."""
    backend.append("first", key="known")
    groups = [group("a", "b", key="new"), group("first", key="known"), group("c")]
    proxy.arm(cut, after=after)
    answers = again(backend, lambda: store.append(groups[:2]))
    repeated = again(backend, lambda: store.append(groups[:2]))
    assert [answer.first for answer in [*answers, *repeated] if isinstance(answer, Stored)] == [2, 1, 2, 1]
    proxy.arm(cut, after=after)
    assert again(backend, lambda: store.append([group("first", key="known")]))[0] == Stored(
        stored=1, first=1, again=True
    )
    assert backend.logged() == ["first", "a", "b"]


@pytest.mark.parametrize("cut", [Cut.DROPPED, Cut.SWALLOWED, Cut.DELAYED])
@pytest.mark.parametrize(
    ("burst", "after"),
    [
        *((0, after) for after in range(9)),
        *((20, after) for after in range(6, 18)),  # times ahead of the clock take a second attempt
    ],
)
def test_states_are_resolved_once_wherever_the_connection_is_lost(
    backend: PostgreSQLBackend,
    store: PostgreSQLStore,
    proxy: CuttingProxy,
    cut: Cut,
    burst: int,
    after: int,
) -> None:
    """A duration would be lost or counted twice, and so would what a sender has counted."""
    backend.append_groups(start("s"), count(3))
    backend.time.advance(5)
    if burst:
        backend.append(*["burst"] * burst)
    groups = [end("s", key="k"), count(7), start("t", key="l"), end("none")]
    proxy.arm(cut, after=after)
    assert again(backend, lambda: store.append(groups)) == [
        Stored(stored=1, first=burst + 4),
        Stored(stored=4, first=burst + 5),
        Stored(stored=1, first=burst + 9),
        Stored(stored=1, first=burst + 10),
    ]
    proxy.disarm()
    assert values(backend) == [about(5), -1]
    assert _states(backend) == {"c": 7, "t": int(backend.time.wall * 1000)}
    proxy.arm(cut, after=after % 8)
    assert again(backend, lambda: store.append(groups[:3])) == [Stored(stored=0, duplicates=1)] * 3
    proxy.disarm()
    assert _states(backend) == {"c": 7, "t": int(backend.time.wall * 1000)}
    assert len(backend.logged()) == burst + 10


def test_a_state_that_a_lost_session_holds_is_paired_once(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy
) -> None:
    """Two ends would have the duration, or neither, where a daemon is cut off in the middle of an append."""
    backend.append_groups(start())
    backend.time.advance(5)
    proxy.arm(Cut.LINGERS, b"keyed_state", after=1)  # behind the claim, while its last message is prepared
    with pytest.raises(StoreUnavailable):
        backend.get(store.append([end(), group("plain")]))
    again(backend, lambda: backend.store.append([end()]))
    again(backend, lambda: store.append([end()]))
    assert proxy.cuts == 1
    assert [value for value in values(backend) if value != -1] == [about(5)]


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("cut", [Cut.DROPPED, Cut.SWALLOWED, Cut.LINGERS, Cut.DELAYED])
def test_details_are_stored_once_and_with_their_events(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy, cut: Cut, key: str | None
) -> None:
    """A text would be lost, or be that of another event."""
    for number in range(1, 4):
        own = key and f"{key}{number}"
        asked = Group(events=[NewEvent("a"), NewEvent("needle", None, own, TEXT)])
        proxy.arm(cut, b"needle")
        again(backend, lambda: store.append([asked]))  # noqa: B023
        assert shown(backend) == {2 * each: TEXT for each in range(1, number + 1)}
    assert proxy.cuts == 3


def _states(backend: PostgreSQLBackend) -> dict[str, int]:
    """The keyed states in the database."""
    with psycopg.connect(backend.address) as connection:
        rows = connection.execute("SELECT convert_from(key, 'UTF8'), value FROM keyed_state").fetchall()
    return dict(rows)


@pytest.mark.parametrize("cut", [Cut.DROPPED, Cut.SWALLOWED, Cut.DELAYED])
@pytest.mark.parametrize("after", [0, 1, 2, 5, 9, 13, 17])
def test_retention_is_right_wherever_its_connection_is_lost(
    backend: PostgreSQLBackend, store: PostgreSQLStore, proxy: CuttingProxy, cut: Cut, after: int
) -> None:
    """Events that a scraper has to come would be deleted, or a loss be counted twice."""
    backend.take("p")
    backend.append("old", "older", key="k")
    backend.time.advance(3700)
    backend.append("new")
    proxy.arm(cut, after=after)
    again(backend, store.prune)
    again(backend, store.prune)
    stats = backend.stats()
    assert (stats.events, stats.head) == (1, 3)
    assert stats.lost == {("p", "away"): 3}
    assert backend.logged() == ["new"]


def test_kill_9_of_the_server_during_keyed_appends_and_retention() -> None:
    """A crash of the database would cost or double events that have a key."""
    with running_server(durable=True) as server:
        backend = PostgreSQLBackend(server, server.new_database())
        backend.limits = backend.limits.__class__(hold=3600.0, newcomers=300.0, max_events=100_000)
        try:
            assert backend.store
            stop = threading.Event()
            killed = threading.Thread(target=_kill_repeatedly, args=(server, stop))
            killed.start()
            sent = 0
            try:
                while killed.is_alive() or sent < 40:
                    name = f"s{sent}"
                    asked = [group(name, key=f"k{sent}"), count(sent + 1), *_pair(sent)]
                    again(backend, lambda: backend.store.append(asked))  # noqa: B023
                    if sent % 3 == 0:
                        again(backend, lambda: backend.store.append(asked))  # noqa: B023
                        again(backend, backend.store.prune)
                    sent += 1
            finally:
                stop.set()
                killed.join(60)
            backend.time.reconnect()
            again(backend, backend.store.stats)
            logged = Counter(backend.logged())
            assert [logged.pop(each) for each in ("counted", "begun", "ended")] == [sent + 1, sent, sent]
            assert logged == Counter(f"s{number}" for number in range(sent))
            assert values(backend) == [about(0)] * sent
        finally:
            backend.finish()


def _pair(number: int) -> list[Group]:
    """A start and its end, which each have a key."""
    return [start(f"s{number}", key=f"b{number}"), end(f"s{number}", key=f"e{number}")]


def _kill_repeatedly(server: PostgreSQLServer, stop: threading.Event) -> None:
    for _ in range(4):
        if stop.wait(0.7):  # between two crashes there is work
            return
        server.restart("immediate")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's user can read; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="oneshotd-disk-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.parametrize("files", ["/data/base/", "/data/pg_wal/"])
def test_a_full_disk_of_the_server_is_told_and_survived(open_folder: Path, files: str) -> None:
    """Events would be answered that are nowhere, or the daemon need a restart when there is room again."""
    disk = FaultyDisk(open_folder)
    with running_server(durable=True, variables={**disk.env, "FAULTY_FILES": files}) as server:
        backend = PostgreSQLBackend(server, server.new_database())
        try:
            stored = ["before"]
            backend.append("before")
            disk.fault(writes=errno.ENOSPC)
            names = [f"s{number}-" + "".join(choices(ascii_letters, k=20_000)) for number in range(200)]
            asked = [(name, backend.store.append([group(name)])) for name in names]
            if "wal" in files:  # a server that cannot write its log stops
                until(lambda: not _answers(server), 30, "the server has stopped")
                disk.heal()
                if (server.socket / "data" / "postmaster.pid").exists():
                    server.stop("immediate")
                server.start()
            for name, deferred in asked:
                with suppress(StoreUnavailable):
                    backend.get(deferred)
                    stored.append(name)
            disk.heal()
            backend.time.reconnect()
            again(backend, lambda: backend.store.append([group("after")]))
            assert len(stored) < 200, "nothing was refused"
            again(backend, backend.store.check)  # each lane has a connection of its own
            logged = backend.logged()
            assert logged[0] == "before" and logged[-1] == "after"
            assert len(set(logged)) == len(logged) and set(stored) < set(logged)
        finally:
            backend.finish()


def _answers(server: PostgreSQLServer) -> bool:
    try:
        psycopg.connect(server.address("postgres")).close()
    except psycopg.OperationalError:
        return False
    return True


def test_no_transaction_is_open_while_a_scrape_is_rendered_and_sent(
    backend: PostgreSQLBackend, database: str, server: PostgreSQLServer
) -> None:
    """A slow scraper would hold back autovacuum, and the tables grow."""
    backend.append(*(f"s{number}" for number in range(3000)))
    with psycopg.connect(server.address("postgres"), autocommit=True) as beside:

        def open_ones() -> int:
            row = beside.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = 'oneshotd'"
                " AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)",
                (database,),
            ).fetchone()
            assert row is not None
            return int(row[0])

        got = backend.reserve("p", limit=10_000)
        assert open_ones() == 0
        backend.settle(got)
        assert open_ones() == 0
        backend.release(got)
        backend.look("q")
        backend.stats()
        assert open_ones() == 0


def test_a_statement_that_takes_too_long_is_refused_and_changes_nothing(
    backend: PostgreSQLBackend, server: PostgreSQLServer, database: str
) -> None:
    """A scrape would wait for ever behind a lock that somebody has forgotten."""
    backend.append("a")
    backend.address = f"{backend.address} options='-c lock_timeout=200 -c statement_timeout=400'"
    backend.opened_besides(store := backend.another(None))
    with psycopg.connect(server.address(database)) as beside:
        backend.reserve("p", lease=1.0)
        beside.execute("SELECT FROM scraper FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            backend.get(store.reserve(VISIT, LEASE, 10))
    backend.time.advance(2)
    assert list(backend.get(store.reserve(VISIT, LEASE, 10)).pending.series) == ["a"]


def test_a_restart_of_the_server_is_noticed_by_idle_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request after a maintenance window would fail."""
    monkeypatch.setattr(lane, "IDLE_INTERVAL", 0.1)
    with running_server() as server:
        backend = PostgreSQLBackend(server, server.new_database())
        try:
            backend.append("a")
            server.restart()
            until(lambda: _sessions(server) >= 1, 20, "the daemon has connected again")
            backend.time.reconnect()
            again(backend, lambda: backend.store.append([group("b")]))
            assert backend.logged() == ["a", "b"]
        finally:
            backend.finish()


def _sessions(server: PostgreSQLServer) -> int:
    with psycopg.connect(server.address("postgres")) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'oneshotd'"
        ).fetchone()
    return int(row[0]) if row else 0
