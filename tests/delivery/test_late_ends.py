"""Deliveries that end after their lease, in any order: see `support.late_ends`."""

from __future__ import annotations

from pathlib import Path

from support.examples import examples
from support.late_ends import run_late_ends
from support.sqlite_backend import SQLiteBackend
from support.store_backends import Backend

from oneshotd.store.interface import IStore


def test_what_is_told_too_late_is_counted() -> None:
    """Events would be lost, or go out twice, in silence, after a pause of the daemon."""

    def open_stores(folder: Path) -> tuple[Backend, list[IStore]]:
        backend = SQLiteBackend(folder)
        return backend, [backend.store, backend.store]

    run_late_ends(open_stores, examples(80).max_examples, shrink=False)
