"""The interface of a store; every back end passes the contract suite in `tests/store`.

The store owns its clock. It gives each event its `at` and `seq`, keeps each scraper's cursor and owed
events, and at most one reservation per scraper. Times from the store are Unix milliseconds, durations
are seconds.

A reservation ends in one of three ways:

* ``settle(delivered)``: durable when answered. The lease stays, so that no other request reserves for
  this scraper while the delivery can still be revoked; it ends with `release` or `revoke`. That of a
  response that changes nothing ends at once (`Sent.is_final`).
* ``settle(returned)``: the reserved events are pending again.
* The daemon dies: when its lease has run out, a reservation counts as returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Interface

from oneshotd.core.events import Event, Group, Pending
from oneshotd.core.filters import Selection
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.ahead import NOT_AHEAD, Ahead
from oneshotd.core.sampling.mode import NO_HISTORY, TimestampHistory

#: The reason of losses by a revocation after the lease, when another delivery had been made.
LATE = "late"


@frozen(kw_only=True)
class Stored:
    """The answer for a group that is on disk.

    :param stored: number of new events.
    :param duplicates: number of events whose own key was known.
    :param first: seq of the first new event (0 if none); the others follow without a gap.
    :param again: the group's key was known: this repeats the first answer.
    """

    stored: int
    duplicates: int = 0
    first: int = 0
    again: bool = False


@frozen(kw_only=True)
class Conflict:
    """The answer for a group with a key that was used with other content; none of its events is stored."""

    key: str


@frozen(kw_only=True)
class ClockCorrected:
    """A correction of a wall clock that was ahead.

    :param at: Unix ms of the correction, by the corrected clock.
    :param seconds: how far the clock was ahead.
    """

    at: int
    seconds: float


class Holder(Enum):
    """Where a delivery in flight is.

    ``SILENT``: at another daemon, which the store has not heard of for some seconds.
    """

    HERE = "here"
    ELSEWHERE = "elsewhere"
    SILENT = "silent"


@frozen(kw_only=True)
class Reservation:
    """Events reserved for one scrape response.

    :param token: identifies the reservation; None where there is nothing to settle (see `busy`).
    :param remaining: number of the scraper's pending events that were not read.
    :param busy: why no event was read: another delivery to this scraper is in flight ("in flight"), there
        are too many scrapers ("too many"), or the request lacks the timeout header that this scraper sends
        ("look"); None otherwise.
    :param history: timestamps of the samples that the scraper got so far.
    :param ahead: timestamps that it got while the clock was ahead.
    :param now: Unix ms by the store's clock, at the reading; 0 if no event was read.
    :param holder: of the delivery in flight ("in flight").
    """

    token: int | None
    pending: Pending
    remaining: int = 0
    busy: str | None = None
    history: TimestampHistory = NO_HISTORY
    ahead: Ahead = NOT_AHEAD
    now: int = 0
    holder: Holder = Holder.HERE


class Settled(Enum):
    """The outcome of a settlement: done, done before, or too late because the lease had lapsed."""

    SETTLED = "settled"
    ALREADY = "already"
    SUPERSEDED = "superseded"


@frozen(kw_only=True)
class Sent:
    """The content of a response, for the figures and for the responses of other daemons to this scraper.

    :param scraper: its name.
    :param events: number of its events.
    :param queueing: number of series whose events still wait behind each other.
    :param uncertain: it was returned or revoked, and the scraper may have read it.
    :param cursor: the scraper's cursor after it.
    :param counted: it has counts that must not go out again with further events: if it was not delivered, a
        store that several daemons share reads no further than `cursor` until it is.
    :param is_final: nothing is lost if the scraper does not read it. Its settlement ends the lease as
        `release` does, and need not be durable.
    """

    scraper: str = ""
    events: int = 0
    queueing: int = 0
    uncertain: bool = False
    cursor: int = 0
    counted: bool = False
    is_final: bool = False


@frozen(kw_only=True)
class ScraperCounts:
    """The figures of one scraper over all daemons, since it was registered; counters are of events.

    :param delivered: arrival acknowledged.
    :param returned: sent and not arrived.
    :param revoked: arrived and not read.
    :param uncertain: returned or revoked, and the scraper may have read them.
    :param superseded: delivered, and settled after another delivery had taken its place: they went out twice.
    :param queueing: series whose events wait behind each other.
    :param interval: the median of the seconds between its scrapes; None before the third.
    :param shared: several scrapers seem to use this identity.
    :param longest_lag: the longest seconds from `at` of an event to its delivery; None if it is not known.
    :param lag_since: Unix ms of the first delivery that it covers.
    """

    delivered: int = 0
    returned: int = 0
    revoked: int = 0
    uncertain: int = 0
    superseded: int = 0
    queueing: int = 0
    interval: float | None = None
    shared: bool = False
    longest_lag: float | None = None
    lag_since: int | None = None


@frozen(kw_only=True)
class ScraperStatus:
    """The state of one scraper.

    :param pending: number of its pending events, owed ones included.
    :param owed: number of events behind its cursor that it has not got.
    :param seen_at: Unix ms of its last scrape, delivered or not.
    :param oldest_at: `at` of its oldest pending event, or None.
    :param answered: number of delivered scrapes.
    :param lost: reason -> events it missed ("away", "log full", and the reasons given to `settle`).
    :param timed: its last delivered scrape carried X-Prometheus-Scrape-Timeout-Seconds.
    :param named: it scrapes with ``?scraper=NAME``.
    :param in_flight: a delivery to it is not settled, or can still be revoked.
    :param counts: None: the store keeps none, and each daemon counts for itself.
    """

    name: str
    live: bool
    cursor: int
    pending: int
    owed: int
    seen_at: int
    answered: int
    timed: bool
    oldest_at: int | None = None
    lost: Mapping[str, int] = {}
    named: bool = False
    in_flight: bool = False
    counts: ScraperCounts | None = None


@frozen(kw_only=True)
class StoreStats:
    """The figures of the store, for the metrics and the status page.

    :param size: bytes of text of the held events, details included.
    :param head: seq of the newest event that was ever stored.
    :param lost: (scraper, reason) -> events missed; for a day after a scraper was removed, too.
    :param clock: the last correction of a clock that was ahead, if it was within the hold.
    """

    events: int
    size: int
    head: int
    scrapers: tuple[ScraperStatus, ...]
    lost: Mapping[tuple[str, str], int]
    clock: ClockCorrected | None = None


@frozen(kw_only=True)
class LogPage:
    """The events of a selection in one part of the log.

    :param events: the selected events, newest first.
    :param looked: number of events in that part.
    :param next: the seq before which the next page starts; None if this is the last one.
    """

    events: Sequence[Event]
    looked: int
    next: int | None


@frozen(kw_only=True)
class Loss:
    """Pending events of a live scraper that retention deleted, and the reason."""

    scraper: str
    reason: str
    events: int


#: The content of a response without events.
NOTHING_SENT = Sent()


class IStore(Interface):
    """A store. Each method may fail with `StoreUnavailable`; then it has changed nothing."""

    def append(groups: Sequence[Group]) -> Deferred[list[Stored | Conflict]]:
        """Store each group or refuse it; durable when the Deferred fires."""

    def reserve(visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        """Reserve at most `limit` of the scraper's pending events, owed ones first.

        A new scraper is registered durably before its first response. Where `MAX_SCRAPERS` are known, a
        named one replaces the visitor (not live) that was unseen for longest and has no delivery in
        flight; an unnamed one is "too many".

        :param lease: seconds after which an unsettled reservation counts as returned.
        """

    def look(visit: Visit, limit: int) -> Deferred[Reservation]:
        """Read what `reserve` would read, without changing anything."""

    def settle(
        token: int,
        delivered: bool,
        cursor: int,
        newly_owed: Sequence[int],
        went_out: Sequence[int],
        history: TimestampHistory | None = None,
        lost: Mapping[str, Sequence[int]] = MappingProxyType({}),
        sent: Sent = NOTHING_SENT,
    ) -> Deferred[Settled]:
        """Settle a delivery. The parameters from `cursor` to `lost` count only if it was delivered.

        :param cursor: the scraper's new cursor.
        :param newly_owed: seqs behind the new cursor that were not in the response.
        :param went_out: owed seqs that were in the response.
        :param history: timestamps of the samples that the scraper has got now; None: as before.
        :param lost: reason -> reserved seqs that this scraper will never get: owed ones, or ones up to
            `cursor`, in neither of the other lists. The same transaction counts them in
            `StoreStats.lost`; `prune` does not report them.
        :param sent: what the response carried. If a delivered one is `SUPERSEDED`, its events go out twice.
        """

    def revoke(token: int, sent: Sent = NOTHING_SENT) -> Deferred[Settled]:
        """Undo a delivery: its events become pending again.

        Events that its settlement counted as lost become pending, too, and are no longer counted.

        :param sent: what the response carried. If it is `SUPERSEDED`, the scraper will never get its events:
            the same transaction counts them in `StoreStats.lost` under `LATE`.
        """

    def release(token: int) -> Deferred[None]:
        """Make a delivery final: the lease ends, and the scraper can reserve again.

        Without effect if the token's lease has ended, if its delivery is not settled, or after `close`,
        as the lease of a delivery ends by itself. A caller repeats it after `StoreUnavailable`, as it
        repeats a settlement.
        """

    def stats() -> Deferred[StoreStats]:
        """Return the figures of the log and of every scraper."""

    def recent(selection: Selection, before: int | None, limit: int) -> Deferred[LogPage]:
        """Read the held events of a selection, newest first, without consuming any.

        One call reads a bounded part of the log, so that other requests do not wait long. A page may be
        empty and not be the last one (`LogPage.next`).

        :param before: read only events below this seq; None: from the newest event on.
        :param limit: greatest number of events returned, at least 1.
        """

    def prune() -> Deferred[list[Loss]]:
        """Delete expired events, remove scrapers unseen for the hold, trim the log to its limits.

        :returns: losses that retention caused since the last call, those of a full log included.
        """

    def check() -> Deferred[None]:
        """Write a little; fails with the reason if the store cannot be written."""

    def close() -> Deferred[None]:
        """Finish the waiting requests, then close files and connections; later requests are refused."""
