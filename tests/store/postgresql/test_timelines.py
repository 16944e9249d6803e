"""An old primary that comes back beside the standby that was promoted, and hosts that take no writes."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer, running_server
from support.processes import until
from support.store_backends import group

from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.interface import Stored
from oneshotd.store.postgresql import lane
from oneshotd.store.postgresql.store import PostgreSQLStore
from oneshotd.store.postgresql.timelines import orders


@pytest.fixture
def hosts() -> Iterator[tuple[PostgreSQLServer, PostgreSQLServer]]:
    """A primary and its standby, which has all that the primary has when it is promoted."""
    with running_server(durable=True) as primary, running_server(durable=True, copy_of=primary) as standby:
        yield primary, standby


@pytest.fixture
def backend(hosts: tuple[PostgreSQLServer, PostgreSQLServer]) -> Iterator[PostgreSQLBackend]:
    primary, standby = hosts
    database = primary.new_database()
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")
    backend = PostgreSQLBackend(primary, database)
    backend.address = f"host={primary.socket},{standby.socket} user=oneshotd dbname={database}"
    yield backend
    backend.finish()


def again(backend: PostgreSQLBackend, series: str) -> None:
    """Report an event until it is taken."""
    backend.again(lambda: backend.store.append([group(series)]))


def end_sessions(server: PostgreSQLServer) -> None:
    """Let the daemon connect again."""
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oneshotd'"
    )


@pytest.mark.e2e
def test_the_old_primary_is_passed_over_when_it_comes_back(
    backend: PostgreSQLBackend,
    hosts: tuple[PostgreSQLServer, PostgreSQLServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events would be answered that the cluster never has, and deliveries repeated."""
    monkeypatch.setattr(lane, "RECONNECT_INTERVAL", 0.1)
    primary, standby = hosts
    backend.append("before")
    primary.stop("immediate")
    standby.promote()
    again(backend, "after")  # a promoted standby is accepted
    primary.start()  # and without a standby of its own, it would answer
    primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
    primary.execute("SELECT pg_reload_conf()")
    for number in range(3):
        end_sessions(standby)
        again(backend, f"later{number}")
    backend.time.reconnect()
    events = [series for series in backend.logged() if series != "later0"]
    assert events[:2] == ["before", "after"] and len(backend.logged()) >= 5
    with psycopg.connect(primary.address(backend.address.rpartition("dbname=")[2])) as old:
        assert old.execute("SELECT count(*) FROM segment").fetchone() == (1,)
    standby.stop("immediate")
    in_doubt = backend.store.append([group("lost")])  # it is in flight, or waits for the answer of this one
    in_doubt.addErrback(lambda failure: None)
    store = backend.store
    assert isinstance(store, PostgreSQLStore)
    until(lambda: not store._appends.waiting, 10, "it is begun")
    until(lambda: refused(backend), 30, "the only one that answers is the old one")
    standby.start()
    again(backend, "at last")


def refused(backend: PostgreSQLBackend) -> bool:
    """Whether an event is refused because of the timeline."""
    try:
        backend.append("lost")
    except StoreUnavailable as error:
        return "is on timeline 1, and another one has been promoted to 2" in str(error)
    raise AssertionError("the old primary took an event")


@pytest.mark.e2e
def test_a_standby_that_comes_first_in_the_address_is_passed_over(
    hosts: tuple[PostgreSQLServer, PostgreSQLServer], backend: PostgreSQLBackend
) -> None:
    """The order of hosts would decide whether a daemon starts."""
    primary, standby = hosts
    name = backend.address.rpartition("dbname=")[2]
    backend.append("a")
    backend.address = f"host={standby.socket},{primary.socket} user=oneshotd dbname={name}"
    backend.opened_besides(backend.another(None))
    backend.address = f"host={standby.socket} user=oneshotd dbname={name}"
    with pytest.raises(StoreRefused, match="read-only"):
        backend.another(None)


@pytest.mark.e2e
def test_a_primary_that_takes_no_more_writes_is_left(
    hosts: tuple[PostgreSQLServer, PostgreSQLServer],
    backend: PostgreSQLBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The daemon would stay on a server that was put aside, while another one takes writes."""
    monkeypatch.setattr(lane, "RECONNECT_INTERVAL", 0.1)
    primary, standby = hosts
    backend.append("a")
    primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    primary.execute("SELECT pg_reload_conf()")
    until(lambda: not takes(backend), 20, "the setting is in force")
    standby.promote()
    again(backend, "b")
    # The other connection leaves with its next write.
    until(lambda: backend.logged()[-1] == "b", 20, "the event is read where it was written")
    assert backend.logged()[0] == "a"


def takes(backend: PostgreSQLBackend) -> bool:
    """Whether an event is stored."""
    try:
        return isinstance(backend.append("x"), Stored)
    except StoreUnavailable:
        return False


def test_each_host_comes_first_once() -> None:
    assert list(orders("host=a,b port=1,2 dbname=x")) == [
        "dbname=x host=a,b port=1,2",
        "dbname=x host=b,a port=2,1",
    ]
    assert [each.split()[1] for each in orders("postgresql://a,b/x")] == ["host=a,b", "host=b,a"]
    assert len(list(orders("dbname=x port=1"))) == 1
