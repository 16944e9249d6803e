"""What the contract needs of a back end, and the words in which its tests are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeVar

from support.store_log import held_events
from twisted.internet.defer import Deferred

from oneshotd.core.events import Event, Group, NewEvent
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.sampling.scrape_time import plan
from oneshotd.store.abilities import IBackup
from oneshotd.store.clock import Clock
from oneshotd.store.interface import (
    Conflict,
    IStore,
    Loss,
    Reservation,
    ScraperStatus,
    Settled,
    Stored,
    StoreStats,
)
from oneshotd.store.limits import Limits

T = TypeVar("T")

#: As a report may be written in a test: a series, or a series and a value.
Report = str | tuple[str, str]

LEASE = 60.0


class SettableClock:
    """Wall and steady time, moved by hand. Steps of 1/8 s keep the milliseconds exact."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000.0
        self.monotonic = 5000.0
        self.clock = Clock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.wall += seconds
        self.monotonic += seconds


def group(*reports: Report, key: str | None = None) -> Group:
    """A group of events without keys of their own."""
    events = [NewEvent(report) if isinstance(report, str) else NewEvent(*report) for report in reports]
    return Group(events=events, key=key)


def keyed(*events: tuple[str, str]) -> Group:
    """A group of (key, series)."""
    return Group(events=[NewEvent(series, key=key) for key, series in events])


def series_of(reservation: Reservation) -> list[str]:
    """The series that were read, in order."""
    return list(reservation.pending.series)


class Backend(ABC):
    """A store under test, its clock, and how it is opened, closed and killed.

    A further back end gives `_open`, `_die` and `get`; the fixture that makes it is called
    `backend`.
    """

    #: Ms from the time of one commit to that of the next, while the clock stands still.
    commit_step = 0
    #: Greatest up-time (seconds) that an outage of any length, or a step of the clock, counts as.
    outage_counts = 0.0

    def __init__(self) -> None:
        self.time = SettableClock()
        self.limits = Limits(hold=3600.0, newcomers=300.0)
        self._opened: list[IStore] = []

    # -- what differs

    @abstractmethod
    def get(self, deferred: Deferred[T]) -> T:
        """Wait for an answer; raises what it failed with."""

    @abstractmethod
    def _open(self) -> IStore:
        """A store on the same data as the last one."""

    @abstractmethod
    def _die(self) -> None:
        """From here on `_open` finds what is durable now, whatever the old store still writes."""

    def backup_path(self) -> str:
        """Where a backup may be written: a name that is free. Only for a store that has `IBackup`."""
        raise NotImplementedError

    def open_backup(self, path: str) -> None:
        """Go on with a store on this backup."""
        raise NotImplementedError

    # -- the life of a store

    @property
    def store(self) -> IStore:
        """The store, opened when it is first used."""
        if not self._opened:
            self._opened.append(self._open())
        return self._opened[-1]

    def open_anew(self) -> None:
        """Open a store on the data, the earlier one being gone."""
        self._opened.append(self._open())

    def restart(self, away: float = 0.0) -> None:
        """End the daemon in good order and start it again, with a steady clock of its own."""
        self.get(self.store.close())
        self._move_on(away)

    def crash(self, away: float = 0.0) -> None:
        """Kill the daemon and start it again."""
        assert self.store
        self._die()
        self._move_on(away)

    def _move_on(self, away: float) -> None:
        self.time.wall += away
        self.time.monotonic = 7.0  # after a reboot it begins anew
        self.open_anew()

    def finish(self) -> None:
        """Close all that was opened."""
        for store in self._opened:
            self.get(store.close())

    # -- words for the tests

    def append(self, *reports: Report, key: str | None = None) -> Stored | Conflict:
        """Store one group."""
        return self.append_groups(group(*reports, key=key))[0]

    def append_groups(self, *groups: Group) -> list[Stored | Conflict]:
        """Store groups with one call."""
        return self.get(self.store.append(groups))

    def events(self) -> list[Event]:
        """The whole log."""
        return self.get(held_events(self.store))

    def logged(self) -> list[str]:
        """The series of the whole log."""
        return [event.series for event in self.events()]

    def reserve(
        self, name: str, *, limit: int = 1000, lease: float = LEASE, timed: bool = False
    ) -> Reservation:
        """A named scraper comes; one whose name has a space in it has not said it itself."""
        return self.get(self.store.reserve(self.visit(name, timed), lease, limit))

    def look(self, name: str, *, limit: int = 1000) -> Reservation:
        """Somebody looks under this name."""
        return self.get(self.store.look(self.visit(name), limit))

    def visit(self, name: str, timed: bool = False) -> Visit:
        """As `core.scraper` makes it."""
        return Visit(name=name, named=" " not in name, timed=timed)

    def settle(
        self,
        reservation: Reservation,
        delivered: bool = True,
        *,
        cursor: int | None = None,
        newly_owed: Sequence[int] = (),
        went_out: Sequence[int] = (),
        lost: Mapping[str, Sequence[int]] | None = None,
    ) -> Settled:
        """End a reservation; where no more is said, all that was read went out."""
        assert reservation.token is not None
        pending = reservation.pending
        if cursor is None:
            cursor = pending.end
        lost = lost or {}
        if not went_out:
            went_out = [
                seq for seq in pending.seqs[: pending.owed] if not any(seq in seqs for seqs in lost.values())
            ]
        return self.get(
            self.store.settle(
                reservation.token, delivered, cursor, newly_owed, went_out, reservation.history, lost
            )
        )

    def revoke(self, reservation: Reservation) -> Settled:
        """Take a delivery back."""
        assert reservation.token is not None
        return self.get(self.store.revoke(reservation.token))

    def release(self, reservation: Reservation) -> None:
        """Let a delivery be final."""
        assert reservation.token is not None
        self.get(self.store.release(reservation.token))

    def take(self, name: str, *, limit: int = 1000, timed: bool = False) -> list[str]:
        """A whole scrape that takes all it can: the series that came."""
        reservation = self.reserve(name, limit=limit, timed=timed)
        assert self.settle(reservation) is Settled.SETTLED
        self.release(reservation)
        return series_of(reservation)

    def scrape(self, name: str, caps: Caps | None = None, limit: int = 1000) -> Plan:
        """A whole scrape as the daemon does it, one sample a series."""
        reservation = self.reserve(name, limit=limit)
        planned = plan(reservation.pending, caps or Caps())
        assert reservation.token is not None
        settled = self.get(
            self.store.settle(reservation.token, True, planned.cursor, planned.newly_owed, planned.went_out)
        )
        assert settled is Settled.SETTLED
        self.release(reservation)
        return planned

    def stats(self) -> StoreStats:
        """The figures."""
        return self.get(self.store.stats())

    def status(self, name: str) -> ScraperStatus:
        """The figures of one scraper."""
        found = self.status_or_none(name)
        assert found is not None, f"{name} is not known"
        return found

    def status_or_none(self, name: str) -> ScraperStatus | None:
        """The figures of one scraper, None if it is not known."""
        return next((scraper for scraper in self.stats().scrapers if scraper.name == name), None)

    def names(self) -> set[str]:
        """Who is known."""
        return {scraper.name for scraper in self.stats().scrapers}

    def backup(self, path: str) -> None:
        """Copy the store into a new file."""
        self.get(IBackup(self.store).backup(path))

    def prune(self) -> list[Loss]:
        """One round of upkeep."""
        return self.get(self.store.prune())
