"""Which of several daemons on one store sends to a receiver. Pure.

The reservation alone decides who sends a request. But markers are in the memory of the daemon that has sent
the events, so one daemon at a time should send: the *leader*. A daemon leads from its start on, until it sees
that another one has moved the receiver's position in the log; it stands by then, and looks at the position at
intervals. It takes over when the position has not moved from one look to the next and

* events are pending, or
* it has moved since this daemon led: the leader may have died with markers in its memory.

Two leaders do no harm: one of them moves the position, and the other one stands by. Both send the same
markers, and the second one changes nothing.
"""

from __future__ import annotations

from enum import Enum

#: The place of a receiver in the log: its cursor, and how many events it is owed. A delivery changes it.
Position = tuple[int, int]


class Role(Enum):
    """The part of a daemon in a delivery.

    ``TAKE_OVER``: it leads from now on, and has to read what was delivered before.
    """

    LEAD = "lead"
    TAKE_OVER = "take over"
    STAND_BY = "stand by"


class Leadership:
    """The part of this daemon.

    :param shared: several daemons may use the store. Otherwise this one always leads.
    :ivar stands_by: it only looks at the position.
    """

    def __init__(self, shared: bool) -> None:
        self.stands_by = False
        self._shared = shared
        self._leads = False
        self._position: Position | None = None
        self._led_at: Position | None = None

    def looked(self, position: Position, has_pending: bool) -> bool:
        """Return whether a daemon that stands by may take over.

        :param position: of the receiver.
        :param has_pending: events are pending.
        """
        before, self._position = self._position, position
        return before == position and (has_pending or position != self._led_at)

    def reserved(self, position: Position) -> Role:
        """Return the part of this daemon, which has got a reservation."""
        if not self._leads:
            self._leads, self.stands_by = True, False
            self._position = self._led_at = position
            return Role.TAKE_OVER
        self.kept_out(position)
        return Role.STAND_BY if self.stands_by else Role.LEAD

    def kept_out(self, position: Position) -> None:
        """Note the position, for example where another daemon has the reservation."""
        if self._leads and self._shared and position != self._position:
            self._leads, self.stands_by = False, True
        self._position = position

    def moved(self, position: Position) -> None:
        """Note the position after a delivery of this daemon."""
        self._position = self._led_at = position

    def lost(self) -> None:
        """Note that another daemon had the reservation while this one was sending."""
        self._leads, self.stands_by, self._position = False, self._shared, None
