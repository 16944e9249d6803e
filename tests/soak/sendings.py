"""What the books keep of what was sent, and of the times in which it may get lost."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, frozen


@define(eq=False, kw_only=True)
class Sending:
    """One request or datagram; its events are stored together or not at all.

    :param amounts: identity -> how many.
    :param began: monotonic seconds before its first byte.
    :ivar gone: monotonic seconds at which a datagram was with the kernel.
    :ivar answered: monotonic seconds of its 200, None if none came.
    :ivar refused: the daemon said that it is not stored.
    """

    door: str
    amounts: Mapping[str, int]
    began: float
    gone: float = 0.0
    answered: float | None = None
    refused: bool = False

    @property
    def events(self) -> int:
        """How many events it has."""
        return sum(self.amounts.values())


@frozen(kw_only=True)
class Outage:
    """The time in which a datagram may get lost: from `began` to `ended`, monotonic seconds."""

    began: float
    ended: float
