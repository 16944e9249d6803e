"""The books of a campaign: what was sent, what each scraper has read, and whether they agree.

What the daemon promises (docs/semantics.md), in terms of the books:

* An event that was answered 200 is read by each scraper exactly once. One without an answer is
  there for all scrapers, or for none; one that was refused is not there.
* The last delivery that a scraper has read from a process that was killed may come again, whole:
  its settlement may not have been on disk yet. Not if all was quiet for a while before the kill.
* A delivery may come again of which the daemon could not tell whether it was read, if its log says
  so.
* The last delivery that a scraper has thrown away unread, of a process that ended before it could
  hear and note that, may be missing.
* A delivery that a scraper has thrown away later than a second after its timeout, or after it has
  sent a FIN, may be missing.
* The events of a line that a scraper refuses are missing for this scraper, and each is counted as
  refused. Of those in a delivery that may be missing as a whole, for one of the former two reasons,
  it may be missing and not counted.
* A datagram may be missing if it was sent up to 3 s before the daemon was killed, or while there
  was none, or was dropped by the kernel and counted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from attrs import frozen
from soak.account import Account, Thrown
from soak.exchange import Exchange
from soak.marks import Reading, is_odd
from soak.sendings import Outage, Sending

KEYED, PLAIN, BULK, UDP = "POST /event with a key", "POST /event without a key", "POST /events", "UDP"
DOORS = (KEYED, PLAIN, BULK, UDP)

#: Why the daemon counts an event as lost that a scraper refuses (docs/semantics.md).
REFUSED = "refused by scraper"

#: How an exchange ends at a line that the scraper refuses.
REFUSAL = "a scraper resets the connection at a line that it refuses"

#: Seconds before a kill in which a datagram may be on its way: in the socket's buffer, in a turn
#: of the reactor, in a commit.
ON_ITS_WAY = 3.0

#: Moments that are waited for: a scraper has sent its request, the first bytes of an answer are
#: there, a response with events is read, one is about to be left unread.
ASKED, FIRST, READ, CUT = "asked", "first", "read", "cut"

#: Seconds before the end of a process in which a settlement may not be on disk yet: a commit, on a
#: machine that has other things to do. Beyond them it is a fault of the daemon's.
UNSETTLED = 10.0


@frozen(kw_only=True)
class Verdict:
    """What is to be said of one scraper.

    :param again: readings that came again as they may, not settled at a kill.
    :param uncertain: readings that came again as they may, called uncertain by the daemon.
    :param gone: (reading, events that are missing) of those thrown away as the daemon was killed.
    :param late: likewise of those thrown away too late.
    :param refused: identities that are missing because the scraper refuses their lines.
    :param uncounted: those of them that need not be counted as refused.
    :param lost: identity -> how many are missing.
    :param doubled: identity -> how many there are too many.
    """

    again: Sequence[Reading]
    uncertain: Sequence[Reading]
    gone: Sequence[tuple[Reading, int]]
    late: Sequence[tuple[Reading, int]]
    refused: Sequence[str]
    uncounted: Sequence[str]
    lost: Mapping[str, int]
    doubled: Mapping[str, int]


class Books:
    """Where all actors write down what they did; for any thread.

    :param refusing: those of the scrapers that refuse the lines of some senders.
    :ivar wrong: what must never be, as text.
    :ivar faults: how often each kind of fault was injected.
    :ivar losses: (scraper, reason) -> events that the daemon counts as lost, in the end.
    """

    def __init__(self, scrapers: Iterable[str], refusing: Iterable[str] = ()) -> None:
        self.refusing = frozenset(refusing)
        self.losses: dict[tuple[str, str], int] = {}
        self.sendings: list[Sending] = []
        self.accounts = {name: Account() for name in scrapers}
        self.wrong: list[str] = []
        self.faults: Counter[str] = Counter()
        self.outages: list[Outage] = []
        #: Times in which the daemon was stopped: what comes in then is read later.
        self.pauses: list[Outage] = []
        #: Process -> monotonic seconds of its end. A process that was killed while it started may
        #: have answered scrapes and is not in here.
        self.ended: dict[str, float] = {}
        self.in_order: set[str] = set()
        #: Scraper -> events of each delivery that the daemon's log calls uncertain.
        self.uncertain: dict[str, list[int]] = {name: [] for name in self.accounts}
        #: Processes that had time to bring everything to disk before they were killed.
        self.at_rest: set[str] = set()
        self._began: dict[str, float] = {}
        self._due: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._moments: Counter[str] = Counter()

    # -- what actors say

    def send(self, door: str, amounts: Mapping[str, int]) -> Sending:
        """Something is about to be sent."""
        sending = Sending(door=door, amounts=amounts, began=time.monotonic())
        with self._changed:
            self.sendings.append(sending)
            for identity in amounts:
                self._began.setdefault(identity, sending.began)
        return sending

    def answered(self, sending: Sending) -> None:
        """It is stored, says the daemon."""
        with self._changed:
            sending.answered = time.monotonic()
            for identity, amount in sending.amounts.items():
                self._due[identity] += amount
                if "=" not in identity:  # valued events may wait behind each other
                    for account in self.accounts.values():
                        account.waiting.append((sending.answered, identity, self._due[identity]))

    def read(self, scraper: str, reading: Reading) -> None:
        """A scraper has read a response to its last byte."""
        account = self.accounts[scraper]
        with self._changed:
            account.readings.append(reading)
            account.total.update(reading.amounts)
            for identity in reading.amounts:
                account.first_read.setdefault(identity, reading.at)
                account.reach = max(account.reach, self._began.get(identity, 0.0))
                series, _, value = identity.partition("=")
                if value and account.newest_value.setdefault(series, int(value)) > int(value):
                    self._say(f"{scraper}: {identity} came after {series}={account.newest_value[series]}")
                elif value:
                    account.newest_value[series] = int(value)
            self._moments[READ] += bool(reading.amounts)
            self._changed.notify_all()

    def exchanged(self, scraper: str, exchange: Exchange) -> None:
        """A scraper is about to ask; it goes on to fill the record in."""
        with self._changed:
            self.accounts[scraper].exchanges.append(exchange)

    def throw_away(self, scraper: str, reading: Reading | None, exchange: Exchange | None = None) -> None:
        """A scraper is about to leave a response unread.

        :param reading: what it would have read, None if it did not all come.
        """
        if reading is not None:
            with self._changed:
                self.accounts[scraper].thrown.append(Thrown(reading, exchange))
            self.moment(CUT)

    def moment(self, moment: str) -> None:
        """Something has happened that may be waited for."""
        with self._changed:
            self._moments[moment] += 1
            self._changed.notify_all()

    def fault(self, kind: str) -> None:
        """A fault was injected."""
        with self._changed:
            self.faults[kind] += 1

    def note_wrong(self, text: str) -> None:
        """Something is not as it must be."""
        with self._changed:
            self._say(text)

    def _say(self, text: str) -> None:
        self.wrong.append(text)

    # -- what is waited for

    def await_moment(self, moment: str, seconds: float) -> bool:
        """Wait until some scraper is next at `ASKED`, `FIRST`, `READ` or `CUT`."""
        with self._changed:
            before = self._moments[moment]
            return self._changed.wait_for(lambda: self._moments[moment] > before, seconds)

    def await_read(self, scraper: str, identity: str, seconds: float) -> bool:
        """Wait until the scraper has read this."""
        total = self.accounts[scraper].total
        with self._changed:
            return self._changed.wait_for(lambda: total[identity] > 0, seconds)

    def refused_lately(self, scraper: str, scrapes: int) -> bool:
        """Whether one of the scraper's last scrapes has ended at a line that it refuses."""
        with self._changed:
            return any(
                exchange.outcome == REFUSAL for exchange in self.accounts[scraper].exchanges[-scrapes:]
            )

    def await_readings(self, more: int, seconds: float) -> bool:
        """Wait until every scraper has read so many responses more."""
        with self._changed:
            goals = {name: len(account.readings) + more for name, account in self.accounts.items()}

            def reached() -> bool:
                return all(len(self.accounts[name].readings) >= goal for name, goal in goals.items())

            return self._changed.wait_for(reached, seconds)

    # -- whether they agree

    def overdue(self) -> list[str]:
        """What is missing although a scraper has read what was sent after its 200.

        Events come in the order of the log, valued ones apart; so this can be said while all is
        in motion. Not of a scraper that refuses lines: what is in a response with such a line may
        come later than its successors.
        """
        missing = []
        with self._changed:
            for name, account in self.accounts.items():
                if name in self.refusing:
                    account.waiting = []
                    continue
                thrown = {identity for thrown in account.thrown for identity in thrown.reading.amounts}
                rest = []
                for item in account.waiting:
                    answered, identity, due = item
                    if account.total[identity] >= due:
                        continue
                    if answered < account.reach and identity not in thrown:
                        missing.append(f"{name} has read later events, but not {due} of {identity}")
                    else:
                        rest.append(item)
                account.waiting = rest
        return missing

    def expected(
        self, received: Mapping[str, int] = MappingProxyType({})
    ) -> tuple[Counter[str], list[Sending]]:
        """Identity -> how many each scraper has to have; and the sendings that left no trace.

        :param received: identity -> how many a receiver of remote write has.
        """
        expected: Counter[str] = Counter()
        vanished = []
        totals = (received, *(account.total for account in self.accounts.values()))
        for sending in self.sendings:
            seen = any(total.get(i) for total in totals for i in sending.amounts)
            if sending.answered is not None or (seen and not sending.refused):
                expected.update(sending.amounts)
            elif not sending.refused:
                vanished.append(sending)
        return expected, vanished

    def verdict(self, scraper: str, expected: Mapping[str, int]) -> Verdict:
        """Hold what a scraper has read against what it has to have."""
        account = self.accounts[scraper]
        over = Counter(account.total)
        over.subtract(expected)
        refused = {i for i in over if over[i] < 0 and scraper in self.refusing and is_odd(i)}
        for identity in refused:
            del over[identity]
        uncounted: set[str] = set()
        again: list[Reading] = []
        gone: list[tuple[Reading, int]] = []
        late: list[tuple[Reading, int]] = []
        last = self._last_of_each(account.readings)
        unsettled = [
            reading
            for reading in last.values()
            if reading.process not in self.in_order and self._is_fresh(reading)
        ]
        last_thrown = self._last_of_each([thrown.reading for thrown in account.thrown])
        at_kills = [
            reading
            for reading in last_thrown.values()
            if self._is_fresh(reading)
            and (reading.process not in last or last[reading.process].at < reading.at)
        ]
        may_be_missing = [
            thrown.reading for thrown in account.thrown if thrown.reading in at_kills or thrown.is_excused
        ]
        last_read = {identity: reading.at for reading in account.readings for identity in reading.amounts}
        thrown = sum((Counter(each.amounts) for each in may_be_missing), Counter[str]())
        for reading in unsettled:
            # A part of it may have come again in a response that was thrown away and is missing, or more of
            # the same identity was missing before.
            came_again = any(over[i] >= n for i, n in reading.amounts.items()) and all(
                (over[i] >= n and last_read[i] > reading.at) or (thrown[i] and over[i] + thrown[i] >= n)
                for i, n in reading.amounts.items()
            )
            if came_again:
                over.subtract(reading.amounts)
                again.append(reading)
        uncertain = self._uncertain(scraper, over, again)
        # The rest of what may have come again: where it was thrown away then, it is not missing.
        spare = Counter[str]()
        for reading in unsettled:
            if reading not in again:
                spare.update(reading.amounts)
        before = Counter(over)
        for reading in may_be_missing:
            amounts = {i: n for i, n in reading.amounts.items() if i not in refused}
            if all(before[i] <= spare[i] - n for i, n in amounts.items()):
                # Settled as delivered at the kill, with the refused lines in it.
                uncounted |= refused.intersection(reading.amounts)
            missing = {i: min(n, -over[i]) for i, n in amounts.items() if over[i] < 0}
            if missing:
                over.update(missing)
                (gone if reading in at_kills else late).append((reading, sum(missing.values())))
        return Verdict(
            again=again,
            uncertain=uncertain,
            gone=gone,
            late=late,
            refused=sorted(refused),
            uncounted=sorted(uncounted),
            lost={identity: -n for identity, n in over.items() if n < 0},
            doubled={identity: n for identity, n in over.items() if n > 0},
        )

    def _uncertain(self, scraper: str, over: Counter[str], again: Sequence[Reading]) -> list[Reading]:
        """Take off what came again and is called uncertain by the daemon; which readings that was.

        :param again: readings that came again for another reason, and are taken off.
        """
        said = Counter(self.uncertain[scraper])
        found = []
        for reading in self.accounts[scraper].readings:
            if reading in again:
                continue
            fits = all(over[identity] >= amount for identity, amount in reading.amounts.items())
            if reading.amounts and fits and said[reading.events]:
                said[reading.events] -= 1
                over.subtract(reading.amounts)
                found.append(reading)
        return found

    def _last_of_each(self, readings: Sequence[Reading]) -> dict[str, Reading]:
        """Process -> the last one with events, in the order of time."""
        return {reading.process: reading for reading in readings if reading.amounts}

    def _is_fresh(self, reading: Reading) -> bool:
        """Whether its process ended so soon after it that not all may have been on disk."""
        process = reading.process
        return process not in self.at_rest and reading.at > self.ended.get(process, 0.0) - UNSETTLED

    def unexplained(self, vanished: Sequence[Sending]) -> list[Sending]:
        """Datagrams that are missing and should not be."""
        drops: dict[str, int] = defaultdict(int)
        for account in self.accounts.values():
            for reading in account.readings:
                drops[reading.process] = max(drops[reading.process], reading.kernel_drops)
        missing = [
            sending
            for sending in vanished
            if sending.door == UDP
            and not any(o.began <= sending.gone and sending.began <= o.ended for o in self.outages)
        ]
        return missing if len(missing) > sum(drops.values()) else []
