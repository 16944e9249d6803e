"""Leases: the reserved events of a response, from `reserve` until the delivery is final.

They are in memory only: when the daemon dies, its reservations are gone and so count as returned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from attrs import evolve, frozen

from oneshotd.core.events import Event, Pending
from oneshotd.core.sampling.mode import NO_HISTORY, TimestampHistory

#: Number of ended tokens kept, to tell "already" from "superseded".
ENDED_TOKENS = 1000


@frozen(kw_only=True)
class Lease:
    """One reservation.

    :param until: monotonic seconds at which it lapses if it is not settled.
    :param cursor: the scraper's cursor at the reservation.
    :param history: timestamps of the samples that it had got by then.
    :param answered: number of its scrapes delivered by then.
    :param timed: the visit carried X-Prometheus-Scrape-Timeout-Seconds.
    :param delivered: it was settled as delivered; the parameters that follow are there to undo it.
    :param went_out: events that are no longer owed, lost ones included.
    :param lost: reason -> number of events counted as lost.
    """

    token: int
    scraper: str
    until: float
    cursor: int
    timed: bool
    history: TimestampHistory = NO_HISTORY
    answered: int = 0
    pending: Pending = Pending()
    delivered: bool = False
    newly_owed: tuple[int, ...] = ()
    went_out: tuple[Event, ...] = ()
    lost: Mapping[str, int] = MappingProxyType({})


class Leases:
    """The leases, at most one per scraper.

    `snapshot` and `restore` undo the changes of a transaction that is rolled back.
    """

    def __init__(self) -> None:
        self._by_token: dict[int, Lease] = {}
        self._by_scraper: dict[str, int] = {}
        self._ended: deque[int] = deque(maxlen=ENDED_TOKENS)
        self._last = 0
        #: Tokens with a settlement or revocation under way; their leases do not lapse.
        self.settling: set[int] = set()

    def of(self, scraper: str, now: float) -> Lease | None:
        """Return the scraper's lease; one that has lapsed is dropped."""
        token = self._by_scraper.get(scraper)
        if token is None:
            return None
        lease = self._by_token[token]
        if self._has_lapsed(lease, now):
            self._drop(lease)
            return None
        return lease

    def holds(self, scraper: str, now: float) -> bool:
        """Return whether the scraper has a valid lease; keep a lapsed one for a late settlement."""
        token = self._by_scraper.get(scraper)
        return token is not None and not self._has_lapsed(self._by_token[token], now)

    def _has_lapsed(self, lease: Lease, now: float) -> bool:
        return now >= lease.until and lease.token not in self.settling

    def get(self, token: int) -> Lease | None:
        """Return the lease with this token, lapsed or not, unless another took its place."""
        return self._by_token.get(token)

    def events(self) -> Iterator[tuple[int, int, str]]:
        """Iterate over (seq, `at`, series) of the events that a settlement or revocation may make owed."""
        for lease in self._by_token.values():
            pending = lease.pending
            yield from zip(pending.seqs, pending.ats, pending.series, strict=True)
            yield from ((event.seq, event.at, event.series) for event in lease.went_out)

    @property
    def last(self) -> int:
        """The newest token."""
        return self._last

    def grant(
        self,
        scraper: str,
        until: float,
        pending: Pending,
        timed: bool,
        history: TimestampHistory = NO_HISTORY,
        answered: int = 0,
    ) -> Lease:
        """Grant a lease to a scraper that has none."""
        self._last += 1
        lease = Lease(
            token=self._last,
            scraper=scraper,
            until=until,
            cursor=pending.cursor,
            timed=timed,
            history=history,
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
        """Mark a lease as delivered, keeping only what is needed to undo the delivery."""
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
        """End a lease: the scraper can reserve again."""
        self._drop(lease)
        self._ended.append(lease.token)

    def has_ended(self, token: int) -> bool:
        """Return whether this lease was ended, and did not lapse."""
        return token in self._ended

    def lowest(self, now: float) -> int | None:
        """Return the lowest cursor that a delivery may fall back to: events behind it must be kept."""
        held = (self.of(lease.scraper, now) for lease in tuple(self._by_token.values()))
        return min((lease.cursor for lease in held if lease is not None), default=None)

    def clear(self) -> None:
        """Forget all leases and tokens."""
        self._by_token, self._by_scraper = {}, {}
        self._ended.clear()

    def snapshot(self) -> object:
        """Return the state for `restore`."""
        return dict(self._by_token), dict(self._by_scraper)

    def restore(self, state: object) -> None:
        """Return to a snapshot."""
        assert isinstance(state, tuple)
        self._by_token, self._by_scraper = state

    def _put(self, lease: Lease) -> None:
        self._by_token[lease.token] = lease
        self._by_scraper[lease.scraper] = lease.token

    def _drop(self, lease: Lease) -> None:
        self._by_token.pop(lease.token, None)
        if self._by_scraper.get(lease.scraper) == lease.token:
            del self._by_scraper[lease.scraper]
