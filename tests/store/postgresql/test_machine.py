"""The state machine on PostgreSQL: see `test_state_machine.py`. Connections hold, or are cut anywhere."""

from __future__ import annotations

import pytest
from support.calm_postgresql import CalmPostgreSQL
from support.cut_postgresql import CutPostgreSQL
from support.postgresql_server import PostgreSQLServer
from support.store_machine import run_machine

from oneshotd.store.postgresql import lane, segments


def test_the_ledger(server: PostgreSQLServer, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events would be lost, doubled, out of order or miscounted."""
    monkeypatch.setattr(segments, "SEGMENT_EVENTS", 3)  # so that a commit has several of them
    run_machine(lambda folder: CalmPostgreSQL(server, database), 10, shrink=False)


def test_the_ledger_over_connections_that_are_cut(
    server: PostgreSQLServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a connection is lost, events would be lost, doubled, out of order or miscounted."""
    monkeypatch.setattr(segments, "SEGMENT_EVENTS", 3)
    monkeypatch.setattr(lane, "RECONNECT_INTERVAL", 0.02)
    run_machine(lambda folder: CutPostgreSQL(server, database), 10, shrink=False)
