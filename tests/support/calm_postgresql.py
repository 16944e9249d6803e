"""The PostgreSQL store under the state machine, on a server that does not fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from support.failing_connection import FrailBackend, Trouble, watch
from support.postgresql_backend import PostgreSQLBackend
from support.postgresql_server import PostgreSQLServer
from twisted.internet.defer import Deferred, DeferredList


class CalmPostgreSQL(PostgreSQLBackend, FrailBackend):
    """A store whose connections hold. A step of the wall clock counts no up-time here."""

    in_order = False
    keeps_time = True
    keeps_leases = False

    def __init__(self, server: PostgreSQLServer, database: str) -> None:
        super().__init__(server, database)
        self.time.counts_steps = False

    def fail(self, trouble: Trouble, after: int, lasting: bool) -> None:
        """Nothing fails."""

    def mend(self) -> None:
        """Nothing has failed."""

    @property
    def in_trouble(self) -> bool:
        return False

    @property
    def came_through(self) -> bool:
        return False

    def wait(self, asked: Sequence[Deferred[Any]]) -> None:
        self.get(DeferredList([watch(deferred) for deferred in asked]))
