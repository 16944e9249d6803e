"""Upgrades of the tables, with daemons of the older and the newer layout at work."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from support.postgresql_backend import PostgreSQLBackend
from support.processes import until
from support.store_backends import group

from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.postgresql import lane
from oneshotd.store.postgresql.schema import Schema, shipped

#: A layout that daemons of this version may go on using, and one that they may not.
ADDS = Schema((*shipped().scripts, "ALTER TABLE scraper ADD colour text; CREATE TABLE paint (id int)"))
BREAKS = Schema(
    (*ADDS.scripts, f"ALTER TABLE segment ADD shape int; UPDATE state SET oldest = {ADDS.layout + 1}")
)


def layout(backend: PostgreSQLBackend) -> tuple[int, int]:
    """The layout of the database, and the oldest one that may use it."""
    with psycopg.connect(backend.address) as connection:
        row = connection.execute("SELECT layout, oldest FROM state").fetchone()
    assert row is not None
    return row[0], row[1]


def test_an_old_daemon_works_on_beside_a_new_one(backend: PostgreSQLBackend) -> None:
    """An upgrade of a cluster would need all daemons to be stopped."""
    backend.append("a")
    assert backend.take("p") == ["a"]
    backend.opened_besides(new := backend.another(None, ADDS))
    assert layout(backend) == (ADDS.layout, 1)
    backend.append("b", key="k")
    assert backend.get(new.append([group("c")]))
    backend.opened_besides(backend.another(None))  # an old one starts again
    assert backend.take("p") == ["b", "c"]
    backend.prune()
    assert backend.stats().events == 3


def test_several_new_daemons_upgrade_once(backend: PostgreSQLBackend) -> None:
    """Daemons that are started at the same time would fail, or upgrade twice."""
    backend.append("a")
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: backend.another(None, ADDS), range(4)))
    for store in stores:
        backend.opened_besides(store)
        backend.get(store.append([group("b")]))
    assert layout(backend) == (ADDS.layout, 1)
    assert len(backend.logged()) == 5


def test_an_empty_database_gets_all_layouts_in_order(backend: PostgreSQLBackend) -> None:
    """A new database would lack what upgrades have added."""
    with ThreadPoolExecutor(3) as threads:
        stores = list(threads.map(lambda _: backend.another(None, BREAKS), range(3)))
    for store in stores:
        backend.opened_besides(store)
    assert layout(backend) == (BREAKS.layout, BREAKS.layout)


def test_a_layout_for_newer_daemons_only_stops_the_older_ones(
    backend: PostgreSQLBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older daemon would damage what a newer one has written."""
    monkeypatch.setattr(lane, "IDLE_INTERVAL", 0.05)
    monkeypatch.setattr(lane, "RECONNECT_INTERVAL", 0.05)
    backend.append("a")
    backend.opened_besides(new := backend.another(None, BREAKS))
    told = (
        f"the database has layout {BREAKS.layout}, this oneshotd knows {shipped().layout},"
        f" .* may use it knows {BREAKS.layout}"
    )
    with pytest.raises(StoreUnavailable, match=told):
        backend.append("b")
    with pytest.raises(StoreUnavailable, match=told):
        backend.append("b", key="k")

    def refused() -> bool:
        try:
            backend.take("p")
        except StoreUnavailable as error:
            return "upgraded by a newer version" in str(error)
        return False

    until(refused, 20, "scrapes are refused, too")
    with pytest.raises(StoreRefused, match=told):
        backend.another(None)
    assert backend.get(new.append([group("c")]))
    assert backend.get(new.stats()).events == 2


def test_an_upgrade_that_fails_changes_nothing(backend: PostgreSQLBackend) -> None:
    """A half of an upgrade would be neither layout."""
    backend.append("a")
    wrong = Schema((*ADDS.scripts, "CREATE TABLE half (id int); SELECT 1 / 0"))
    with pytest.raises(StoreRefused, match="division by zero"):
        backend.another(None, wrong)
    assert layout(backend) == (shipped().layout, 1)
    with psycopg.connect(backend.address) as connection:
        assert connection.execute("SELECT to_regclass('paint'), to_regclass('half')").fetchone() == (
            None,
            None,
        )
    backend.append("b")


def test_an_upgrade_beside_a_busy_daemon(backend: PostgreSQLBackend) -> None:
    """A rolling upgrade would refuse events, or fail, while events come."""
    assert backend.store
    stop = threading.Event()

    def upgrade() -> None:
        store = backend.another(None, ADDS)
        backend.opened_besides(store)
        stop.set()

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(upgrade)
        sent = 0
        while not stop.is_set() and not done.done():
            backend.append(f"s{sent}")
            sent += 1
        done.result(30)
    assert len(backend.logged()) == sent
