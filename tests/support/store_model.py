"""What a store has to do, said a second time and as plainly as possible: sets of numbers in memory.

`test_state_machine.py` does the same things to a store and to this model and compares. Two things
are the store's own choice, so the model takes them from the store and judges whether it had the
right: how far the log is cut at its old end (`Model.follow`: nothing that somebody has to come,
unless the log is full; in whole appends at most) and, after a kill, when exactly a scraper was
last seen.

Of one scraper, from its first scrape until it is retired, it holds at any time:

    promised = delivered + to come + lost        and no event is in two of them

where promised is what the newcomer window showed and all that was accepted since. A visitor (not
named, and answered less than three times) is waited for no longer than an event is held anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from support.store_records import Kept, Key, Lease, Record, Scraper, content

from oneshotd.core.events import Count, Event, Group, NewEvent
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.store.interface import Conflict, Stored, StoreStats
from oneshotd.store.limits import Limits

AWAY, LOG_FULL = "away", "log full"


class Model:
    """The store as it should be.

    :ivar up: up-time in ms; `up_on_disk` is where it goes on after a kill: where it was when
        events were last stored or cut, or upkeep was done.
    :ivar cut: the log begins after this seq.
    :ivar cuts_at_once: the log is cut when a lease lapses; else with the next append or upkeep.
    :ivar unreported: losses that no `prune` has told yet; None where a kill has left it open.
    :ivar upkeep: it was done since the last `follow`.
    :ivar upkeep_before_death: so it was, and then the daemon was killed: what was reserved then
        is not known any more.
    :ivar got: scraper -> what was delivered to it for good or revocably, whoever it was then.
    """

    def __init__(self, limits: Limits, cuts_at_once: bool = True) -> None:
        self.limits = limits
        self.cuts_at_once = cuts_at_once
        self.hold = int(limits.hold * 1000)
        self.window = int(min(limits.newcomers, limits.hold) * 1000)
        self.up = self.up_on_disk = 0
        self.now = 0.0
        self.wall = self.latest_wall = 0
        self.head = self.cut = 0
        self.batch = [0, 0]
        self.log: dict[int, Record] = {}
        self.scrapers: dict[str, Scraper] = {}
        self.keys: dict[str, Key] = {}
        self.states: dict[str, Kept] = {}
        self.lost: Counter[tuple[str, str]] = Counter()
        self.unreported: Counter[tuple[str, str]] | None = Counter()
        self.got: dict[str, set[int]] = {}
        self.upkeep = self.upkeep_before_death = False

    # -- the way in

    def begin(self) -> None:
        """What is accepted from here on may come to disk together."""
        self.batch = [self.head + 1, self.head]

    def append(self, groups: Sequence[Group]) -> list[Stored | Conflict]:
        """Accept groups, each whole or not at all; what the store has to answer."""
        before = self.head
        answers = [self._append(group) for group in groups]
        new = range(before + 1, self.head + 1)
        for seq in new:
            for scraper in self.scrapers.values():
                scraper.ahead.add(seq)
                scraper.promised.add(seq)
        if new:
            self.up_on_disk = self.up
        return answers

    def _append(self, group: Group) -> Stored | Conflict:
        known = self._known(group.key)
        if group.key is not None and known is not None:
            if known.content != content(group.events):
                return Conflict(key=group.key)
            first_time = known.answer
            return Stored(
                stored=first_time.stored,
                duplicates=first_time.duplicates,
                first=first_time.first,
                again=True,
            )
        new: list[NewEvent] = []
        mine: dict[str, Key] = {}
        states = {key: kept for key, kept in self.states.items() if kept.until >= self.up}
        duplicates = 0
        for number, event in enumerate(group.events):
            same = mine.get(event.key or "") or self._known(event.key)
            if event.key is None or same is None:
                times = self._times(group, number, states)
                duplicates += not times
                if event.key is not None:
                    answer = Stored(stored=times, first=self.head + len(new) + 1 if times else 0)
                    mine[event.key] = Key(content([event]), answer, self.up)
                new += [event._replace(detail="")] * (times - 1) + [event] * (times > 0)
            elif same.content != content([event]):
                return Conflict(key=event.key)
            else:
                duplicates += 1
        answer = Stored(stored=len(new), duplicates=duplicates, first=self.head + 1 if new else 0)
        if group.key is not None:
            mine[group.key] = Key(content(group.events), answer, self.up)
        self.keys |= mine
        self.states = states
        for event in new:
            self.head += 1
            self.batch[1] = self.head
            self.log[self.head] = Record(
                self.head, event.series, event.value, self.up, self.wall, self.batch, event.detail
            )
        return answer

    def _times(self, group: Group, number: int, states: dict[str, Kept]) -> int:
        """How often this event of the group is stored; changes the states."""
        times = 1
        for change in group.states:
            if change.event != number:
                continue
            assert isinstance(change, Count), "the machine makes no other"
            before = states.get(change.key)
            times = change.unknown if before is None else max(0, change.count - before.count)
            most = max(change.count, 0 if before is None else before.count)
            states[change.key] = Kept(most, self.up + int(change.seconds * 1000))
        return times

    def _known(self, key: str | None) -> Key | None:
        known = self.keys.get(key) if key is not None else None
        return known if known is not None and known.up >= self.up - self.hold else None

    # -- the way out

    def has_to_come(self, name: str) -> list[int]:
        """What a scraper of this name would read now."""
        scraper = self.scrapers.get(name)
        return scraper.to_come if scraper is not None else sorted(self._newcomers_see())

    def _newcomers_see(self) -> set[int]:
        held = range(self.cut + 1, self.head + 1)
        return {seq for seq in held if self.log[seq].up >= self.up - self.window}

    def reserve(self, visit: Visit, seconds: float) -> Lease | None:
        """A scraper comes; None if it is busy."""
        scraper = self.scrapers.get(visit.name)
        if scraper is None:
            see = self._newcomers_see()
            scraper = Scraper(visit.named, see, set(see), self.up, self.up, self.up)
            self.scrapers[visit.name] = scraper
        # A kill may have set up-time back behind an earlier visit that is on disk.
        scraper.seen, scraper.surely_seen = max(scraper.seen, self.up), self.up
        scraper.seen_on_disk = min(scraper.seen_on_disk, self.up)
        if scraper.lease is not None and not scraper.lease.lapsed(self.now):
            return None
        scraper.lease = Lease(self.now + seconds, min(scraper.ahead, default=self.head + 1))
        return scraper.lease

    def tried(self, visit: Visit) -> None:
        """A scraper came while the store could not say anything; it may remember that."""
        if visit.name in self.scrapers:
            self.scrapers[visit.name].seen = max(self.scrapers[visit.name].seen, self.up)

    def holds(self, name: str, lease: Lease) -> bool:
        """Whether this delivery is still the scraper's last one."""
        return name in self.scrapers and self.scrapers[name].lease is lease

    def deliver(
        self,
        name: str,
        lease: Lease,
        went: set[int],
        cursor: int,
        newly_owed: set[int],
        history: TimestampHistory | None,
    ) -> None:
        """A delivery is settled: these went out, and those in `Lease.lost` never will."""
        scraper, got = self.scrapers[name], self.got.setdefault(name, set())
        missed = frozenset[int]().union(*lease.lost.values())
        assert missed <= scraper.ahead | scraper.owed, "it was lost, and was not to come"
        assert not missed & (went | newly_owed), "it was lost, and is not"
        assert went <= scraper.ahead | scraper.owed, "it went out, and was not to come"
        assert not went & got, "it went out twice"
        for seq in went:
            series = self.log[seq].series
            later = [other for other in got if other > seq and self.log[other].series == series]
            assert not later, f"{seq} went out after {later} of its series"
        lease.delivered, lease.asked = frozenset(went), False
        lease.was_owed, lease.was_ahead = frozenset(scraper.owed), frozenset(scraper.ahead)
        lease.earlier_history, scraper.history = scraper.history, history or scraper.history
        scraper.ahead = {seq for seq in scraper.ahead if seq > cursor}
        scraper.owed = (scraper.owed | newly_owed) - went - missed
        scraper.delivered |= went
        scraper.lost |= missed
        self.lost.update({(name, reason): len(seqs) for reason, seqs in lease.lost.items() if seqs})
        scraper.answered += 1
        got |= went

    def revoke(self, name: str, lease: Lease) -> None:
        """It is as if it had not been; what came in meanwhile is behind it."""
        scraper = self.scrapers[name]
        scraper.ahead |= lease.was_ahead
        scraper.owed = set(lease.was_owed)
        scraper.history = lease.earlier_history
        scraper.delivered -= lease.delivered
        scraper.lost -= frozenset[int]().union(*lease.lost.values())
        self.lost -= Counter({(name, reason): len(seqs) for reason, seqs in lease.lost.items()})
        self.got[name] -= lease.delivered
        scraper.answered -= 1
        scraper.lease = None

    def end(self, name: str) -> None:
        """The scraper may be served again."""
        self.scrapers[name].lease = None

    # -- time and death

    def on_disk(self) -> None:
        """Time, and who was seen when, have been written."""
        self.up_on_disk = self.up
        for scraper in self.scrapers.values():
            scraper.seen_on_disk = scraper.surely_seen

    def restart(self, killed: bool) -> None:
        """The daemon ends and begins anew."""
        if not killed:
            self.on_disk()
        self.up = self.up_on_disk
        self.upkeep_before_death, self.upkeep = self.upkeep, False
        self.unreported = None if killed else Counter()
        for scraper in self.scrapers.values():
            scraper.lease = None
            scraper.surely_seen = scraper.seen_on_disk

    # -- comparing

    def see(self, event: Event, detail: str | None = None) -> None:
        """The store shows an event, or a look at the log with its detail."""
        record = self.log[event.seq]
        assert (event.series, event.value) == (record.series, record.value), event
        assert detail in (None, record.detail), event
        if record.at is None:
            same = [other for other in self.log.values() if other.series == event.series]
            ats = {other.seq: other.at for other in same if other.at is not None}
            assert all((seq < event.seq) == (at < event.at) for seq, at in ats.items()), (event, ats)
            assert all(at != event.at for at in ats.values()), (event, ats)
            # Not before its time, and not further ahead of it than a burst of all there were.
            assert record.wall <= event.at <= self.latest_wall + self.head, event
            record.at = event.at
        assert event.at == record.at, event

    def follow(self, stats: StoreStats) -> None:
        """Take over whom the store retired and how far it cut its log, if it had the right to."""
        self._follow_retirement({status.name for status in stats.scrapers})
        self._follow_cut(self.head - stats.events, stats.size)
        self.upkeep = self.upkeep_before_death = False

    def _follow_retirement(self, known: set[str]) -> None:
        edge = self.up - self.hold
        for name, scraper in list(self.scrapers.items()):
            free = scraper.lease is None or scraper.lease.lapsed(self.now)
            if name in known:
                assert not (self.upkeep and free and scraper.seen < edge), f"{name} stays for ever"
            else:
                upkeep = self.upkeep or self.upkeep_before_death
                assert upkeep and free and scraper.surely_seen < edge, f"{name} was forgotten"
                if scraper.live:
                    self._lose(name, AWAY, set(scraper.to_come))
                del self.scrapers[name]
        assert known == self.scrapers.keys()

    def _follow_cut(self, cut: int, size: int) -> None:
        leases = [scraper.lease for scraper in self.scrapers.values() if scraper.lease is not None]
        reserved = min((lease.floor for lease in leases if not lease.lapsed(self.now)), default=self.head + 1)
        needed = min(
            [reserved, *[min(one.ahead) for one in self.scrapers.values() if one.live and one.ahead]]
        )
        old = self.cut  # up to here everything has been held long enough, and nobody needs it
        while old + 1 < min(needed, self.head + 1) and self._is_old(old + 1):
            old += 1
        due = old if self.upkeep or self.upkeep_before_death else self.cut
        assert self.cut <= cut <= self.head, "the log came back"
        if cut > due:
            assert cut < reserved, f"{reserved} is reserved, and was cut"
            assert not self._fits(max(self.log[cut].batch[0], self.cut + 1)), "more was cut than had to be"
        following = self.log[cut + 1].batch[-1] if cut < self.head else self.head
        fits = self.head - cut <= self.limits.max_events and size <= self.limits.max_bytes
        due_now = self.cuts_at_once or self.upkeep
        assert fits or following >= reserved or not due_now, "the log is beyond its bounds"
        assert not self.upkeep or cut == self.head or following > old, (
            "what nobody needs is kept longer than the hold"
        )
        for name, scraper in self.scrapers.items():
            missed = {seq for seq in scraper.ahead if seq <= cut}
            if missed and scraper.live:
                self._lose(name, LOG_FULL, missed)
            elif missed:
                scraper.promised -= missed  # nobody waits for a visitor
            scraper.ahead -= missed
        if cut > self.cut:
            self.cut, self.up_on_disk = cut, self.up

    def _is_old(self, seq: int) -> bool:
        return self.log[seq].up < self.up - self.hold

    def _fits(self, first: int) -> bool:
        """Whether a log from this seq on is certainly within its bounds."""
        kept = [self.log[seq] for seq in range(first, self.head + 1)]
        size = sum(len(record.series + (record.value or "") + record.detail) + 2 for record in kept)
        return len(kept) <= self.limits.max_events and size <= self.limits.max_bytes

    def _lose(self, name: str, reason: str, missed: set[int]) -> None:
        if missed:
            self.scrapers[name].lost |= missed
            self.lost[name, reason] += len(missed)
            if self.unreported is not None:
                self.unreported[name, reason] += len(missed)

    def check(self) -> None:
        """Nothing is in two places, and nothing in none."""
        for name, one in self.scrapers.items():
            parts = [one.ahead, one.owed, one.delivered, one.lost]
            assert sum(map(len, parts)) == len(one.promised), f"{name}: something is in two places"
            assert set().union(*parts) == one.promised, f"{name}: something is nowhere"
