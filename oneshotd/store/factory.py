"""Open a store by its kind; the only module that imports back ends."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorFromThreads

from oneshotd.errors import StoreRefused
from oneshotd.store.clock import Clock
from oneshotd.store.interface import IStore
from oneshotd.store.limits import Limits
from oneshotd.store.sqlite.store import SQLiteStore


def open_store(
    kind: str,
    place: str,
    reactor: IReactorFromThreads,
    *,
    limits: Limits,
    clock: Clock,
    committed: Callable[[float], object] = lambda seconds: None,
    name: str | None = None,
) -> IStore:
    """Open a store, or create it.

    :param kind: "sqlite" or "postgresql".
    :param place: its address: the path of the file, or a URI or connection string of libpq.
    :param reactor: answers are given in its thread.
    :param committed: called in the reactor's thread with the seconds of each commit.
    :param clock: for SQLite; PostgreSQL has its own.
    :param name: the daemon's name among those that share a database; without meaning for a file.
    :raises StoreRefused: it cannot be used, or no back end is of this kind.
    """
    if kind == "sqlite":
        return SQLiteStore(place, reactor, limits=limits, clock=clock, committed=committed)
    if kind == "postgresql":
        from oneshotd.store.postgresql.store import PostgreSQLStore  # costs the others nothing

        return PostgreSQLStore(place, reactor, limits=limits, committed=committed, name=name)
    raise StoreRefused(f"no store is of the kind {kind!r}")
