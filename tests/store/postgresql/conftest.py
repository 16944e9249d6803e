"""A PostgreSQL server for a test run, and a database that each test finds empty."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer, running_server

#: The major version for all of these tests; without it, the one that is at hand.
VERSION = os.environ.get("ONESHOTD_TEST_POSTGRESQL")


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
