"""Deliveries of two daemons that end after their lease, in any order: see `support.late_ends`."""

from __future__ import annotations

from pathlib import Path

from support.late_ends import run_late_ends
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer
from support.store_backends import Backend

from oneshotd.store.interface import IStore


def test_what_is_told_too_late_is_counted(server: PostgreSQLServer, database: str) -> None:
    """Events would be lost, or go out twice, in silence, after a pause of a daemon."""

    def open_stores(folder: Path) -> tuple[Backend, list[IStore]]:
        backend = PostgreSQLBackend(server, database)
        stores = [backend.store, backend.another("bob")]
        backend.opened_besides(stores[1])
        return backend, stores

    run_late_ends(open_stores, 12, shrink=False)
