"""The state machine on stores that are moved to the other kind and back at each restart.

See `test_state_machine.py`: each scraper gets each event once, whatever happens, across moves.
"""

from __future__ import annotations

import pytest
from support.postgresql_server import PostgreSQLServer
from support.store_machine import run_machine
from support.transfers import MovedPostgreSQL, MovedSQLite

from oneshotd.store.postgresql import segments as postgresql_segments
from oneshotd.store.postgresql import transfer
from oneshotd.store.sqlite import segments


def test_sqlite_to_postgresql_and_back(
    server: PostgreSQLServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move would lose, double, reorder or age events, cursors, keys or losses."""
    monkeypatch.setattr(segments, "SEGMENT_EVENTS", 3)
    run_machine(lambda folder: MovedSQLite(folder, server, database), 10, shrink=False)


def test_postgresql_to_sqlite_and_back(
    server: PostgreSQLServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move would lose, double, reorder or age events, cursors, keys or losses."""
    monkeypatch.setattr(postgresql_segments, "SEGMENT_EVENTS", 3)
    monkeypatch.setattr(transfer, "TOUCHED_WITHIN", 0)
    run_machine(lambda folder: MovedPostgreSQL(folder, server, database), 10, shrink=False)
