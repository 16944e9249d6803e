"""What the model of the store keeps: events, leases, scrapers, keys, states. Pending events without some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define, evolve, field, frozen

from oneshotd.core.events import NewEvent, Pending
from oneshotd.core.identity import LIVE_AFTER
from oneshotd.core.sampling.mode import NO_HISTORY, TimestampHistory
from oneshotd.store.interface import Stored


@define
class Record:
    """An accepted event.

    :ivar batch: seqs of the first and the last event that came to disk with it.
    :ivar wall: Unix ms of the wall clock at its acceptance.
    :ivar at: as the store has told it; None until it has.
    """

    seq: int
    series: str
    value: str | None
    up: int
    wall: int
    batch: list[int]
    detail: str = ""
    at: int | None = None


@define(eq=False)
class Lease:
    """A delivery under way.

    :ivar until: monotonic seconds at which it lapses.
    :ivar floor: no event from this seq on may go.
    :ivar asked: the end of it was asked for; it does not lapse any more until that is answered, or done
        (`FrailBackend.keeps_leases`).
    :ivar lost: reason -> what it loses for good once it is delivered.
    """

    until: float
    floor: int
    asked: bool = False
    delivered: frozenset[int] = frozenset()
    lost: Mapping[str, frozenset[int]] = field(factory=dict)
    was_owed: frozenset[int] = frozenset()
    was_ahead: frozenset[int] = frozenset()
    earlier_history: TimestampHistory = NO_HISTORY

    def lapsed(self, now: float) -> bool:
        """Whether the scraper may be served anew although nobody has ended this."""
        return now >= self.until and not self.asked


@define(eq=False)
class Scraper:
    """A scraper that the store knows.

    :ivar ahead: what it has to come from the log.
    :ivar owed: what it has to come and has been passed over; the log may have dropped it.
    :ivar seen: up-time (ms) of its last visit.
    :ivar surely_seen: the least that the store knows of it: a kill forgets what upkeep has not
        written.
    :ivar history: in which mode it was served last, and up to when; the store only keeps it.
    """

    named: bool
    ahead: set[int]
    promised: set[int]
    seen: int
    surely_seen: int
    seen_on_disk: int
    owed: set[int] = field(factory=set)
    delivered: set[int] = field(factory=set)
    lost: set[int] = field(factory=set)
    answered: int = 0
    history: TimestampHistory = NO_HISTORY
    lease: Lease | None = None

    @property
    def live(self) -> bool:
        """Whether events wait for it."""
        return self.named or self.answered >= LIVE_AFTER

    @property
    def to_come(self) -> list[int]:
        """In the order in which it is read."""
        return sorted(self.owed) + sorted(self.ahead)


@frozen
class Key:
    """An idempotency key, with what came with it and what was answered."""

    content: tuple[tuple[str, str | None], ...]
    answer: Stored
    up: int


@frozen
class Kept:
    """The count of a state, and the up-time (ms) at which it expires."""

    count: int
    until: int


def content(events: Iterable[NewEvent]) -> tuple[tuple[str, str | None], ...]:
    """What makes two groups the same."""
    return tuple((event.series, event.value) for event in events)


def without(pending: Pending, seqs: set[int]) -> Pending:
    """The pending events but for these."""
    kept = [row for row, seq in enumerate(pending.seqs) if seq not in seqs]
    gone_owed = pending.owed - sum(row < pending.owed for row in kept)
    return evolve(
        pending,
        seqs=[pending.seqs[row] for row in kept],
        series=[pending.series[row] for row in kept],
        values=[pending.values[row] for row in kept],
        ats=[pending.ats[row] for row in kept],
        owed=pending.owed - gone_owed,
        owed_total=pending.owed_total - gone_owed,
    )
