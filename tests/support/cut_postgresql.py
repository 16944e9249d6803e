"""The PostgreSQL store under the state machine, over connections that are cut."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from support.calm_postgresql import CalmPostgreSQL
from support.failing_connection import Trouble
from support.postgresql_proxy import Cut, CuttingProxy
from support.postgresql_server import PostgreSQLServer
from support.processes import until

from oneshotd.store.interface import IStore

#: A request that never arrives was not carried out; one whose answer is lost was, which the store finds out.
_CUTS = {
    Trouble.FULL: Cut.DROPPED,
    Trouble.BROKEN: Cut.DROPPED,
    Trouble.LOST: Cut.DELAYED,
    Trouble.DONE: Cut.SWALLOWED,
}


class CutPostgreSQL(CalmPostgreSQL):
    """A store behind a proxy. Every request is answered: done, or refused and not done."""

    def __init__(self, server: PostgreSQLServer, database: str) -> None:
        super().__init__(server, database)
        self._folder = Path(tempfile.mkdtemp(prefix="oneshotd-proxy-"))
        self._proxy = CuttingProxy(self._folder, server.socket)
        self.address = f"host={self._folder} user=oneshotd dbname={database}"
        self._fails = False

    def _open(self) -> IStore:
        self.mend()  # a daemon that cannot connect at the start does not start
        return super()._open()

    def _die(self) -> None:
        """End the old store, whose last heartbeat comes to the server before it counts as silent."""
        self.kill(self._opened[-1])
        until(lambda: self._proxy.is_calm, 20, "no request is under way")
        super()._die()

    def fail(self, trouble: Trouble, after: int, lasting: bool) -> None:
        """Cut the connection of one of the next requests."""
        self._fails = True
        self._proxy.arm(_CUTS[trouble], after=after)

    def mend(self) -> None:
        self._fails = False
        self._proxy.disarm()

    @property
    def in_trouble(self) -> bool:
        return self._fails

    def finish(self) -> None:
        self.mend()
        super().finish()
        self._proxy.close()
        shutil.rmtree(self._folder, ignore_errors=True)
