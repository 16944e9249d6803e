"""Whatever happens in whatever order, each scraper gets each event once, or the loss is counted.

Hypothesis does to a store what clients, scrapers, clocks and disks do, and compares each answer
and all figures with `store.model`. If this fails, events were lost, doubled, out of order or
miscounted; what it prints is the shortest way to that which was found.

ONESHOTD_EXAMPLES raises the number of runs (60) for a long campaign.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, frozen
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from store.frail import FrailBackend, FrailSQLite, Trouble
from store.model import Lease, Model
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from oneshotd.core.event import Event, Group, NewEvent, Pending
from oneshotd.core.sampling import Caps, Plan, plan
from oneshotd.errors import StoreUnavailable
from oneshotd.store import segments
from oneshotd.store.interface import Census, Conflict, Loss, Reservation, Settled, Stored
from oneshotd.store.ledger import Limits

T = TypeVar("T")

#: Seconds: short enough that every age is reached in a few steps.
HOLD, WINDOW = 60.0, 20.0
LEASES = st.sampled_from([30.0, 150.0])

LIMITS = {
    "room enough": Limits(hold=HOLD, newcomers=WINDOW),
    "a window as long as the hold": Limits(hold=HOLD, newcomers=HOLD),
    "few events": Limits(hold=HOLD, newcomers=WINDOW, max_events=5),
    "little text": Limits(hold=HOLD, newcomers=WINDOW, max_bytes=40),
}

#: Two that say their names, and two visitors at first.
NAMES = ["p", "q", "192.0.2.7 Prometheus", "192.0.2.7 curl"]

# Few series, values and keys, so that they meet.
SERIES = st.sampled_from(["a", 'a{x="1"}', "b"])
VALUES = st.sampled_from([None, "1", "2"])
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])

PLAIN = st.builds(NewEvent, SERIES, VALUES, st.none())
KEYED = st.builds(NewEvent, SERIES, VALUES, st.none() | st.none() | KEYS)
GROUPS = st.one_of(
    st.builds(Group, events=st.lists(PLAIN, min_size=1, max_size=4), key=st.none()),
    st.builds(Group, events=st.lists(KEYED, min_size=1, max_size=4), key=st.none()),
    st.builds(Group, events=st.lists(PLAIN, min_size=1, max_size=2), key=KEYS),
)
APPENDS = st.lists(GROUPS, min_size=1, max_size=2)

# Event-time mode: a mode goes with the caps, and changes from scrape to scrape.
CAPS = st.builds(
    Caps,
    samples=st.sampled_from([1, 2, 20]),
    bytes=st.sampled_from([100, 9999]),
    owed=st.sampled_from([0, 2, 9]),
)
READ = st.sampled_from([1, 2, 100])
WHO = st.sampled_from(NAMES)
WHICH = st.integers(0, 5)


@frozen
class Step:
    """Something that is asked of the store.

    :param done: takes the answer; None if it was done and the daemon died before it could say so.
    :param refused: the store could not, and nothing was changed.
    """

    ask: Callable[[], Deferred[Any]]
    done: Callable[[Any], object]
    refused: Callable[[], object] = lambda: None


def pick(which: int, among: list[T]) -> T:
    """One of them."""
    return among[which % len(among)]


@define(eq=False)
class Shipment:
    """A response that is on its way, as `oneshotd.delivery` has them.

    :ivar says: what is to be told the store of its end, and is told until it could be stored.
    """

    name: str
    token: int
    lease: Lease
    planned: Plan
    went: set[int]
    delivered: bool = False
    says: str | None = None


class Ledger(RuleBasedStateMachine):
    """One store, from its first opening on."""

    def __init__(self, make: Callable[[Path], FrailBackend]) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="oneshotd-", dir=SHM if os.path.isdir(SHM) else None))
        self.backend = make(self.folder)
        self.unanswered: list[tuple[Step, Deferred[Any]]] = []
        self.shipments: list[Shipment] = []
        self.sent: list[list[Group]] = []
        self.sound = False  # the teardown goes on only where nothing was wrong

    @initialize(limits=st.sampled_from(sorted(LIMITS)))
    def begin(self, limits: str) -> None:
        self.backend.limits = LIMITS[limits]
        self.model = Model(LIMITS[limits])
        assert self.backend.store  # opened
        self.time_is()
        self.follow()

    def time_is(self) -> None:
        self.model.now = self.backend.time.monotonic
        self.model.wall = int(self.backend.time.wall * 1000)
        self.model.latest_wall = max(self.model.latest_wall, self.model.wall)

    # -- asking

    def do(self, *steps: Step) -> None:
        """Ask the store, and hold its answers against the model, in the order of asking."""
        self.sound = False
        self.model.begin()
        trouble = self.backend.in_trouble
        with self.backend.together() if len(steps) > 1 else nullcontext():
            asked = [(step, step.ask()) for step in steps]
        self.backend.wait([deferred for _, deferred in asked])
        for step, deferred in asked:
            if deferred.called:
                self.take(step, deferred, trouble)
            else:
                assert trouble, "no answer"
                self.unanswered.append((step, deferred))
        self.follow()

    def take(self, step: Step, answered: Deferred[Any], trouble: bool) -> None:
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
        self.backend.census()
        self.model.begin()
        unanswered, self.unanswered = self.unanswered, []
        for step, deferred in unanswered:
            assert deferred.called, "no answer even now"
            self.take(step, deferred, True)
        self.follow()

    # -- what can be asked

    def append(self, groups: list[Group]) -> Step:
        def done(answer: list[Stored | Conflict] | None) -> None:
            expected = self.model.append(groups)
            assert answer in (expected, None), f"{answer} instead of {expected}"

        return Step(lambda: self.backend.store.append(groups), done)

    def reserve(self, name: str, limit: int, caps: Caps, seconds: float) -> Step:
        visit = self.backend.visit(name)

        def done(answer: Reservation | None) -> None:
            to_come = self.model.has_to_come(name)
            lease = self.model.reserve(visit, seconds)
            if answer is None:
                return
            if lease is None:
                assert answer == Reservation(token=None, pending=Pending(), busy="in flight")
                return
            self.compare(name, answer, to_come, limit)
            assert answer.token is not None
            self.shipments.append(self.load(name, answer.token, lease, answer.pending, caps))

        return Step(
            lambda: self.backend.store.reserve(visit, seconds, limit), done, lambda: self.model.tried(visit)
        )

    def compare(self, name: str, answer: Reservation, to_come: list[int], limit: int) -> None:
        """What was read is what it has to come, from the beginning."""
        pending = answer.pending
        assert list(pending.seqs) == to_come[:limit] and answer.busy is None
        assert answer.remaining == len(to_come) - len(pending)
        scraper = self.model.scrapers.get(name)
        owed = len(scraper.owed) if scraper is not None else 0
        assert (pending.owed, pending.owed_total) == (min(owed, limit), owed)
        for row in zip(pending.seqs, pending.ats, pending.series, pending.values, strict=True):
            self.model.see(Event(*row))

    def load(self, name: str, token: int, lease: Lease, pending: Pending, caps: Caps) -> Shipment:
        planned = plan(pending, caps)
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
        return Shipment(name, token, lease, planned, went)

    def look(self, name: str, limit: int) -> Step:
        def done(answer: Reservation | None) -> None:
            if answer is not None:
                self.compare(name, answer, self.model.has_to_come(name), limit)

        return Step(lambda: self.backend.store.look(self.backend.visit(name), limit), done)

    def tell(self, shipment: Shipment) -> Step:
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
                shipment.token, says == "delivered", planned.cursor, planned.newly_owed, planned.went_out
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
                model.deliver(name, lease, shipment.went, planned.cursor, newly_owed)
                shipment.delivered = True
                return
            else:
                assert answer in (Settled.SETTLED, None)
                if says == "revoked":
                    model.revoke(name, lease)
                else:
                    model.end(name)
            self.shipments.remove(shipment)

        return Step(ask, done)

    def release(self, shipment: Shipment) -> Step:
        def ask() -> Deferred[None]:
            self.backend.store.release(shipment.token)
            return succeed(None)

        def done(answer: None) -> None:
            if self.model.holds(shipment.name, shipment.lease):
                self.model.end(shipment.name)
            self.shipments.remove(shipment)

        return Step(ask, done)

    def prune(self) -> Step:
        def done(answer: list[Loss] | None) -> None:
            self.model.on_disk()
            self.model.upkeep = True
            self.told = answer

        return Step(self.backend.store.prune, done)

    # -- clients

    @rule(groups=APPENDS)
    def events_come(self, groups: list[Group]) -> None:
        self.sent.append(groups)
        self.do(self.append(groups))

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 50))
    def a_client_says_it_again(self, which: int) -> None:
        """Whether it had an answer or not; events without a key are new ones."""
        self.do(self.append(pick(which, self.sent)))

    # -- scrapers

    @rule(name=WHO, limit=READ, caps=CAPS, seconds=LEASES)
    def a_scrape_begins(self, name: str, limit: int, caps: Caps, seconds: float) -> None:
        self.do(self.reserve(name, limit, caps, seconds))

    @rule(name=WHO, limit=READ)
    def somebody_looks(self, name: str, limit: int) -> None:
        self.do(self.look(name, limit))

    def among(self, delivered: bool, told: bool = False) -> list[Shipment]:
        """The responses of which the scraper has every byte, or not; and whose end was told in vain."""
        # What has lapsed may be settled late or not, as the store likes; but it need not know what
        # it likes while the disk fails, so that is left out.
        return [
            one
            for one in self.shipments
            if one.delivered == delivered
            and (one.says is not None) == told
            and not (self.backend.in_trouble and one.lease.lapsed(self.model.now))
        ]

    @precondition(lambda self: self.among(delivered=False))
    @rule(which=WHICH, says=st.sampled_from(["delivered", "delivered", "returned"]))
    def a_response_ends(self, which: int, says: str) -> None:
        shipment = pick(which, self.among(delivered=False))
        shipment.says = says
        self.do(self.tell(shipment))

    @precondition(lambda self: self.among(delivered=True))
    @rule(which=WHICH)
    def a_response_is_thrown_away(self, which: int) -> None:
        shipment = pick(which, self.among(delivered=True))
        shipment.says = "revoked"
        self.do(self.tell(shipment))

    @precondition(lambda self: self.among(delivered=True))
    @rule(which=WHICH)
    def a_delivery_is_final(self, which: int) -> None:
        self.do(self.release(pick(which, self.among(delivered=True))))

    def told_in_vain(self) -> list[Shipment]:
        """Whose end is to be told again; not while the answer may still come."""
        return [] if self.unanswered else [*self.among(False, told=True), *self.among(True, told=True)]

    @precondition(lambda self: self.told_in_vain())
    @rule(which=WHICH)
    def the_store_is_told_again(self, which: int) -> None:
        self.do(self.tell(pick(which, self.told_in_vain())))

    @rule(name=WHO, caps=CAPS, end=st.sampled_from(["final", "final", "revoked", "open", "told in vain"]))
    def a_whole_scrape(self, name: str, caps: Caps, end: str) -> None:
        before = len(self.shipments)
        self.do(self.reserve(name, 100, caps, 30.0))
        if len(self.shipments) == before:
            return
        shipment = self.shipments[-1]
        shipment.says = "delivered"
        if end == "told in vain":
            self.backend.fail(Trouble.FULL, 0, False)
        self.do(self.tell(shipment))
        if shipment.delivered and end == "final":
            self.do(self.release(shipment))
        elif shipment.delivered and end == "revoked":
            shipment.says = end
            self.do(self.tell(shipment))

    # -- all of them at once

    @rule(
        appends=st.lists(APPENDS, max_size=2),
        names=st.lists(WHO, max_size=2),
        caps=CAPS,
        which=WHICH,
        first=st.booleans(),
    )
    def a_crowd(
        self, appends: list[list[Group]], names: list[str], caps: Caps, which: int, first: bool
    ) -> None:
        """What comes in during one commit goes into the next one, together."""
        steps = [self.append(groups) for groups in appends]
        self.sent += appends
        scrapes = [self.reserve(name, 100, caps, 30.0) for name in names]
        open_ = [*self.among(delivered=False), *self.among(delivered=True)]
        endings = [one for one in open_ if not one.lease.lapsed(self.model.now)]
        if endings:
            ending = pick(which, endings)
            ending.says = "revoked" if ending.delivered else "delivered"
            steps.append(self.tell(ending))
        self.do(*(scrapes + steps if first else steps + scrapes))

    # -- time

    @precondition(lambda self: not self.unanswered)
    @rule(seconds=st.sampled_from([1.0, 9.0, WINDOW, 30.0, HOLD + 1]), wall_too=st.booleans())
    def time_passes(self, seconds: float, wall_too: bool) -> None:
        self.backend.time.monotonic += seconds
        self.model.up += int(seconds * 1000)
        if wall_too:
            self.backend.time.wall += seconds
        self.time_is()
        self.follow()

    @precondition(lambda self: not self.unanswered)
    @rule(seconds=st.sampled_from([-3600.0, -1.0, -0.125, 0.125, 1.0, 3600.0]))
    def the_wall_clock_is_set(self, seconds: float) -> None:
        self.backend.time.wall += seconds
        self.time_is()

    @rule()
    def upkeep(self) -> None:
        self.do(self.prune())

    @precondition(lambda self: not self.unanswered)
    @rule()
    def a_hold_passes(self) -> None:
        self.time_passes(HOLD + 1, True)
        self.do(self.prune())

    # -- the disk and the daemon

    @precondition(lambda self: not self.backend.in_trouble)
    @rule(trouble=st.sampled_from(Trouble), after=st.integers(0, 12), lasting=st.booleans())
    def the_disk_will_fail(self, trouble: Trouble, after: int, lasting: bool) -> None:
        self.backend.fail(trouble, after, lasting)

    @precondition(lambda self: self.backend.in_trouble)
    @rule()
    def the_disk_is_mended(self) -> None:
        self.mend()

    @precondition(lambda self: self.unanswered)
    @rule()
    def the_daemon_is_killed_in_doubt(self) -> None:
        """Clients and scrapers never hear what became of what they asked."""
        self.the_daemon_begins_anew(True)

    @rule(killed=st.booleans())
    def the_daemon_begins_anew(self, killed: bool) -> None:
        self.sound = False
        if killed:
            self.model.begin()
            unanswered, self.unanswered = self.unanswered, []
            for step, deferred in unanswered:
                deferred.addErrback(lambda failure: None)
                if self.backend.came_through:
                    step.done(None)
            self.backend.crash()
        else:
            self.mend()
            self.backend.restart()
        self.model.restart(killed)
        self.shipments.clear()
        self.time_is()
        self.follow()

    # -- comparing

    def follow(self) -> None:
        """All figures and all held events are the model's."""
        for _ in range(2):  # the first attempt may be what fails
            found = self.read() if not self.unanswered else None
            if found is not None:
                self.hold_against(*found)
                break
        self.sound = True

    def read(self) -> tuple[list[Event], Census] | None:
        """The log and the figures, None if the store cannot say."""
        found: list[Any] = []
        # In this order: the first one cuts the log where a lease has lapsed, the second one counts.
        for ask in (lambda: self.backend.store.events(0, {}, 10**9), self.backend.store.census):
            trouble = self.backend.in_trouble
            asked = ask()
            self.backend.wait([asked])
            if asked.called:
                self.take(Step(ask, found.append), asked, trouble)
            else:
                assert trouble, "no answer"
                self.unanswered.append((Step(ask, lambda answer: None), asked))
                return None
        return (found[0], found[1]) if len(found) == 2 else None

    def hold_against(self, events: list[Event], census: Census) -> None:
        """Compare with the model."""
        model = self.model
        cut_before = model.cut
        upkeep = model.upkeep
        for event in events:
            model.see(event)
        model.follow(census)
        shown = [event.seq for event in events]
        assert shown == list(range(shown[0], model.head + 1)) if shown else model.cut == model.head
        assert model.head - len(shown) in range(cut_before, model.cut + 1)
        assert census.head == model.head
        for status in census.scrapers:
            scraper = model.scrapers[status.name]
            figures = (len(scraper.to_come), len(scraper.owed), scraper.live)
            assert (status.pending, status.owed, status.live) == figures, status
            assert (status.oldest_at is None) == (not scraper.to_come), status
            mine = {reason: count for (name, reason), count in model.lost.items() if name == status.name}
            assert status.lost == mine, status
        assert dict(census.lost) == dict(model.lost)
        if upkeep:
            if self.told is not None and model.unreported is not None:
                told: Counter[tuple[str, str]] = Counter()
                for loss in self.told:
                    told[loss.scraper, loss.reason] += loss.events
                assert told == model.unreported, "losses that upkeep told"
            model.unreported = Counter()
        model.check()

    def teardown(self) -> None:
        try:
            if self.sound:
                self.drain()
        finally:
            self.backend.finish()
            shutil.rmtree(self.folder, ignore_errors=True)

    def drain(self) -> None:
        """At the end each scraper gets what it has to come, and nothing else."""
        self.mend()
        for shipment in list(self.shipments):
            if shipment.says is None and not shipment.delivered:
                shipment.says = "returned"
            self.do(self.tell(shipment) if shipment.says else self.release(shipment))
            if shipment in self.shipments:
                self.do(self.release(shipment))
        for name, scraper in list(self.model.scrapers.items()):
            for _ in range(1 + len(scraper.to_come)):
                self.a_whole_scrape(name, Caps(), "final")
            assert not scraper.to_come and not self.model.has_to_come(name)


#: A file system in memory: what is tested is what is written when, not the disk.
SHM = "/dev/shm"


@pytest.mark.parametrize("make", [FrailSQLite], ids=["sqlite"])
def test_the_ledger(make: Callable[[Path], FrailBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_EVENTS", 3)  # so that a commit has several of them
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Ledger(make),
        settings=settings(
            max_examples=int(os.environ.get("ONESHOTD_EXAMPLES", "60")),
            stateful_step_count=40,
            deadline=None,
            # A step is some transactions, and a run makes files: slow by Hypothesis' measure.
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
