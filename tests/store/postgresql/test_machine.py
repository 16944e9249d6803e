"""The state machine on PostgreSQL: see `test_state_machine.py`; here the connections hold."""

from __future__ import annotations

import pytest
from support.calm_postgresql import CalmPostgreSQL
from support.postgresql_server import PostgreSQLServer
from support.store_machine import run_machine

from oneshotd.store.postgresql import segments


def test_the_ledger(server: PostgreSQLServer, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events would be lost, doubled, out of order or miscounted."""
    monkeypatch.setattr(segments, "SEGMENT_EVENTS", 3)  # so that a commit has several of them
    run_machine(lambda folder: CalmPostgreSQL(server, database), 10, shrink=False)
