"""A PostgreSQL server for a test run, and a database that each test finds empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQLServer]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def database(server: PostgreSQLServer) -> str:
    return server.new_database()


@pytest.fixture
def backend(server: PostgreSQLServer, database: str) -> Iterator[PostgreSQLBackend]:
    backend = PostgreSQLBackend(server, database)
    yield backend
    backend.finish()
