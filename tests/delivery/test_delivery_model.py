"""Scrapes, ends of deliveries, restarts and a failing disk in any order: each scraper gets each event once.

The model of a scraper is its sum over time: responses that were acknowledged and not revoked.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.delivery_driver import TIMEOUT, DeliveryDriver, Sums, answers_of, events_in, sums
from support.examples import examples
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from oneshotd.core.sampling.plan import Caps
from oneshotd.core.sampling.suspects import REFUSED, RESETS
from oneshotd.delivery.in_flight import InFlightDelivery
from oneshotd.delivery.scrapes import LEASE_MARGIN

NAMES = st.sampled_from(["ann", "bob", "192.0.2.7 curl"])
LIMITS = st.sampled_from([None, None, 1, 2, 5, 30])


class Deliveries(RuleBasedStateMachine):
    """A daemon and its scrapers."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.driver = DeliveryDriver(Path(self.folder.name) / "store", Caps(samples=4, bytes=600, owed=3))
        self.sent: Sums = Counter()
        self.got: dict[str, Sums] = {"ann": Counter(), "bob": Counter(), "192.0.2.7 curl": Counter()}
        self.values: dict[str, list[float]] = {name: [] for name in self.got}
        self.under_way: dict[str, InFlightDelivery] = {}  # neither delivered nor returned
        self.revocable: dict[str, InFlightDelivery] = {}
        self.asked: list[tuple[str, Deferred[InFlightDelivery], list[InFlightDelivery | Failure]]] = []
        self.next_value = 1
        self.refusing: set[str] = set()
        self.resets: Counter[str] = Counter()  # in a row
        for name in self.got:
            self.driver.take(name)

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.driver.stop()
            self.folder.cleanup()

    # -- events

    @rule(series=st.lists(st.sampled_from("abcdef"), max_size=12))
    @precondition(lambda self: not self.driver.disk.full)
    def append(self, series: list[str]) -> None:
        if series:
            self.driver.append(*series)
            self.sent += Counter(series)

    @rule(count=st.integers(1, 6))
    @precondition(lambda self: not self.driver.disk.full)
    def append_values(self, count: int) -> None:
        for _ in range(count):
            self.driver.append(("v", str(self.next_value)))
            self.sent += Counter(v=self.next_value)
            self.next_value += 1

    # -- scrapes

    @rule(name=NAMES, limit=LIMITS)
    def ask(self, name: str, limit: int | None) -> None:
        asked = self.driver.ask(name, limit=limit)
        self.asked.append((name, asked, answers_of(asked)))

    @rule(name=NAMES, limit=LIMITS, steps=st.integers(0, 3))
    def scrape(self, name: str, limit: int | None, steps: int) -> None:
        """Run the usual steps, as far as the store allows."""
        self.ask(name, limit)
        self.answer(0)
        for step in (self.acknowledge, self.make_final, self.answer_now)[:steps]:
            step(name)

    def answer_now(self, name: str) -> None:
        self.answer(0)

    @rule(wait=st.sampled_from([0, 0.05, 1, TIMEOUT / 2]))
    def answer(self, wait: float) -> None:
        """Let the store answer, or time out."""
        if not self.driver.store.silent:
            self.driver.quiet()
        self.driver.clock.advance(wait)
        self.collect()

    @rule(number=st.integers(0, 5))
    def hang_up(self, number: int) -> None:
        self.collect()
        if self.asked:
            self.asked.pop(number % len(self.asked))[1].cancel()

    def collect(self) -> None:
        waiting = []
        for name, asked, answers in self.asked:
            if not answers:
                waiting.append((name, asked, answers))
                continue
            [delivery] = answers
            assert isinstance(delivery, InFlightDelivery), delivery
            if delivery.awaits_receipt:
                assert name not in self.under_way and name not in self.revocable, "two at a time"
                self.under_way[name] = delivery
            else:
                assert events_in(delivery.body) == []
        self.asked = waiting

    # -- ends of deliveries

    @rule(name=NAMES)
    def acknowledge(self, name: str) -> None:
        if delivery := self.under_way.pop(name, None):
            delivery.delivered()
            if name in self.refusing and "bad" in sums(delivery.body):
                delivery.revoked()
                return
            self.got[name] += sums(delivery.body)
            self.values[name] += [s.value for s in events_in(delivery.body) if s.name == "v"]
            self.revocable[name] = delivery

    @rule(name=NAMES, uncertain=st.booleans())
    def lose(self, name: str, uncertain: bool) -> None:
        if delivery := self.under_way.pop(name, None):
            delivery.returned(uncertain)

    @rule(name=NAMES)
    def reset(self, name: str) -> None:
        """Reset fewer consecutive times than a scraper that refuses a sample."""
        if name in self.refusing or self.resets[name] == RESETS - 1:
            return
        if delivery := self.revocable.pop(name, None):
            delivery.revoked()
            self.resets[name] += 1
            self.got[name] -= sums(delivery.body)
            came_in = [s.value for s in events_in(delivery.body) if s.name == "v"]
            del self.values[name][len(self.values[name]) - len(came_in) :]

    @rule(name=NAMES, events=st.integers(1, 3))
    @precondition(lambda self: not self.driver.disk.full and not self.driver.store.silent)
    def refuse(self, name: str, events: int) -> None:
        """A line that this scraper cannot parse: it resets each response with it."""
        self.collect()
        self.driver.append(*["bad"] * events)
        self.sent += Counter(bad=events)
        self.refusing.add(name)

    @rule(name=NAMES, steps=st.integers(1, 12))
    def scrape_on(self, name: str, steps: int) -> None:
        """Scrape repeatedly, as long as the store answers."""
        for _ in range(steps):
            self.scrape(name, None, 3)

    @rule(name=NAMES)
    def make_final(self, name: str) -> None:
        if delivery := self.revocable.pop(name, None):
            delivery.final()
            self.resets[name] = 0

    # -- failures

    @rule(full=st.booleans())
    def fill_disk(self, full: bool) -> None:
        if not self.driver.store.silent:
            self.driver.quiet()
        self.driver.disk.full = full

    @rule(methods=st.sets(st.sampled_from(["reserve", "settle", "revoke", "stats"])))
    def hang(self, methods: set[str]) -> None:
        self.driver.store.silent |= methods

    @rule()
    def resume(self) -> None:
        self.driver.store.resume()
        self.driver.quiet()

    @rule(seconds=st.sampled_from([1.0, TIMEOUT + LEASE_MARGIN, 1000.0]))
    def pass_time(self, seconds: float) -> None:
        """End every delivery by its deadline; the store may hang for longer."""
        self.collect()
        if seconds > 1:
            for name in self.got:
                self.lose(name, True)
                self.make_final(name)
        self.driver.time.advance(seconds)
        if not self.driver.store.silent:
            self.driver.quiet()
        self.driver.clock.advance(seconds)
        self.driver.quiet()
        self.collect()
        self.driver.pump.get(self.driver.real.prune().addErrback(lambda _: []))

    @rule()
    def restart(self) -> None:
        """Restart in order: reported ends are on disk, deliveries in flight are not."""
        self.driver.disk.full = False
        self.resume()
        self.driver.pass_time(6)
        self.collect()
        for _, asked, _ in self.asked:
            asked.cancel()
        assert self.driver.delivery.unsettled() == sorted(self.under_way)
        self.asked, self.under_way, self.revocable = [], {}, {}
        self.driver.restart()

    # -- the promise

    @invariant()
    def nothing_comes_twice(self) -> None:
        for name, got in self.got.items():
            assert got <= self.sent, f"{name}: {got - self.sent} too much"
            assert self.values[name] == [*range(1, len(self.values[name]) + 1)], f"{name}: out of order"

    def finish(self) -> None:
        """Check that each scraper has every event, except samples that it refused."""
        self.driver.disk.full = False
        self.resume()
        self.driver.pass_time(6)
        self.collect()
        for name in self.got:
            self.lose(name, False)
            self.make_final(name)
        self.driver.pass_time(TIMEOUT + LEASE_MARGIN)
        self.driver.pass_time(60)  # losses are logged once a minute at most
        assert self.driver.delivery.unsettled() == []
        assert self.driver.delivery.drain().called
        self.driver.delivery.log.flush()
        assert self.driver.clock.getDelayedCalls() == []
        self.refusing.clear()
        for name, got in self.got.items():
            while self.pending(name):
                got += self.driver.take(name)
            refused = Counter(bad=self.driver.stats().lost.get((name, REFUSED), 0))
            assert got + refused == self.sent, name

    def pending(self, name: str) -> int:
        return next((each.pending for each in self.driver.stats().scrapers if each.name == name), 0)


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(
    examples(25),
    stateful_step_count=40,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
