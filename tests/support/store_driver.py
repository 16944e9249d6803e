"""A store and its model, done to alike: what is asked of both, and how they are compared.

The rules, that is, what happens and when, are in `test_state_machine.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import Any

from attrs import define, frozen
from support.failing_connection import FrailBackend
from support.store_log import held_events
from support.store_model import Model
from support.store_records import Lease, without
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oneshotd.core.events import Event, Group, Pending
from oneshotd.core.sampling.mode import NO_HISTORY, TimestampHistory
from oneshotd.core.sampling.plan import Caps, Plan
from oneshotd.core.sampling.scrape_time import plan
from oneshotd.errors import StoreUnavailable
from oneshotd.store.clock import MAX_CLOCK_AHEAD
from oneshotd.store.interface import Conflict, Loss, Reservation, Settled, Stored, StoreStats
from oneshotd.store.limits import Limits

#: Why the events with even and with odd seqs are lost where a settlement loses them.
REASONS = ("label_limit", "clock")


@frozen
class Step:
    """Something that is asked of the store.

    :param done: takes the answer; None if it was done and the daemon died before it could say so.
    :param refused: the store could not, and nothing was changed.
    """

    ask: Callable[[], Deferred[Any]]
    done: Callable[[Any], object]
    refused: Callable[[], object] = lambda: None


@define(eq=False)
class InFlightDelivery:
    """A response that is on its way, as `oneshotd.delivery.scrapes` has them.

    :ivar says: what is to be told the store of its end, and is told until it could be stored.
    """

    name: str
    token: int
    lease: Lease
    planned: Plan
    went: set[int]
    history: TimestampHistory | None
    delivered: bool = False
    says: str | None = None


class Rig:
    """A store, open from the beginning, and its model.

    :ivar unanswered: what was asked and will not be answered before the disk is mended.
    :ivar shipments: what is under way.
    :ivar sound: nothing has gone wrong yet.
    :ivar _told: what the last upkeep said of losses; None if it could not, or not at once.
    """

    def __init__(self, backend: FrailBackend, limits: Limits) -> None:
        self.backend = backend
        backend.limits = limits
        self.model = Model(limits, cuts_at_once=backend.in_order)
        self.unanswered: list[tuple[Step, Deferred[Any]]] = []
        self.shipments: list[InFlightDelivery] = []
        self._told: list[Loss] | None = None
        assert backend.store, "opened"
        self.time_is()
        self.follow()

    def pass_time(self, seconds: float, wall_too: bool) -> None:
        """Up-time goes on."""
        self.backend.time.monotonic += seconds
        self.model.up += int(seconds * 1000)
        if wall_too:
            self.backend.time.wall += seconds
        self.time_is()
        self.follow()

    def time_is(self) -> None:
        """The clocks were set."""
        self.model.now = self.backend.time.monotonic
        self.model.wall = int(self.backend.time.wall * 1000)
        self.model.latest_wall = max(self.model.latest_wall, self.model.wall)
        if self.model.latest_wall - self.model.wall > MAX_CLOCK_AHEAD * 1000:
            # The store's times may start again with the next transaction that comes through, if there is
            # one before the clock is set once more.
            for record in self.model.log.values():
                if record.at is None or record.at > self.model.wall:
                    record.at, record.wall = None, 0

    def restart(self, killed: bool) -> None:
        """The daemon ends in good order, or dies, and begins anew."""
        self.sound = False
        if killed:
            self.model.begin()
            unanswered, self.unanswered = self.unanswered, []
            for step, deferred in unanswered:
                deferred.addErrback(lambda failure: None)
                if self.backend.came_through:
                    step.done(None)
            self.backend.crash()
            if self.model.head - self.backend.stats().events > self.model.cut:
                self.model.up_on_disk = self.model.up  # what cut the log wrote the time, too
        else:
            self.mend()
            self.backend.restart()
        if self.backend.keeps_time:
            self.model.on_disk()
        self.model.restart(killed)
        self.shipments.clear()
        self.time_is()
        self.follow()

    # -- asking

    def do(self, *steps: Step) -> None:
        """Ask the store, and hold its answers against the model, in the order of asking."""
        if len(steps) > 1 and not self.backend.in_order:
            for step in steps:
                self.do(step)
            return
        self.sound = False
        self.model.begin()
        trouble = self.backend.in_trouble
        with self.backend.together() if len(steps) > 1 else nullcontext():
            asked = [(step, step.ask()) for step in steps]
        self.backend.wait([deferred for _, deferred in asked])
        for step, deferred in asked:
            if deferred.called:
                self._take(step, deferred, trouble)
            else:
                assert trouble, "no answer"
                self.unanswered.append((step, deferred))
        self.follow()

    def _take(self, step: Step, answered: Deferred[Any], trouble: bool) -> None:
        answer: list[Any] = []
        answered.addBoth(answer.append)
        if isinstance(answer[0], Failure):
            if not (trouble and answer[0].check(StoreUnavailable)):
                answer[0].raiseException()
            step.refused()
        else:
            step.done(answer[0])

    def mend(self) -> None:
        """The disk is well again; all that could not be answered is."""
        self.backend.mend()
        self.backend.stats()
        self.model.begin()
        unanswered, self.unanswered = self.unanswered, []
        for step, deferred in unanswered:
            assert deferred.called, "no answer even now"
            self._take(step, deferred, True)
            self._told = None  # other losses may have come since
        self.follow()

    # -- what can be asked

    def append(self, groups: list[Group]) -> Step:
        """Groups of events come in."""

        def done(answer: list[Stored | Conflict] | None) -> None:
            expected = self.model.append(groups)
            assert answer in (expected, None), f"{answer} instead of {expected}"

        return Step(lambda: self.backend.store.append(groups), done)

    def reserve(
        self,
        name: str,
        limit: int,
        caps: Caps,
        seconds: float = 30.0,
        history: TimestampHistory | None = None,
        lose: Collection[int] = (),
    ) -> Step:
        """A scraper comes; what it gets is then among the shipments.

        :param lose: the rows of its pending events that it cannot take, as far as they go.
        """
        visit = self.backend.visit(name)

        def done(answer: Reservation | None) -> None:
            to_come = self.model.has_to_come(name)
            lease = self.model.reserve(visit, seconds)
            if answer is None:
                return
            if lease is None:
                assert answer == Reservation(token=None, pending=Pending(), busy="in flight")
                return
            self._compare(name, answer, to_come, limit)
            assert answer.token is not None
            self.shipments.append(self._load(name, answer.token, lease, answer.pending, caps, history, lose))

        return Step(
            lambda: self.backend.store.reserve(visit, seconds, limit), done, lambda: self.model.tried(visit)
        )

    def _compare(self, name: str, answer: Reservation, to_come: list[int], limit: int) -> None:
        """What was read is what it has to come, from the beginning."""
        pending = answer.pending
        assert list(pending.seqs) == to_come[:limit] and answer.busy is None
        assert answer.remaining == len(to_come) - len(pending)
        scraper = self.model.scrapers.get(name)
        owed = len(scraper.owed) if scraper is not None else 0
        assert answer.history == (scraper.history if scraper is not None else NO_HISTORY)
        assert (pending.owed, pending.owed_total) == (min(owed, limit), owed)
        for row in zip(pending.seqs, pending.ats, pending.series, pending.values, strict=True):
            self.model.see(Event(*row))

    def _load(
        self,
        name: str,
        token: int,
        lease: Lease,
        pending: Pending,
        caps: Caps,
        history: TimestampHistory | None,
        lose: Collection[int],
    ) -> InFlightDelivery:
        lost = {seq for row, seq in enumerate(pending.seqs) if row in lose}
        owed, pending = set(pending.seqs[: pending.owed]), without(pending, lost)
        planned = plan(pending, caps)
        lost = {seq for seq in lost if seq in owed or seq <= planned.cursor}
        reasons = {
            reason: frozenset(seq for seq in lost if seq % 2 == odd) for odd, reason in enumerate(REASONS)
        }
        newly_owed = set(planned.newly_owed)
        new = [seq for seq in pending.seqs[pending.owed :] if seq <= planned.cursor]
        went = set(planned.went_out) | (set(new) - newly_owed)
        # What the scraper will see: a number of occurrences, or one value.
        records = [self.model.log[seq] for seq in went]
        occurrences = Counter(record.series for record in records if record.value is None)
        shown = {series: str(count) for series, count in occurrences.items()}
        for record in records:
            if record.value is not None:
                assert record.series not in shown
                shown[record.series] = record.value
        assert {sample.series: sample.value for sample in planned.samples} == shown
        assert planned.events == len(went)
        lease.lost = reasons
        return InFlightDelivery(name, token, lease, planned, went, history)

    def look(self, name: str, limit: int) -> Step:
        """Somebody looks at what would come."""

        def done(answer: Reservation | None) -> None:
            if answer is not None:
                self._compare(name, answer, self.model.has_to_come(name), limit)

        return Step(lambda: self.backend.store.look(self.backend.visit(name), limit), done)

    def tell(self, shipment: InFlightDelivery) -> Step:
        """Tell the store what the shipment says of its end."""
        model, lease, name, planned = self.model, shipment.lease, shipment.name, shipment.planned
        lapsed = lease.lapsed(model.now)
        says = shipment.says
        assert says is not None

        def ask() -> Deferred[Settled]:
            lease.asked = True
            if says == "revoked":
                return self.backend.store.revoke(shipment.token)
            return self.backend.store.settle(
                shipment.token,
                says == "delivered",
                planned.cursor,
                planned.newly_owed,
                planned.went_out,
                shipment.history,
                {reason: sorted(seqs) for reason, seqs in lease.lost.items()},
            )

        def done(answer: Settled | None) -> None:
            lease.asked, shipment.says = False, None
            if not model.holds(name, lease):
                assert answer in (Settled.SUPERSEDED, None), "it was not its turn any more"
            elif answer is Settled.SUPERSEDED:
                assert lapsed, "its turn was taken away"
            elif says == "delivered":
                assert answer in (Settled.SETTLED, None)
                newly_owed = set(planned.newly_owed)
                model.deliver(name, lease, shipment.went, planned.cursor, newly_owed, shipment.history)
                shipment.delivered = True
                return
            else:
                assert answer in (Settled.SETTLED, None)
                if says == "revoked":
                    model.revoke(name, lease)
                else:
                    model.end(name)
            self.shipments.remove(shipment)

        def refused() -> None:
            lease.asked = self.backend.keeps_leases

        return Step(ask, done, refused)

    def release(self, shipment: InFlightDelivery) -> Step:
        """A delivery is final."""

        def done(answer: None) -> None:
            if self.model.holds(shipment.name, shipment.lease):
                self.model.end(shipment.name)
            self.shipments.remove(shipment)

        return Step(lambda: self.backend.store.release(shipment.token), done)

    def prune(self) -> Step:
        """One round of upkeep."""

        def done(answer: list[Loss] | None) -> None:
            self.model.on_disk()
            self.model.upkeep = True
            self._told = answer

        return Step(self.backend.store.prune, done)

    # -- comparing

    def follow(self) -> None:
        """All figures and all held events are the model's."""
        for _ in range(2):  # the first attempt may be what fails
            found = self._read() if not self.unanswered else None
            if found is not None:
                self._hold_against(*found)
                break
        self.sound = True

    def _read(self) -> tuple[list[Event], StoreStats] | None:
        """The log and the figures, None if the store cannot say."""
        found: list[Any] = []
        # In this order: the first one cuts the log where a lease has lapsed, the second one counts.
        for ask in (lambda: held_events(self.backend.store), self.backend.store.stats):
            trouble = self.backend.in_trouble
            asked = ask()
            self.backend.wait([asked])
            if asked.called:
                self._take(Step(ask, found.append), asked, trouble)
            else:
                assert trouble, "no answer"
                self.unanswered.append((Step(ask, lambda answer: None), asked))
                return None
        return (found[0], found[1]) if len(found) == 2 else None

    def _hold_against(self, events: list[Event], stats: StoreStats) -> None:
        """Compare with the model."""
        model = self.model
        cut_before = model.cut
        upkeep = model.upkeep
        for event in events:
            model.see(event, event.detail)
        model.follow(stats)
        shown = [event.seq for event in events]
        assert shown == list(range(shown[0], model.head + 1)) if shown else model.cut == model.head
        assert model.head - len(shown) in range(cut_before, model.cut + 1)
        assert stats.head == model.head
        for status in stats.scrapers:
            scraper = model.scrapers[status.name]
            figures = (len(scraper.to_come), len(scraper.owed), scraper.live)
            assert (status.pending, status.owed, status.live) == figures, status
            assert (status.oldest_at is None) == (not scraper.to_come), status
            mine = {reason: count for (name, reason), count in model.lost.items() if name == status.name}
            assert status.lost == mine, status
        assert dict(stats.lost) == dict(model.lost)
        if upkeep:
            if self._told is not None and model.unreported is not None:
                told: Counter[tuple[str, str]] = Counter()
                for loss in self._told:
                    told[loss.scraper, loss.reason] += loss.events
                assert told == model.unreported, "losses that upkeep told"
            model.unreported = None if self._told is None else Counter()
        model.check()
