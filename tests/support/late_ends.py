"""A model of two daemons on one store that are stopped beyond their leases: what is told too late is counted.

Each event is a series of its own. An event that a scraper has not got is pending or counted as lost, and
one that it has got twice is counted as superseded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
from attrs import define
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from support.delivery_driver import sums
from support.store_backends import Backend, group
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oneshotd.core.identity import Visit
from oneshotd.core.sampling.plan import Caps
from oneshotd.core.scrape_request import Wanted
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import LEASE_MARGIN, MAX_ELSEWHERE_WAIT, Delivery
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import LATE, IStore, StoreStats

TIMEOUT = 10.0
VISIT = Visit(name="p", named=True)

#: Opens a back end in a folder; returns it and the stores of the daemons.
Open = Callable[[Path], tuple[Backend, list[IStore]]]


@define
class Sending:
    """A response of which the end is not final.

    :ivar has_lapsed: its lease has.
    """

    delivery: InFlightDelivery
    events: Counter[str]
    is_delivered: bool = False
    has_lapsed: bool = False


class LateEnds(RuleBasedStateMachine):
    """Two daemons and a scraper that goes to either."""

    def __init__(self, open_stores: Open) -> None:
        super().__init__()
        self._open = open_stores

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.backend, self.stores = self._open(Path(self.folder.name))
        self.clock = Clock()
        caps = Caps(samples=5, bytes=10_000, owed=3)
        self.telemetries = [Telemetry() for _ in self.stores]
        self.daemons = [
            Delivery(store, telemetry, self.clock, caps)
            for store, telemetry in zip(self.stores, self.telemetries, strict=True)
        ]
        self.sent = 0
        self.got: Counter[str] = Counter()
        self.sendings: list[Sending] = []
        self.scrape(0)  # so that it is known

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            for call in self.clock.getDelayedCalls():
                call.cancel()
            self.backend.finish()
            self.folder.cleanup()

    def quiet(self) -> None:
        """Wait until the stores have carried out all requests."""
        for _ in range(3):
            for store in self.stores:
                self.backend.get(store.stats())

    def stats(self) -> StoreStats:
        return self.backend.stats()

    # -- what happens

    @rule(count=st.integers(1, 7))
    def append(self, count: int) -> None:
        names = [f"s{self.sent + number}" for number in range(count)]
        self.sent += count
        self.backend.append_groups(group(*names))

    @rule(daemon=st.integers(0, 1))
    def scrape(self, daemon: int) -> None:
        asked = Deferred.fromCoroutine(self.daemons[daemon].scrape(VISIT, Wanted(), timeout=TIMEOUT))
        self.quiet()
        for _ in range(20):  # it may wait for the other daemon
            if asked.called:
                break
            self.clock.advance(MAX_ELSEWHERE_WAIT / 4)
            self.quiet()
        delivery = self.backend.get(asked)
        events = sums(delivery.body)
        if delivery.awaits_receipt:
            assert all(sending.has_lapsed for sending in self.sendings), "two at a time"
            self.sendings.append(Sending(delivery, events))
        else:
            assert not events

    @rule(number=st.integers(0, 3))
    def deliver(self, number: int) -> None:
        if (sending := self._choose(number, False)) is not None:
            sending.delivery.delivered()
            sending.is_delivered = True
            self.got += sending.events
            self.quiet()

    @rule(number=st.integers(0, 3), uncertain=st.booleans())
    def return_(self, number: int, uncertain: bool) -> None:
        if (sending := self._choose(number, False)) is not None:
            self.sendings.remove(sending)
            sending.delivery.returned(uncertain)
            self.quiet()

    @rule(number=st.integers(0, 3))
    def reset(self, number: int) -> None:
        if (sending := self._choose(number, True)) is not None:
            self.sendings.remove(sending)
            before = self._superseded()
            sending.delivery.revoked()
            self.quiet()
            assert self._superseded() == before
            self.got -= sending.events

    @rule(number=st.integers(0, 3))
    def end(self, number: int) -> None:
        if (sending := self._choose(number, True)) is not None:
            self.sendings.remove(sending)
            sending.delivery.final()
            self.quiet()

    @rule()
    def stop_both(self) -> None:
        """Let all leases lapse, with no end of a response told."""
        self.backend.time.advance(TIMEOUT + LEASE_MARGIN)
        for sending in self.sendings:
            sending.has_lapsed = True

    @rule(daemon=st.integers(0, 1), count=st.integers(0, 3), later=st.sampled_from(["none", "end", "wait"]))
    def overtake(self, daemon: int, count: int, later: str) -> None:
        """Deliver at one daemon what another one has, or what came since."""
        if count:
            self.append(count)
        self.stop_both()
        before = len(self.sendings)
        self.scrape(daemon)
        if len(self.sendings) > before and later != "none":
            sending = self.sendings[-1]
            sending.delivery.delivered()
            sending.is_delivered = True
            self.got += sending.events
            self.quiet()
            if later == "end":
                self.sendings.remove(sending)
                sending.delivery.final()
                self.quiet()

    def _choose(self, number: int, is_delivered: bool) -> Sending | None:
        found = [each for each in self.sendings if each.is_delivered is is_delivered]
        return found[number % len(found)] if found else None

    def _superseded(self) -> int:
        return sum(telemetry.tally("p").superseded for telemetry in self.telemetries)

    # -- the promise

    def finish(self) -> None:
        """Each event was got once, or is in a figure."""
        for sending in list(self.sendings):
            self.sendings.remove(sending)
            if sending.is_delivered:
                sending.delivery.final()
            else:
                sending.delivery.returned(uncertain=False)
            self.quiet()
        self.stop_both()
        while any(status.pending for status in self.stats().scrapers):
            before = len(self.sendings)
            self.scrape(0)
            assert len(self.sendings) > before, "it gets nothing more"
            self.deliver(0)
            self.end(0)
        lost = self.stats().lost
        assert lost.keys() <= {("p", LATE)}
        late = lost.get(("p", LATE), 0)
        missing = self.sent - len(self.got)
        twice = self.got.total() - len(self.got)
        superseded = self._superseded()
        # One of two responses with the same events may be reset later: then they were got once.
        assert missing <= late <= missing + superseded, (missing, late, superseded)
        assert twice <= superseded, (twice, superseded)
        assert all(not daemon.unsettled() for daemon in self.daemons)
        counts = [status.counts for status in self.stats().scrapers if status.counts is not None]
        assert all(each.superseded == self._superseded() for each in counts)


def run_late_ends(open_stores: Open, examples: int, shrink: bool = True) -> None:
    """Run the model.

    :param shrink: look for the shortest way to a failure.
    """

    class Here(LateEnds):
        def __init__(self) -> None:
            super().__init__(open_stores)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            phases=[each for each in Phase if shrink or each is not Phase.shrink],
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
