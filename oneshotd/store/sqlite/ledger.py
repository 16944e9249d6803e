"""The ledger: append, reserve, settle and revoke, on the tables of the SQLite schema.

All of it runs inside a transaction that the store's thread (`worker.py`) opens and commits. The head of
the log and the scrapers in memory are a copy of the file; after a rollback `load` reads them again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType

from oneshotd.core.batches import SeriesBatch
from oneshotd.core.events import Group, Pending
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.ahead import Ahead
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.store.clock import Clock, Times
from oneshotd.store.interface import (
    LATE,
    NOTHING_SENT,
    Conflict,
    Reservation,
    Sent,
    Settled,
    Stored,
)
from oneshotd.store.leases import Leases
from oneshotd.store.limits import Limits
from oneshotd.store.planning import keys_of, plan_append, states_of
from oneshotd.store.reading_plan import collect_pending
from oneshotd.store.sqlite.clock_corrections import ClockCorrections
from oneshotd.store.sqlite.idempotency import KeyTable
from oneshotd.store.sqlite.keyed_states import KeyedStateTable
from oneshotd.store.sqlite.scrapers import Scraper, ScraperTable
from oneshotd.store.sqlite.segments import LogWriter, read, seq_before

__all__ = ["Ledger", "Limits"]


class Ledger:
    """The rules of the log, the cursors, the keys and the reservations."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        self.leases = Leases()
        self.log = LogWriter()
        self.scrapers = ScraperTable()
        self.keys = KeyTable()
        self.states = KeyedStateTable()
        self.times = Times(clock)
        self.pruned = 0
        self.pruned_size = 0
        self._unseen = 0
        self._monotonic = clock.monotonic
        self._now_at = 0
        self.corrections = ClockCorrections(self.times, self.scrapers, self.leases, self.log)

    def load(self, connection: sqlite3.Connection) -> None:
        """Read the head of the log and the scrapers from disk."""
        self.connection = connection
        self.pruned, self.pruned_size, now_up, clock_at, self._unseen = connection.execute(
            "SELECT pruned, pruned_size, now_up, clock_at, commits FROM state"
        ).fetchone()
        last = connection.execute("SELECT up, clock_at FROM segment ORDER BY first DESC LIMIT 1").fetchone()
        up, at = last or (0, 0)
        self.times.resume(max(up, now_up), max(at, clock_at))
        self.log.load(connection, self.pruned, self.pruned_size, self.times.at())
        self.scrapers.load(connection)
        self.keys.load(connection)
        self.states.load(connection)

    def resume_sequence_after(self, head: int) -> None:
        """Continue the seqs of the file that this new one replaces; its reservations are void."""
        self.connection.execute("UPDATE state SET pruned = ?", (head,))
        self.leases.clear()
        self.load(self.connection)

    def begin(self) -> None:
        """Prepare for a transaction; all its events get the same time of acceptance."""
        self.scrapers.begin()
        self.corrections.begin(self.connection, self.pruned, self.pruned_size)
        self._now_at = self.times.at()

    def flush(self) -> None:
        """Write the appended events; called before the log is read, and before COMMIT."""
        self.log.flush(self.connection, self.times.up(), self._now_at)

    def bump_commit_counter(self) -> None:
        """Count a transaction that appends nothing, so that it changes the commit marker, too."""
        self._unseen += 1
        self.connection.execute("UPDATE state SET commits = ?", (self._unseen,))

    @property
    def commit_marker(self) -> tuple[int, int]:
        """A value that every transaction that writes changes: on disk it tells whether one was committed."""
        return self._unseen, self.head

    def monotonic(self) -> float:
        """Return the seconds of the clock that leases run by."""
        return self._monotonic()

    def write_time(self) -> None:
        """Write up-time and clock to disk; `IStore.check` uses it to see whether a write succeeds."""
        self.connection.execute(
            "UPDATE state SET now_up = ?, clock_at = max(clock_at, ?)", (self.times.up(), self.times.at())
        )

    def write_final_state(self) -> None:
        """Write what is kept in memory between transactions: the times of scrapes, up-time and clock."""
        self.scrapers.write_seen()
        self.write_time()

    @property
    def head(self) -> int:
        """The seq of the newest event."""
        return self.log.next - 1

    @property
    def held_events(self) -> int:
        """The number of events in the log."""
        return self.head - self.pruned

    @property
    def held_bytes(self) -> int:
        """The bytes of event text in the log."""
        return self.log.total_size - self.pruned_size

    def uptime_cutoff(self, seconds: float) -> int:
        """Return the up-time (ms) of so many seconds ago."""
        return self.times.up() - int(seconds * 1000)

    # -- append

    def append(self, groups: Sequence[Group]) -> list[Stored | Conflict]:
        """Append groups to the log; see `IStore.append`."""
        return [self._append(group) for group in groups]

    def _append(self, group: Group) -> Stored | Conflict:
        if group.key is None and isinstance(group.events, SeriesBatch):
            first = self.log.next
            self.log.add_all(group.events.series, self._now_at)
            return Stored(stored=len(group.events), first=first)
        known = self.keys.find(keys_of(group), self.uptime_cutoff(self.limits.hold))
        add, now = self.log.add, self._now_at
        states = self.states.find(states_of(group), self.times.up()) if group.states else {}
        planned = plan_append(group, known, self.log.next, states, now)
        if planned.keys:
            self.keys.remember(planned.keys, self.times.up())
        if planned.states:
            self.states.write(planned.states, self.times.up())
        for series, value, _, detail in planned.events:
            add(series, value, now, detail)
        return planned.answer

    # -- reserve and settle

    def reserve(self, visit: Visit, lease: float, limit: int) -> Reservation:
        """Reserve events for a scraper; see `IStore.reserve`."""
        self.flush()
        scraper = self.scrapers.by_name.get(visit.name)
        if scraper is None:
            now = self.monotonic()
            if not self.scrapers.make_room(visit, lambda name: self.leases.of(name, now) is not None):
                return Reservation(token=None, pending=Pending(), busy="too many")
            scraper = self._newcomer(visit)
            self.scrapers.write(scraper)
        self.scrapers.saw(scraper, self.times.up(), self.times.at())
        now = self.monotonic()
        if self.leases.of(visit.name, now) is not None:
            return Reservation(token=None, pending=Pending(), busy="in flight")
        scraper.cursor = self.start(scraper)
        pending = self._pending(scraper, limit)
        granted = self.leases.grant(
            visit.name, now + lease, pending, visit.timed, scraper.history, scraper.answered
        )
        return self._reservation(granted.token, scraper, pending)

    def look(self, visit: Visit, limit: int) -> Reservation:
        """Read what `reserve` would read, without changing anything; see `IStore.look`."""
        self.flush()
        scraper = self.scrapers.by_name.get(visit.name) or self._newcomer(visit)
        return self._reservation(None, scraper, self._pending(scraper, limit))

    def _reservation(self, token: int | None, scraper: Scraper, pending: Pending) -> Reservation:
        return Reservation(
            token=token,
            pending=pending,
            remaining=self.head - pending.cursor + scraper.owed - len(pending),
            history=scraper.history,
            ahead=Ahead(times=scraper.ahead, hold_ms=int(self.limits.hold * 1000)),
            now=self.times.wall(),
        )

    def _newcomer(self, visit: Visit) -> Scraper:
        window = self.uptime_cutoff(min(self.limits.newcomers, self.limits.hold))
        return Scraper(
            id=self.scrapers.next_id(),
            name=visit.name,
            named=visit.named,
            timed=False,
            answered=0,
            cursor=seq_before(self.connection, window, self.pruned, self.head),
            seen_up=self.times.up(),
            seen_at=self.times.at(),
        )

    def start(self, scraper: Scraper) -> int:
        """Return the seq behind which it reads the log; events are not kept for a visitor."""
        return scraper.cursor if scraper.live else max(scraper.cursor, self.pruned)

    def _pending(self, scraper: Scraper, limit: int) -> Pending:
        cursor = self.start(scraper)
        return collect_pending(
            self.scrapers.owed(scraper) if scraper.owed else (),
            lambda events, size: read(self.connection, cursor, events, size) if cursor < self.head else (),
            cursor=cursor,
            owed_total=scraper.owed,
            max_events=limit,
            max_bytes=self.limits.read_bytes,
            max_series=self.limits.read_series,
        )

    def settle(
        self,
        token: int,
        delivered: bool,
        cursor: int,
        newly_owed: Sequence[int],
        went_out: Sequence[int],
        history: TimestampHistory | None = None,
        lost: Mapping[str, Sequence[int]] = MappingProxyType({}),
        sent: Sent = NOTHING_SENT,
    ) -> Settled:
        """Settle a delivery; see `IStore.settle`."""
        lease = self.leases.get(token)
        if lease is None:
            return Settled.ALREADY if self.leases.has_ended(token) else Settled.SUPERSEDED
        if lease.delivered:
            return Settled.ALREADY
        if not delivered:
            self.leases.end(lease)
            return Settled.SETTLED
        scraper = self.scrapers.by_name[lease.scraper]
        missed = {reason: len(seqs) for reason, seqs in lost.items() if seqs}
        # Only lost events that were owed have a copy to delete; the cursor passes the others.
        owed = lease.pending.seqs[: lease.pending.owed] if missed else ()
        lost_owed = set(owed).intersection(chain.from_iterable(lost.values()))
        newly, gone = lease.pending.rows(set(newly_owed)), lease.pending.rows({*went_out, *lost_owed})
        newly, gone = self.corrections.events(token, newly), self.corrections.events(token, gone)
        self.leases.delivered(lease, tuple(newly_owed), tuple(gone), missed)
        was_live = scraper.live
        before = scraper.cursor, scraper.timed, scraper.history
        scraper.cursor = cursor
        if history is not None:
            scraper.history = self.corrections.show(scraper, self.corrections.history(token, history))
        scraper.timed = lease.timed
        scraper.answered += 1
        changed = before != (scraper.cursor, scraper.timed, scraper.history)
        if newly or gone or missed or not was_live or changed:
            # Otherwise `answered` is written by the next transaction that writes anyway.
            self.scrapers.unowe(scraper, [event.seq for event in gone])
            self.scrapers.owe(scraper, newly)
            self.scrapers.write(scraper)
        self.corrections.settled(scraper, lease, {*newly_owed, *chain.from_iterable(lost.values())})
        for reason, events in missed.items():
            self.scrapers.lose(scraper.name, reason, events, self.times.up())
        if sent.is_final:
            self.leases.end(lease)
        return Settled.SETTLED

    def revoke(self, token: int, sent: Sent = NOTHING_SENT) -> Settled:
        """Undo a delivery; see `IStore.revoke`."""
        lease = self.leases.get(token)
        if lease is None or not lease.delivered:
            if self.leases.has_ended(token):
                return Settled.ALREADY
            if lease is None and sent.events:
                self.scrapers.lose(sent.scraper, LATE, sent.events, self.times.up())
            return Settled.SUPERSEDED
        scraper = self.scrapers.by_name[lease.scraper]
        self.scrapers.unowe(scraper, lease.newly_owed)
        self.scrapers.owe(scraper, self.corrections.events(token, lease.went_out))
        scraper.cursor, scraper.history = lease.cursor, self.corrections.history(token, lease.history)
        scraper.answered = lease.answered  # the count after `settle` may be lost by a rollback
        self.scrapers.write(scraper)
        for reason, events in lease.lost.items():
            self.scrapers.unlose(scraper.name, reason, events)
        self.leases.end(lease)
        return Settled.SETTLED

    def release(self, token: int) -> None:
        """Make a delivery final; see `IStore.release`."""
        lease = self.leases.get(token)
        if lease is not None and lease.delivered:
            self.leases.end(lease)

    # -- figures

    def pending_count(self, scraper: Scraper) -> int:
        """Return the number of the scraper's pending events."""
        return self.head - self.start(scraper) + scraper.owed
