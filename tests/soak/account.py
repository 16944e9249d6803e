"""What one scraper of a campaign has read, and what it has thrown away."""

from __future__ import annotations

from collections import Counter

from attrs import Factory, define
from soak.exchange import Exchange
from soak.marks import Reading


@define(eq=False)
class Thrown:
    """A whole response that was left unread.

    :param exchange: of the scraper, None in tests that need none.
    """

    reading: Reading
    exchange: Exchange | None = None

    @property
    def is_excused(self) -> bool:
        """Whether the daemon need not know that it is unread."""
        return self.exchange is not None and self.exchange.is_excused


@define(eq=False)
class Account:
    """What one scraper has read, and what it has thrown away unread.

    :ivar exchanges: all its scrapes.
    :ivar reach: the latest beginning of a sending of which it has read a part.
    :ivar waiting: (answered, identity, amount due) that it has not been seen to have.
    """

    readings: list[Reading] = Factory(list)
    thrown: list[Thrown] = Factory(list)
    exchanges: list[Exchange] = Factory(list)
    total: Counter[str] = Factory(Counter)
    first_read: dict[str, float] = Factory(dict)
    newest_value: dict[str, int] = Factory(dict)
    reach: float = 0.0
    waiting: list[tuple[float, str, int]] = Factory(list)
