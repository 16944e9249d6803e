"""How a database is opened: made, recognised, or refused with the reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer
from support.processes import until
from support.store_backends import group
from twisted.logger import capturedLogs

from oneshotd.core.filters import Selection
from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.abilities import IConnected
from oneshotd.store.interface import Stored
from oneshotd.store.postgresql.link import Link
from oneshotd.store.postgresql.store import PostgreSQLStore


def execute(backend: PostgreSQLBackend, statement: str) -> None:
    """Run a statement beside the store."""
    with psycopg.connect(backend.address, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_several_daemons_that_start_at_once_make_the_tables_once(backend: PostgreSQLBackend) -> None:
    """The first start of a cluster would fail by chance."""
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(backend.another, [None] * 4))
    for store in stores:
        backend.opened_besides(store)
    answers = [backend.get(store.append([group("a")]))[0] for store in stores]
    assert [answer.first for answer in answers if isinstance(answer, Stored)] == [1, 2, 3, 4]


def test_the_tables_of_another_program_are_left_alone(backend: PostgreSQLBackend) -> None:
    """A typing error in the address would mix events into the data of another program."""
    execute(backend, "CREATE TABLE orders (id int)")
    with pytest.raises(StoreRefused, match="has tables, but not those of oneshotd"):
        backend.another(None)


def test_a_database_without_every_character_is_refused(
    backend: PostgreSQLBackend, server: PostgreSQLServer, database: str
) -> None:
    """The server would convert each text, or fail at the first event that it cannot convert."""
    other = f"{database}_latin"
    server.execute(f"CREATE DATABASE {other} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    address = backend.address
    backend.address = address.replace(f"dbname={database}", f"dbname={other}")
    assert backend.address != address
    try:
        with pytest.raises(StoreRefused, match="has the encoding LATIN1: create one with ENCODING 'UTF8'"):
            backend.another(None)
    finally:
        backend.address = address
        server.execute(f"DROP DATABASE {other} WITH (FORCE)")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_the_encoding_of_the_environment_does_not_count(
    backend: PostgreSQLBackend, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Events would be stored with other characters than they had."""
    monkeypatch.setenv("PGCLIENTENCODING", encoding)
    address, backend.address = backend.address, f"{backend.address} client_encoding={encoding}"
    store = backend.another(None)
    backend.opened_besides(store)
    backend.get(store.append([group("ä€😀")]))
    backend.address = address
    page = backend.get(store.recent(Selection(), None, 10))
    assert [event.series for event in page.events] == ["ä€😀"]


def test_a_database_that_is_not_there_is_named(backend: PostgreSQLBackend) -> None:
    """The operator would not learn why the daemon does not start."""
    backend.address = backend.address.replace("dbname=", "dbname=no")
    with pytest.raises(StoreRefused, match=r"cannot open the PostgreSQL store: .*does not exist"):
        backend.another(None)


def test_a_wrong_address_is_refused(backend: PostgreSQLBackend) -> None:
    """A typing error would end in a traceback."""
    backend.address = "hots=x dbname=y"
    with pytest.raises(StoreRefused, match=r"cannot open the PostgreSQL store: .*hots"):
        backend.another(None)


def test_a_server_that_refuses_to_write_is_told_and_comes_back(
    backend: PostgreSQLBackend, database: str, server: PostgreSQLServer
) -> None:
    """After a failover to the wrong host, events would be answered that are nowhere."""
    backend.append("a")
    server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    try:
        server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            " AND application_name = 'oneshotd'"
        )
        store = backend.store
        assert isinstance(store, PostgreSQLStore)
        in_doubt = store.append([group("b")])  # its connection is gone
        until(lambda: not store._appends.waiting, 10, "it is begun")
        with pytest.raises(StoreUnavailable, match=r"database cannot be used: .*read-only"):
            backend.append("c")
        with pytest.raises(StoreRefused, match="read-only"):
            backend.another(None)
    finally:
        server.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            " AND application_name = 'oneshotd'"
        )
    with pytest.raises(StoreUnavailable):
        backend.get(in_doubt)
    assert backend.append("d") == Stored(stored=1, first=2)
    backend.time.reconnect()
    assert backend.logged() == ["a", "d"]


def test_a_lock_that_somebody_holds_is_a_refusal_that_stores_nothing(backend: PostgreSQLBackend) -> None:
    """A forgotten transaction would keep clients waiting for ever."""
    backend.append("a")
    with psycopg.connect(backend.address) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(7, 1)")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            backend.append("b")
    assert backend.append("c") == Stored(stored=1, first=2)
    assert backend.logged() == ["a", "c"]


def test_the_log_says_what_an_answer_means(backend: PostgreSQLBackend, database: str) -> None:
    """An operator would believe in a standby that is not there."""
    with capturedLogs() as captured:
        for settings in ("off", "local", "on"):
            backend.address = f"{backend.address} options='-c synchronous_commit={settings}'"
            backend.opened_besides(backend.another(None))
            backend.address = backend.address.partition(" options=")[0]
    said = [event["meaning"] for event in captured if "meaning" in event]
    assert said[0].startswith("may be lost by a crash")
    assert said[1] == "is on the disk of the database server"
    assert said[2] == "is on the disk of the database server and of no standby (synchronous_standby_names)"


def test_a_database_with_a_stricter_isolation_works(backend: PostgreSQLBackend, database: str) -> None:
    """Appends of two daemons would refuse each other where the operator has set it for the database."""
    execute(backend, f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'")
    try:
        stores = [backend.another(None) for _ in range(2)]
        for store in stores:
            backend.opened_besides(store)
        asked = [store.append([group("a")]) for _ in range(20) for store in stores]
        for deferred in asked:
            backend.get(deferred)
        assert len(backend.events()) == 40
    finally:
        execute(backend, f"ALTER DATABASE {database} RESET default_transaction_isolation")


def test_a_cancelled_wait_for_the_standby_is_no_answer(backend: PostgreSQLBackend) -> None:
    """PostgreSQL reports it as a success; a failover would take the event away."""
    link = Link(backend.address)
    try:
        link.connection.execute(
            "DO $$ BEGIN RAISE WARNING 'canceling wait for synchronous replication due to user request'"
            " USING ERRCODE = '01000'; END $$"
        )
        assert link.has_doubt
    finally:
        link.close()


def test_what_an_answer_means_is_there_for_the_page(backend: PostgreSQLBackend) -> None:
    """An operator would look for it in a log of weeks ago."""
    store = backend.store
    assert IConnected.providedBy(store)
    assert (
        IConnected(store).durability().startswith("is on the disk of the database server and of no standby")
    )
