"""A PostgreSQL server for a test run, and a database that each test finds empty."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_proxy import CuttingProxy
from support.postgresql_server import PostgreSQLServer, running_server
from support.sqlite_backend import SQLiteBackend
from support.store_pair import Pair

from oneshotd.store.postgresql.store import PostgreSQLStore

#: The major version for all of these tests; without it, the one that is at hand.
VERSION = os.environ.get("ONESHOTD_TEST_POSTGRESQL")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these with the other tests of real processes: a server is fetched, and takes seconds to start."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[PostgreSQLServer]:
    version = getattr(request, "param", None) or (int(VERSION) if VERSION else None)
    with running_server(version=version) as server:
        yield server


@pytest.fixture(scope="session")
def database(server: PostgreSQLServer) -> str:
    return server.new_database()


@pytest.fixture
def backend(server: PostgreSQLServer, database: str) -> Iterator[PostgreSQLBackend]:
    backend = PostgreSQLBackend(server, database)
    yield backend
    backend.finish()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SQLiteBackend]:
    """A SQLite store, in another folder than the test's files."""
    (tmp_path / "file").mkdir()
    backend = SQLiteBackend(tmp_path / "file")
    yield backend
    backend.finish()


@pytest.fixture
def pair(backend: PostgreSQLBackend) -> Pair:
    return Pair(backend)


@pytest.fixture
def proxy(server: PostgreSQLServer) -> Iterator[CuttingProxy]:
    folder = Path(tempfile.mkdtemp(prefix="oneshotd-proxy-"))
    proxy = CuttingProxy(folder, server.socket)
    yield proxy
    proxy.close()
    shutil.rmtree(folder)


@pytest.fixture
def store(backend: PostgreSQLBackend, database: str, proxy: CuttingProxy) -> PostgreSQLStore:
    """A store behind the proxy; the backend's own is not."""
    assert backend.store, "opened"
    backend.address = f"host={proxy.folder} user=oneshotd dbname={database}"
    backend.opened_besides(store := backend.another(None))
    return store
