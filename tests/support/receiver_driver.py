"""Drive receivers' state machines on a real store; the test is the network and moves the clocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from traceback import format_exc
from typing import Any, cast

from attrs import define
from support.fake_store import Disk, quiet
from support.simulated_prometheus import SimulatedPrometheus
from support.store_backends import SettableClock
from support.store_log import held_events
from support.thread_pump import ThreadPump
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oneshotd.core.events import Event, Group, NewEvent
from oneshotd.delivery.remote_write.exchange import Answer
from oneshotd.delivery.remote_write.pacing import LINGER
from oneshotd.delivery.remote_write.receiver import Receiver
from oneshotd.delivery.remote_write.settings import ReceiverSettings
from oneshotd.metrics.registry import Telemetry
from oneshotd.store.interface import IStore, Sent, StoreStats
from oneshotd.store.sqlite.ledger import Limits
from oneshotd.store.sqlite.store import SQLiteStore

LIMITS = Limits(hold=1e6, newcomers=1e6)

SETTINGS = ReceiverSettings(name="prometheus-a", instance="edge-1:8090")

#: Store requests after which receivers that have nothing to wait for run in circles.
MOST = 3000


@define(eq=False)
class Request:
    """A request on its way."""

    body: bytes
    answer: Deferred[Answer]

    @property
    def is_open(self) -> bool:
        """Whether the sender waits for the answer."""
        return not self.answer.called

    def reply(self, status: int, **more: Any) -> None:
        """Answer it, if its sender is still there."""
        if self.is_open:
            self.answer.callback(Answer(status=status, **more))

    def fail(self, error: Exception) -> None:
        """End it without an answer."""
        if self.is_open:
            self.answer.errback(error)


class Daemon:
    """A daemon with one receiver; after `kill` nothing that it has asked for is answered."""

    def __init__(
        self,
        driver: ReceiverDriver,
        settings: ReceiverSettings,
        shared: bool,
        dice: Callable[[], float],
        processor: Callable[[], float],
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.requests: list[Request] = []
        self.is_alive = True
        self.settling: set[int] = set()
        self.telemetry = Telemetry()
        self._driver = driver
        self.receiver = Receiver(
            settings,
            _Cut(self, driver),  # type: ignore[arg-type] # a store, but for the rest of the interface
            self._post,
            self.telemetry,
            self.clock,
            shared=shared,
            dice=dice,
            processor=processor,
        )
        setattr(self.receiver.log, "failed", lambda: driver.faults.append(format_exc()))  # noqa: B010
        self.receiver.start()

    def _post(self, body: bytes) -> Deferred[Answer]:
        assert not [request for request in self.requests if request.is_open], "two requests in flight"
        request = Request(body, Deferred())
        self.requests.append(request)
        return request.answer

    @property
    def request(self) -> Request | None:
        """The request in flight."""
        return next((request for request in self.requests if request.is_open), None)

    def kill(self) -> None:
        """End it at once."""
        self.is_alive = False
        # What dies with a daemon in reality: a settlement that is not on disk keeps its lease no longer.
        cast(Any, self._driver.store)._ledger.leases.settling -= self.settling
        for call in self.clock.getDelayedCalls():
            call.cancel()


class _Cut:
    """The store of one daemon: a killed one gets no answers."""

    def __init__(self, daemon: Daemon, driver: ReceiverDriver) -> None:
        self._daemon = daemon
        self._driver = driver

    def __getattr__(self, method: str) -> Callable[..., Deferred[Any]]:
        def ask(*args: Any, **kwargs: Any) -> Deferred[Any]:
            answer: Deferred[Any] = Deferred()
            if not self._daemon.is_alive:
                return answer
            self._driver.asked += 1
            if method == "settle":
                self._daemon.settling.add(args[0])
                _check_settlement(args[3], args[4], kwargs.get("lost", {}))
                self._driver.settled.append((args[1], kwargs["sent"]))
            self._driver.calls.append(method)

            def done(result: Any) -> None:
                if method in self._driver.withheld:
                    self._driver.kept.append(lambda: done(result))
                elif self._daemon.is_alive:
                    answer.callback(result)

            getattr(self._driver.store, method)(*args, **kwargs).addBoth(done)
            return answer

        return ask


def _check_settlement(
    newly_owed: Sequence[int], went_out: Sequence[int], lost: Mapping[str, Sequence[int]]
) -> None:
    """Check what `IStore.settle` expects of its lists: each event is in one of them at most."""
    seqs = [*newly_owed, *went_out, *(seq for some in lost.values() for seq in some)]
    assert len(set(seqs)) == len(seqs), f"owed {newly_owed}, went out {went_out}, lost {lost}"


class ReceiverDriver:
    """A store, a simulated Prometheus, and daemons between them.

    :ivar asked: how many requests the store has got.
    :ivar calls: their methods.
    :ivar faults: tracebacks of faults of the program, which a receiver logs and goes on from; a test
        fails if there are more than `most_faults`.
    :ivar settled: of each settlement whether it was delivered, and what was sent.
    :ivar withheld: methods whose answers are kept until `let_go`.
    """

    def __init__(self, path: Path) -> None:
        self.time, self.pump, self.disk = SettableClock(), ThreadPump(), Disk()
        self.store: IStore = SQLiteStore(
            str(path), self.pump, limits=LIMITS, clock=self.time.clock, connect=self.disk.connect
        )
        self.prometheus = SimulatedPrometheus(self.now)
        self.daemons: list[Daemon] = []
        self.asked = 0
        self.calls: list[str] = []
        self.faults: list[str] = []
        self.most_faults = 0
        self.settled: list[tuple[bool, Sent]] = []
        self.withheld: set[str] = set()
        self.kept: list[Callable[[], None]] = []

    def now(self) -> int:
        """Return Unix ms."""
        return int(self.time.wall * 1000)

    def daemon(
        self,
        settings: ReceiverSettings = SETTINGS,
        shared: bool = False,
        dice: Callable[[], float] = lambda: 0.5,
        processor: Callable[[], float] = lambda: 0.0,
    ) -> Daemon:
        """Start a daemon."""
        self.daemons.append(Daemon(self, settings, shared, dice, processor))
        self.quiet()
        return self.daemons[-1]

    def kill(self, daemon: Daemon) -> None:
        """End a daemon at once."""
        daemon.kill()
        self.daemons.remove(daemon)

    def quiet(self) -> None:
        """Wait until the store has answered everything, and whatever that led to."""
        for _ in range(MOST):
            before = self.asked
            quiet(self.pump, self.store)
            assert len(self.faults) <= self.most_faults, "".join(self.faults)
            if self.asked == before:
                return
        raise AssertionError(f"the receivers run in circles: {self.calls[-20:]}")

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass; requests in flight stay there."""
        while seconds > 0:
            part = min(step, seconds)
            self.time.advance(part)
            for daemon in tuple(self.daemons):
                daemon.clock.advance(part)
            self.quiet()
            seconds -= part

    def let_go(self) -> None:
        """Give the answers that were withheld, and withhold none any more."""
        self.withheld.clear()
        kept, self.kept = self.kept, []
        for give in kept:
            give()
        self.quiet()

    def append(self, *reports: str | tuple[str, str]) -> None:
        """Store events: series without a value, or (series, value); wake the receivers."""
        events = [NewEvent(report) if isinstance(report, str) else NewEvent(*report) for report in reports]
        self.pump.get(self.store.append([Group(events=events)]))
        for daemon in self.daemons:
            daemon.receiver.wake()
        self.quiet()

    def serve(self, most: int = 1000) -> int:
        """Answer requests as Prometheus does until there are none; return how many there were."""
        for count in range(most):
            open_ones = [daemon.request for daemon in self.daemons if daemon.request]
            if not open_ones:
                for daemon in tuple(self.daemons):
                    daemon.clock.advance(LINGER)
                self.quiet()
                open_ones = [daemon.request for daemon in self.daemons if daemon.request]
            if not open_ones:
                return count
            for request in open_ones:
                assert request is not None
                request.reply(self.prometheus.receive(request.body))
            self.quiet()
        raise AssertionError("the requests do not end")

    def run(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass while Prometheus answers at once."""
        self.serve()
        while seconds > 0:
            self.pass_time(min(step, seconds), step)
            self.serve()
            seconds -= step

    def events(self) -> list[Event]:
        """Return the log."""
        return self.pump.get(held_events(self.store))

    def stats(self) -> StoreStats:
        """Return the store's figures."""
        return self.pump.get(self.store.stats())

    def lost(self) -> dict[str, int]:
        """Return reason -> events that the receiver will never get."""
        return {reason: count for (_, reason), count in self.stats().lost.items()}

    def stop(self) -> None:
        """End everything."""
        for daemon in tuple(self.daemons):
            self.kill(daemon)
        self.pump.get(self.store.close())
