"""The state machine of a store: what clients, scrapers, clocks and disks do to it, in any order.

Each answer and all figures are compared with `support.store_model`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.failing_connection import FrailBackend, Trouble
from support.store_driver import InFlightDelivery, Rig

from oneshotd.core.events import Count, Group, NewEvent
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.core.sampling.plan import Caps
from oneshotd.store.limits import Limits

T = TypeVar("T")

#: A file system in memory: what is tested is what is written when, not the disk.
SHM = "/dev/shm"

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
SERIES = st.sampled_from(["a", "a", "b", 'a{x="1"}'])
VALUES = st.sampled_from([None, "1", "2"])
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])

DETAILS = st.sampled_from(["", "", "", '{"t":"x"}', '{"t":"é"}'])
COUNTS = st.builds(
    Count,
    event=st.just(0),
    key=st.sampled_from(["c1", "c2"]),
    count=st.integers(0, 5),
    unknown=st.integers(0, 2),
    seconds=st.sampled_from([WINDOW, HOLD]),
)

PLAIN = st.builds(NewEvent, SERIES, VALUES, st.none(), DETAILS)
KEYED = st.builds(NewEvent, SERIES, VALUES, st.none() | st.none() | KEYS, DETAILS)
GROUPS = st.one_of(
    st.builds(Group, events=st.lists(PLAIN, min_size=1, max_size=4), key=st.none()),
    st.builds(Group, events=st.lists(KEYED, min_size=1, max_size=4), key=st.none()),
    st.builds(Group, events=st.lists(PLAIN, min_size=1, max_size=2), key=KEYS),
    st.builds(
        Group,
        events=st.lists(KEYED, min_size=1, max_size=2),
        states=st.lists(COUNTS, min_size=1, max_size=2),
    ),
)
APPENDS = st.lists(GROUPS, min_size=1, max_size=2)

CAPS = st.builds(Caps, owed=st.sampled_from([2, 9])) | st.builds(
    Caps,
    samples=st.sampled_from([1, 2, 20]),
    bytes=st.sampled_from([100, 9999]),
    owed=st.sampled_from([0, 2, 9]),
)
#: The mode of a response and its times: what the store keeps of them is the same as was settled.
HISTORIES = st.none() | st.builds(
    TimestampHistory, event_time=st.booleans(), floor=st.integers(0, 2), latest=st.integers(0, 2)
)
READ = st.sampled_from([1, 2, 100])
#: Rows of a scrape's pending events that the scraper cannot take.
LOSE = st.sampled_from([(), (), (0,), (1,), (0, 2), (0, 1, 2, 3, 4)])
WHO = st.sampled_from(["p", *NAMES])  # one of them comes more often, and so has a story
WHICH = st.integers(0, 5)


def pick(which: int, among: list[T]) -> T:
    """One of them."""
    return among[which % len(among)]


class Ledger(RuleBasedStateMachine):
    """One store, from its first opening on."""

    def __init__(self, make: Callable[[Path], FrailBackend]) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="oneshotd-", dir=SHM if os.path.isdir(SHM) else None))
        self.backend = make(self.folder)
        self.sent: list[list[Group]] = []
        self.rig: Rig

    @initialize(limits=st.sampled_from(sorted(LIMITS)))
    def begin(self, limits: str) -> None:
        self.rig = Rig(self.backend, LIMITS[limits])

    # -- clients

    @rule(groups=APPENDS)
    def events_come(self, groups: list[Group]) -> None:
        self.sent.append(groups)
        self.rig.do(self.rig.append(groups))

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 50))
    def a_client_says_it_again(self, which: int) -> None:
        """Whether it had an answer or not; events without a key are new ones."""
        self.rig.do(self.rig.append(pick(which, self.sent)))

    # -- scrapers

    @rule(name=WHO, limit=READ, caps=CAPS, seconds=LEASES, history=HISTORIES, lose=LOSE)
    def a_scrape_begins(
        self,
        name: str,
        limit: int,
        caps: Caps,
        seconds: float,
        history: TimestampHistory | None,
        lose: tuple[int, ...],
    ) -> None:
        self.rig.do(self.rig.reserve(name, limit, caps, seconds, history, lose))

    @rule(name=WHO, limit=READ)
    def somebody_looks(self, name: str, limit: int) -> None:
        self.rig.do(self.rig.look(name, limit))

    def among(self, delivered: bool, told: bool = False) -> list[InFlightDelivery]:
        """The responses of which the scraper has every byte, or not; and whose end was told in vain."""
        # What has lapsed may be settled late or not, as the store likes; but it need not know what
        # it likes while the disk fails, so that is left out.
        return [
            one
            for one in self.rig.shipments
            if one.delivered == delivered
            and (one.says is not None) == told
            and not (self.backend.in_trouble and one.lease.lapsed(self.rig.model.now))
        ]

    @precondition(lambda self: self.among(delivered=False))
    @rule(which=WHICH, says=st.sampled_from(["delivered", "delivered", "returned"]))
    def a_response_ends(self, which: int, says: str) -> None:
        shipment = pick(which, self.among(delivered=False))
        shipment.says = says
        self.rig.do(self.rig.tell(shipment))

    @precondition(lambda self: self.among(delivered=True))
    @rule(which=WHICH)
    def a_response_is_thrown_away(self, which: int) -> None:
        shipment = pick(which, self.among(delivered=True))
        shipment.says = "revoked"
        self.rig.do(self.rig.tell(shipment))

    @precondition(lambda self: self.among(delivered=True))
    @rule(which=WHICH)
    def a_delivery_is_final(self, which: int) -> None:
        self.rig.do(self.rig.release(pick(which, self.among(delivered=True))))

    def told_in_vain(self) -> list[InFlightDelivery]:
        """Whose end is to be told again; not while the answer may still come."""
        return [] if self.rig.unanswered else [*self.among(False, told=True), *self.among(True, told=True)]

    @precondition(lambda self: self.told_in_vain())
    @rule(which=WHICH)
    def the_store_is_told_again(self, which: int) -> None:
        self.rig.do(self.rig.tell(pick(which, self.told_in_vain())))

    @rule(
        name=WHO,
        caps=CAPS,
        before=st.integers(0, 3),
        end=st.sampled_from(["final", "final", "revoked", "open", "told in vain"]),
        history=HISTORIES,
        lose=LOSE,
    )
    def a_scraper_comes_regularly(
        self,
        name: str,
        caps: Caps,
        before: int,
        end: str,
        history: TimestampHistory | None,
        lose: tuple[int, ...],
    ) -> None:
        """Some scrapes that end well, and one that may not."""
        for _ in range(before):
            self.scrape(name, caps, "final", None)
        self.scrape(name, caps, end, history, lose)

    def scrape(
        self, name: str, caps: Caps, end: str, history: TimestampHistory | None, lose: tuple[int, ...] = ()
    ) -> None:
        before = len(self.rig.shipments)
        self.rig.do(self.rig.reserve(name, 100, caps, history=history, lose=lose))
        if len(self.rig.shipments) == before:
            return
        shipment = self.rig.shipments[-1]
        shipment.says = "delivered"
        if end == "told in vain" and not self.backend.in_trouble:
            self.backend.fail(Trouble.FULL, 0, False)
        self.rig.do(self.rig.tell(shipment))
        if shipment.delivered and end == "final":
            self.rig.do(self.rig.release(shipment))
        elif shipment.delivered and end == "revoked":
            shipment.says = end
            self.rig.do(self.rig.tell(shipment))

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
        steps = [self.rig.append(groups) for groups in appends]
        self.sent += appends
        scrapes = [self.rig.reserve(name, 100, caps) for name in names]
        open_ = [*self.among(delivered=False), *self.among(delivered=True)]
        endings = [one for one in open_ if not one.lease.lapsed(self.rig.model.now)]
        if endings:
            ending = pick(which, endings)
            ending.says = "revoked" if ending.delivered else "delivered"
            steps.append(self.rig.tell(ending))
        self.rig.do(*(scrapes + steps if first else steps + scrapes))

    # -- time

    @precondition(lambda self: not self.rig.unanswered)
    @rule(seconds=st.sampled_from([1.0, 9.0, WINDOW, 30.0, HOLD + 1]), wall_too=st.booleans())
    def time_passes(self, seconds: float, wall_too: bool) -> None:
        self.rig.pass_time(seconds, wall_too)

    @precondition(lambda self: not self.rig.unanswered)
    @rule(seconds=st.sampled_from([-3600.0, -1.0, -0.125, 0.125, 1.0, 3600.0]))
    def the_wall_clock_is_set(self, seconds: float) -> None:
        self.backend.time.wall += seconds
        self.rig.time_is()

    @rule()
    def upkeep(self) -> None:
        self.rig.do(self.rig.prune())

    @precondition(lambda self: not self.rig.unanswered)
    @rule()
    def a_hold_passes(self) -> None:
        self.rig.pass_time(HOLD + 1, True)
        self.rig.do(self.rig.prune())

    # -- the disk and the daemon

    @precondition(lambda self: not self.backend.in_trouble)
    @rule(trouble=st.sampled_from(Trouble), after=st.integers(0, 12), lasting=st.booleans())
    def the_disk_will_fail(self, trouble: Trouble, after: int, lasting: bool) -> None:
        self.backend.fail(trouble, after, lasting)

    @precondition(lambda self: self.backend.in_trouble)
    @rule()
    def the_disk_is_mended(self) -> None:
        self.rig.mend()

    @precondition(lambda self: self.rig.unanswered)
    @rule()
    def the_daemon_is_killed_in_doubt(self) -> None:
        """Clients and scrapers never hear what became of what they asked."""
        self.rig.restart(killed=True)

    @rule(killed=st.booleans())
    def the_daemon_begins_anew(self, killed: bool) -> None:
        self.rig.restart(killed)

    def teardown(self) -> None:
        try:
            if hasattr(self, "rig") and self.rig.sound:
                self.drain()
        finally:
            self.backend.finish()
            shutil.rmtree(self.folder, ignore_errors=True)

    def drain(self) -> None:
        """At the end each scraper gets what it has to come, and nothing else."""
        self.rig.mend()
        for shipment in list(self.rig.shipments):
            if shipment.says is None and not shipment.delivered:
                shipment.says = "returned"
            self.rig.do(self.rig.tell(shipment) if shipment.says else self.rig.release(shipment))
            if shipment in self.rig.shipments:
                self.rig.do(self.rig.release(shipment))
        for name, scraper in list(self.rig.model.scrapers.items()):
            for _ in range(1 + len(scraper.to_come)):
                self.scrape(name, Caps(), "final", None)
            assert not scraper.to_come and not self.rig.model.has_to_come(name)


def run_machine(make: Callable[[Path], FrailBackend], examples: int, shrink: bool = True) -> None:
    """Run the machine on stores that `make` gives for a folder.

    :param shrink: look for the shortest way to a failure, which takes minutes where a step is slow.
    """

    class Here(Ledger):
        def __init__(self) -> None:
            super().__init__(make)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=int(os.environ.get("ONESHOTD_EXAMPLES", examples)),
            stateful_step_count=40,
            phases=[each for each in Phase if shrink or each is not Phase.shrink],
            deadline=None,
            # A step is some transactions, and a run makes files: slow by Hypothesis' measure.
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
