"""Requests and answers lost, late, cut or refused, daemons killed and started, in any order.

Whatever happens: Prometheus ends with every event exactly once, at its own time, but for those that the store
counts as lost; and each series has ended.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.examples import examples
from support.receiver_driver import Daemon, ReceiverDriver, Request

from oneshotd.delivery.remote_write.exchange import NotSent

VISIBLE = 15_000

#: Fates of a request: whether it arrives, and what its sender learns.
FATES = ("ok", "ok", "ok", "lost", "answer lost", "late", "no connection", "429", "500", "503", "404")

DAEMONS = st.integers(0, 1)


class Receivers(RuleBasedStateMachine):
    """Two daemons on one store, and a Prometheus."""

    @initialize(bad=st.sampled_from([None, None, "a", "c"]), status=st.sampled_from([400, 409, 422]))
    def begin(self, bad: str | None, status: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.driver = ReceiverDriver(Path(self.folder.name) / "store")
        self.driver.prometheus.bad = {bad} if bad else set()
        self.driver.prometheus.status = status
        self.late: list[Request] = []
        self.refused: list[int] = []
        self.next_value = 1
        self.daemons: list[Daemon | None] = [None, None]
        self.start(0)

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.driver.stop()
            self.folder.cleanup()

    @rule(series=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=10))
    @precondition(lambda self: not self.driver.disk.full)
    def append(self, series: list[str]) -> None:
        self.driver.append(*((name, str(self.next_value + place)) for place, name in enumerate(series)))
        self.next_value += len(series)

    @rule(seconds=st.sampled_from([0.125, 1, 5, 5]))
    def pass_time(self, seconds: float) -> None:
        self.driver.pass_time(seconds)

    @rule(number=DAEMONS)
    def start(self, number: int) -> None:
        if self.daemons[number] is None:
            self.daemons[number] = self.driver.daemon(shared=True)

    @rule(number=DAEMONS, arrives=st.booleans())
    def kill(self, number: int, arrives: bool) -> None:
        """End a daemon; the request that it has sent may arrive later."""
        daemon = self.daemons[number]
        if daemon is None:
            return
        if arrives and daemon.request is not None:
            self.late.append(daemon.request)
        self.driver.kill(daemon)
        self.daemons[number] = None

    @rule(number=DAEMONS, fate=st.sampled_from(FATES))
    def answer(self, number: int, fate: str) -> None:
        daemon = self.daemons[number]
        request = None if daemon is None else daemon.request
        if request is None:
            return
        if fate == "ok":
            request.reply(self.receive(request))
        elif fate == "answer lost":
            self.receive(request)
            request.fail(ConnectionError("reset"))
        elif fate == "no connection":
            request.fail(NotSent("refused"))
        elif fate.isdigit():
            request.reply(int(fate))
        else:
            if fate == "late":
                self.late.append(request)
            request.fail(ConnectionError("reset"))
        self.driver.quiet()

    def receive(self, request: Request) -> int:
        status = self.driver.prometheus.receive(request.body)
        if status != 204:
            self.refused.append(self.driver.prometheus.requests)
        return status

    @rule(count=st.integers(1, 8))
    def serve(self, count: int) -> None:
        """Answer some requests in good order."""
        for _ in range(count):
            for number in (0, 1):
                self.answer(number, "ok")

    @rule()
    @precondition(lambda self: self.late)
    def arrive_late(self) -> None:
        """A request whose sender has given up is read by the receiver all the same."""
        self.driver.prometheus.receive(self.late.pop(0).body)

    @rule(full=st.booleans())
    def fill_disk(self, full: bool) -> None:
        self.driver.disk.full = full
        self.driver.quiet()

    def finish(self) -> None:
        driver = self.driver
        driver.disk.full = False
        for request in self.late:
            driver.prometheus.receive(request.body)
        for number in (0, 1):
            self.start(number)
        for _ in range(40):
            driver.run(5)
            if not driver.stats().scrapers[0].pending:
                break
        driver.run(35)  # a daemon that stands by takes over; its markers are due
        events = driver.events()
        lost = driver.lost()
        assert lost.keys() <= {"refused", "uncertain"}, lost
        assert driver.stats().scrapers[0].pending == 0
        missing: Counter[str] = Counter()
        for series in {event.series for event in events}:
            ats = [event.at for event in events if event.series == series]
            got = driver.prometheus.times(series)
            assert not set(got) - set(ats) and len(set(got)) == len(got)
            missing[series] = len(ats) - len(got)
            if series in driver.prometheus.bad:
                continue
            assert not missing[series], f"{series}: {sorted(set(ats) - set(got))} are missing"
            marked = driver.prometheus.marked(series)
            assert {at - VISIBLE for at in marked} <= set(ats), "a marker ends a sample"
            assert marked[-1:] == [ats[-1] + VISIBLE], f"{series} has not ended"
        assert missing.total() == sum(lost.values())
        if not driver.prometheus.bad:
            assert not self.refused


TestReceivers = Receivers.TestCase
TestReceivers.settings = settings(
    examples(40),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
