"""What a store promises; every back end passes the one contract suite in `tests/store`.

The store owns its clock. It fixes an event's `at` and `seq`, knows each scraper's cursor and
what it is owed, and keeps one reservation per scraper. Time out of the store is in Unix
milliseconds, durations are in seconds.

A reservation ends in one of three ways:

* ``settle(delivered)``: durable at once; the lease stays, so that nobody else reserves for
  this scraper while the delivery can still be revoked. It ends with `release` or `revoke`.
* ``settle(returned)``: everything reserved is to come again.
* the daemon dies: after its lease a reservation counts as returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


@frozen(kw_only=True)
class Stored:
    """A group is on disk.

    :param stored: how many of its events were new.
    :param duplicates: how many were known by their own key.
    :param first: seq of the first new one (0 if none), the rest follow without a gap.
    :param again: the whole group was known by its key: this is the answer of the first time.
    """

    stored: int
    duplicates: int = 0
    first: int = 0
    again: bool = False


@frozen(kw_only=True)
class Conflict:
    """A key was seen before with other content; nothing of the group was stored."""

    key: str


@frozen(kw_only=True)
class ClockCorrected:
    """The wall clock was ahead and was set back.

    :param at: Unix ms, by the clock as it was then.
    :param seconds: how far ahead.
    """

    at: int
    seconds: float


@frozen(kw_only=True)
class Reservation:
    """Events set aside for one scrape response.

    :param token: names the reservation; None where there is nothing to settle (see `busy`).
    :param remaining: how many events the scraper has to come beyond the pending ones.
    :param busy: why there are no events here: another delivery to this scraper is under way
        ("in flight"), or there are too many scrapers ("too many"); None otherwise.
    :param past: what the scraper has been shown so far.
    :param ahead: what it was shown while the clock was ahead.
    """

    token: int | None
    pending: Pending
    remaining: int = 0
    busy: str | None = None
    past: TimestampHistory = NO_HISTORY
    ahead: Ahead = NOT_AHEAD


class Settled(Enum):
    """What became of a settlement."""

    SETTLED = "settled"
    ALREADY = "already"
    SUPERSEDED = "superseded"


@frozen(kw_only=True)
class ScraperStatus:
    """One scraper as it is now.

    :param pending: events to come, the owed ones among them.
    :param owed: events behind the cursor that it has yet to get.
    :param seen_at: Unix ms of its last answered or attempted scrape.
    :param oldest_at: `at` of the oldest event it has to come, or None.
    :param answered: scrapes delivered to it.
    :param lost: events it missed, by reason ("away", "log full", and what settlements named).
    :param timed: its last delivery carried X-Prometheus-Scrape-Timeout-Seconds.
    :param named: it said its name itself.
    :param in_flight: a delivery to it is under way, or may still be revoked.
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


@frozen(kw_only=True)
class StoreStats:
    """The store's figures for the metrics and the page.

    :param size: bytes of the held events' text.
    :param head: seq of the newest event ever accepted.
    :param lost: (scraper, reason) -> events missed, retired scrapers included for a day.
    :param clock: the last correction of a clock that was ahead, for a hold after it.
    """

    events: int
    size: int
    head: int
    scrapers: tuple[ScraperStatus, ...]
    lost: Mapping[tuple[str, str], int]
    clock: ClockCorrected | None = None


@frozen(kw_only=True)
class LogPage:
    """A part of the log that was looked at, from its newer end.

    :param events: those that were wanted, newest first.
    :param looked: how many were looked at.
    :param next: the seq before which to go on; None where there is nothing more to find.
    """

    events: Sequence[Event]
    looked: int
    next: int | None


@frozen(kw_only=True)
class Loss:
    """Events that upkeep, or a full log, took from a live scraper for good, and why."""

    scraper: str
    reason: str
    events: int


class IStore(Interface):
    """All methods may fail with `StoreUnavailable`; then nothing was changed."""

    def append(
        groups: Sequence[Group], at_once: Callable[[], object] | None = None
    ) -> Deferred[list[Stored | Conflict]]:
        """Store each group or refuse it; durable when the Deferred fires.

        :param at_once: called as soon as it is known to be durable, before the Deferred fires and
            perhaps in another thread; or not at all. It must not block.
        """

    def reserve(visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        """Set aside what this scraper has to come, at most `limit` events, owed ones first.

        A newcomer is registered durably before its first response. Where `MAX_SCRAPERS` are known, a
        named newcomer takes the place of the visitor (not live) that was not seen for the longest time
        and has no delivery under way; an unnamed one is "too many".

        :param lease: seconds after which an unsettled reservation counts as returned.
        """

    def look(visit: Visit, limit: int) -> Deferred[Reservation]:
        """The same reading without a reservation, a registration or a trace."""

    def settle(
        token: int,
        delivered: bool,
        cursor: int,
        newly_owed: Sequence[int],
        went_out: Sequence[int],
        past: TimestampHistory | None = None,
        lost: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> Deferred[Settled]:
        """End a reservation. What follows `delivered` counts only if it is.

        :param cursor: the scraper's new cursor.
        :param newly_owed: seqs behind the new cursor that did not go out.
        :param went_out: owed seqs that did.
        :param past: what the scraper has been shown now; None: as before.
        :param lost: reason -> reserved seqs that this scraper will never get: owed ones, or ones
            up to `cursor`, in none of the other lists. They are counted in `StoreStats.lost` in the
            same transaction. `prune` does not report them: the caller knows them.
        """

    def revoke(token: int) -> Deferred[Settled]:
        """What was delivered under this token is to come again.

        What its settlement counted as lost is pending again, too, and no longer counted.
        """

    def release(token: int) -> Deferred[None]:
        """Make a delivery final: the lease ends, and the scraper can reserve again.

        Without effect if the token's lease has ended, or its delivery is not settled. A caller repeats
        it after `StoreUnavailable`, as it repeats a settlement.
        """

    def census() -> Deferred[StoreStats]:
        """Figures of the log and of every scraper."""

    def recent(selection: Selection, before: int | None, limit: int) -> Deferred[LogPage]:
        """Look back through the held events, newest first; never consumes.

        A call looks at a bounded part of the log, so that nobody else waits long; it may find
        nothing in it and have more to look at all the same (`LogPage.next`).

        :param before: only events below this seq; None: from the newest.
        :param limit: events that are given at most, from 1.
        """

    def prune() -> Deferred[list[Loss]]:
        """Drop what has had its time, retire who stayed away, keep the log within its bounds."""

    def check() -> Deferred[None]:
        """Write something small; fails with the reason if the store cannot."""

    def close() -> Deferred[None]:
        """Finish what waits, then let go of everything."""


class IBackup(Interface):
    """A store that can copy itself into a file; others are copied by the tools of their database."""

    def backup(path: str) -> Deferred[None]:
        """Write a consistent copy of the store, as it is at the end of copying, into a new file.

        The copy is on disk when the Deferred fires, and has another name until then. Other requests are
        answered meanwhile. `IStore.close` ends the copy; cancelling the Deferred does not.

        :raises CopyFailed: the file exists, or cannot be written; nothing is left of the copy.
        :raises StoreUnavailable: the store cannot be read, or is being closed.
        """
