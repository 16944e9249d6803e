"""Interfaces beside `IStore`, each of which only some back ends have."""

from __future__ import annotations

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Interface


@frozen(kw_only=True)
class ConnectionCounts:
    """Counts of a store's connections, since the start.

    :param reconnects: connections that were opened again.
    :param in_doubt: commits whose outcome was not known at first.
    """

    reconnects: int = 0
    in_doubt: int = 0


class IConnected(Interface):
    """A store that is reached over connections."""

    def connection_counts() -> ConnectionCounts:
        """Return the counts of its connections."""

    def durability() -> str:
        """Return where an event is that was answered with 200, as the predicate of a sentence."""


class IBackup(Interface):
    """A store that can copy itself into a file; others are copied by the tools of their database."""

    def backup(path: str) -> Deferred[None]:
        """Write a consistent copy of the store, as it is at the end of copying, into a new file.

        The copy is on disk when the Deferred fires, and has another name until then. Other requests are
        answered meanwhile. `IStore.close` ends the copy; cancelling the Deferred does not.

        :raises CopyFailed: the file exists, or cannot be written; nothing is left of the copy.
        :raises StoreUnavailable: the store cannot be read, or is being closed.
        """
