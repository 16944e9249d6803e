"""Count the bytes that a peer has sent since a response began: a sign that it has read the response."""

from __future__ import annotations

import sys

from oneshotd.web.transport.socket_state import SendQueue
from oneshotd.web.transport.tracked import Connection


class FurtherBytes:
    """The bytes that a peer has sent since a response began, whether Twisted has read them or not.

    Without TLS the kernel counts the segments with data. Over TLS some of these carry no byte of a request
    (close_notify, an update of the keys), so there the bytes count that were decrypted; those that the
    kernel still holds may be either.

    :param queue: open as long as the object is used.
    """

    def __init__(self, connection: Connection, queue: SendQueue) -> None:
        self._connection = connection
        self._queue = queue
        self._at_start = self._count()
        self._when_delivered: int | None = 0
        self._unread, self._turns = sys.maxsize, 0

    def __str__(self) -> str:
        return f"{self._count()}, {self._at_start} before"

    def mark_delivered(self) -> None:
        """Note that the response is delivered now."""
        self._when_delivered = self._count()

    def may_be_there(self) -> bool:
        """Return whether there may be some since the start."""
        count = self._count()
        return count is None or count != self._at_start or self.unread() > 0

    def are_there_since_delivery(self) -> bool:
        """Return whether there certainly are some since the response was delivered."""
        count = self._count()
        return count is not None and count != self._when_delivered

    def unread(self) -> int:
        """Return the bytes before decryption that Twisted has not read; 0 without TLS."""
        return self._queue.unread() if self._connection.is_tls else 0

    def are_to_be_read(self) -> bool:
        """Return whether there are unread ones that Twisted may read in the next turn of the reactor.

        The caller calls again then. Twice without progress means that Twisted does not read.
        """
        unread = self.unread()
        if unread < self._unread:
            self._turns = 2  # the first may be the rest of this one
        self._unread = unread or sys.maxsize
        self._turns -= 1
        return unread > 0 and self._turns >= 0

    def _count(self) -> int | None:
        return self._connection.received if self._connection.is_tls else self._queue.segments_received()
