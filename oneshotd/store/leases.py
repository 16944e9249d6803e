"""Reservations: what is set aside for a response, from `reserve` until it is final.

Memory only. A daemon that dies takes them along, which is what makes them *returned*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from attrs import evolve, frozen

from oneshotd.core.events import Event, Pending
from oneshotd.core.sampling.mode import NO_HISTORY, TimestampHistory

#: Ended tokens remembered, to tell "already" from "superseded".
ENDED_TOKENS = 1000


@frozen(kw_only=True)
class Lease:
    """One reservation.

    :param until: monotonic seconds at which it lapses if nobody settles it.
    :param cursor: the scraper's cursor when it reserved.
    :param past: what it had been shown then.
    :param answered: how many of its scrapes had been delivered then.
    :param timed: the visit carried X-Prometheus-Scrape-Timeout-Seconds.
    :param delivered: it was settled so; what follows is there to undo it.
    :param went_out: the owed events that are no longer owed, the lost ones among them.
    :param lost: reason -> events that were counted as lost.
    """

    token: int
    scraper: str
    until: float
    cursor: int
    timed: bool
    past: TimestampHistory = NO_HISTORY
    answered: int = 0
    pending: Pending = Pending()
    delivered: bool = False
    newly_owed: tuple[int, ...] = ()
    went_out: tuple[Event, ...] = ()
    lost: Mapping[str, int] = MappingProxyType({})

    def rows(self, seqs: set[int]) -> list[Event]:
        """The pending events with these seqs."""
        if not seqs:
            return []
        pending = self.pending
        columns = zip(pending.seqs, pending.ats, pending.series, pending.values, strict=True)
        return [Event(*row) for row in columns if row[0] in seqs]


class Leases:
    """At most one lease for each scraper.

    `snapshot` and `restore` make them follow a transaction that is rolled back.
    """

    def __init__(self) -> None:
        self._by_token: dict[int, Lease] = {}
        self._by_scraper: dict[str, int] = {}
        self._ended: deque[int] = deque(maxlen=ENDED_TOKENS)
        self._last = 0
        #: Tokens whose settlement or revocation has been asked for; they never lapse.
        self.settling: set[int] = set()

    def of(self, scraper: str, now: float) -> Lease | None:
        """The scraper's lease, unless it has lapsed."""
        token = self._by_scraper.get(scraper)
        if token is None:
            return None
        lease = self._by_token[token]
        if self._has_lapsed(lease, now):
            self._drop(lease)
            return None
        return lease

    def holds(self, scraper: str, now: float) -> bool:
        """Whether it has a lease that has not lapsed; one that has stays, for a late settlement."""
        token = self._by_scraper.get(scraper)
        return token is not None and not self._has_lapsed(self._by_token[token], now)

    def _has_lapsed(self, lease: Lease, now: float) -> bool:
        return now >= lease.until and lease.token not in self.settling

    def get(self, token: int) -> Lease | None:
        """The lease with this token, lapsed or not, as long as nobody took its place."""
        return self._by_token.get(token)

    def events(self) -> Iterator[tuple[int, int, str]]:
        """seq, `at` and series of all events that a settlement or a revocation may make owed."""
        for lease in self._by_token.values():
            pending = lease.pending
            yield from zip(pending.seqs, pending.ats, pending.series, strict=True)
            yield from ((event.seq, event.at, event.series) for event in lease.went_out)

    @property
    def last(self) -> int:
        """The token that was granted last."""
        return self._last

    def grant(
        self,
        scraper: str,
        until: float,
        pending: Pending,
        timed: bool,
        past: TimestampHistory = NO_HISTORY,
        answered: int = 0,
    ) -> Lease:
        """A new lease; the caller has made sure that the scraper has none."""
        self._last += 1
        lease = Lease(
            token=self._last,
            scraper=scraper,
            until=until,
            cursor=pending.cursor,
            timed=timed,
            past=past,
            answered=answered,
            pending=pending,
        )
        self._put(lease)
        return lease

    def delivered(
        self,
        lease: Lease,
        newly_owed: tuple[int, ...],
        went_out: tuple[Event, ...],
        lost: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Keep what is needed to undo the delivery, and no more."""
        self._put(
            evolve(
                lease,
                delivered=True,
                newly_owed=newly_owed,
                went_out=went_out,
                lost=lost,
                pending=Pending(),
            )
        )

    def end(self, lease: Lease) -> None:
        """The scraper may reserve again."""
        self._drop(lease)
        self._ended.append(lease.token)

    def has_ended(self, token: int) -> bool:
        """Whether the token was settled to its end (and did not lapse)."""
        return token in self._ended

    def lowest(self, now: float) -> int | None:
        """The lowest cursor that a lease may fall back to: nothing beyond it may be pruned."""
        held = (self.of(lease.scraper, now) for lease in tuple(self._by_token.values()))
        return min((lease.cursor for lease in held if lease is not None), default=None)

    def clear(self) -> None:
        """Nothing is reserved any more, and no token is known."""
        self._by_token, self._by_scraper = {}, {}
        self._ended.clear()

    def snapshot(self) -> object:
        """The state to come back to."""
        return dict(self._by_token), dict(self._by_scraper)

    def restore(self, state: object) -> None:
        """Come back to a snapshot."""
        assert isinstance(state, tuple)
        self._by_token, self._by_scraper = state

    def _put(self, lease: Lease) -> None:
        self._by_token[lease.token] = lease
        self._by_scraper[lease.scraper] = lease.token

    def _drop(self, lease: Lease) -> None:
        self._by_token.pop(lease.token, None)
        if self._by_scraper.get(lease.scraper) == lease.token:
            del self._by_scraper[lease.scraper]
