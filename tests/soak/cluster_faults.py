"""Those who do the faults of a cluster campaign: one each for the database, the daemons and the lines.

Each does one fault after the other, so that up to three are under way at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from soak import cluster_plan as plan
from soak.actor import Actor, Bag
from soak.cluster_books import ClusterBooks
from soak.cluster_database import Database
from soak.cluster_nodes import ClusterDaemon
from soak.ledger import CUT, READ
from soak.push_line import PUSHED, SETTLING, STORED
from soak.receiver import Receiver
from support.haproxy import HAProxy

#: Seconds that a daemon may take until it serves again; it does not start without the database.
BACK_WITHIN = 120.0

#: Seconds that a promotion may leave the standby stopped for, at most.
PATIENCE = 2.0


class Faults(Actor):
    """Does faults of some kinds.

    :param part: of `cluster_plan.PAUSES`.
    :param margin: of the leases, seconds.
    :param first: kinds that come before all others are drawn.
    :ivar done: how many.
    """

    def __init__(
        self,
        part: str,
        seed: int,
        kinds: Sequence[str],
        books: ClusterBooks,
        margin: float,
        first: Sequence[str] = (),
    ) -> None:
        super().__init__(part, seed)
        self.books = books
        self._margin = margin
        self.done = 0
        self._first = list(first)
        self._kinds = Bag(self.dice, kinds)

    def turn(self) -> None:
        kind = self._first.pop(0) if self._first else self._kinds.draw()
        if self.over.wait(self.dice.uniform(*plan.PAUSES[self.name])):
            return
        self.do(kind)
        self.books.fault(kind)
        self.done += 1

    def do(self, kind: str) -> None:
        """Do a fault, and bring everything back."""
        raise NotImplementedError

    def seconds(self, kind: str) -> float:
        """Return how long a fault of this kind lasts this time."""
        seconds = self.dice.uniform(*plan.SECONDS[kind])
        return seconds + self._margin if kind in plan.BEYOND else seconds


class DatabaseFaults(Faults):
    """Crashes, promotions and stops of the two servers."""

    def __init__(
        self, seed: int, books: ClusterBooks, margin: float, database: Database, first: Sequence[str] = ()
    ) -> None:
        super().__init__("database", seed, plan.DATABASE, books, margin, first)
        self._database = database

    def do(self, kind: str) -> None:
        with self.books.trouble(kind):
            if kind in plan.PROMOTIONS:
                self._promote(kind)
            elif kind == plan.CRASH:
                self._database.crash_primary()
            elif kind == plan.RESTART:
                self._database.primary.restart()
            elif kind == plan.TERMINATED:
                self._database.terminate_backends()
            elif kind == plan.STOPPED_SESSION:
                self._stop_session(self.seconds(kind))
            elif kind == plan.STOPPED_STANDBY:
                standby = self._database.standby
                standby.signal_all(signal.SIGSTOP)
                time.sleep(self.seconds(kind))
                standby.signal_all(signal.SIGCONT)

    def _stop_session(self, seconds: float) -> None:
        pids = self._database.backends()
        if pids:
            pid = self.dice.choice(pids)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)

    def _promote(self, kind: str) -> None:
        database = self._database
        primary, standby = database.primary, database.standby
        relaxed = self.dice.random() < 0.5
        if kind == plan.FAILOVER:
            primary.kill_all()
        elif kind == plan.SWITCHOVER:
            primary.stop()
        elif kind == plan.FROZEN:
            primary.signal_all(signal.SIGSTOP)
        else:
            standby.signal_all(signal.SIGSTOP)
            database.await_waiting(PATIENCE)
            time.sleep(self.seconds(kind))
            if kind == plan.CANCELLED:
                for _ in range(5):
                    database.cancel_waits()
                    time.sleep(self.dice.uniform(0.02, 0.2))
            primary.kill_all()
            standby.signal_all(signal.SIGCONT)
        old = database.promote(relaxed=relaxed)
        if kind == plan.FROZEN:
            time.sleep(self.dice.uniform(0.0, 2.0))
            old.signal_all(signal.SIGCONT)
            time.sleep(self.seconds(kind))
        time.sleep(self.dice.choice([0.0, 0.0, 1.0]))
        database.replace(old)


class DaemonFaults(Faults):
    """Ends and stops of the daemons, and of the balancer before them."""

    def __init__(
        self,
        seed: int,
        books: ClusterBooks,
        margin: float,
        daemons: Sequence[ClusterDaemon],
        balancer: HAProxy,
        receiver: Receiver | None,
        first: Sequence[str] = (),
    ) -> None:
        kinds = plan.DAEMONS if receiver is None else (*plan.DAEMONS, *plan.PUSHING)
        super().__init__("daemons", seed, kinds, books, margin, first)
        self._receiver = receiver
        self._daemons = daemons
        self._balancer = balancer

    def do(self, kind: str) -> None:
        daemon = self.dice.choice(self._daemons)
        if kind in (plan.BALANCER_KILLED, plan.BALANCER_RESTARTED):
            self._restart_balancer(killed=kind == plan.BALANCER_KILLED)
        elif kind in (plan.STOPPED_LONG, plan.STOPPED_SHORT):
            with self._stopped(daemon):
                time.sleep(self.seconds(kind))
        elif kind == plan.KILL_STOPPED:
            with self._stopped(daemon):
                time.sleep(self.seconds(kind))
                daemon.kill()
            self._back(daemon)
        elif kind == plan.KILL_ALL:
            for each in self._daemons:
                each.kill()
            for each in self._daemons:
                self._back(each)
        elif kind == plan.TERM:
            daemon.stop()
            self._back(daemon)
        elif kind in plan.PUSHING and self._receiver is not None:
            moment = self.dice.choice([PUSHED, STORED, SETTLING])
            with self._receiver.line.holding(moment):
                self.books.await_moment(moment, 10.0)
                daemon = next((each for each in self._daemons if each.pushes()), daemon)
                daemon.kill()
            time.sleep(self.dice.choice([0.0, 0.0, 1.0, 4.0]))
            self._back(daemon)
        else:
            if kind != plan.KILL:
                self.books.await_moment(READ if kind == plan.KILL_AS_READ else CUT, 5.0)
                time.sleep(self.dice.choice([0.0, 0.0, 0.001, 0.003, 0.01]))
            daemon.kill()
            time.sleep(self.dice.choice([0.0, 0.0, 1.0, 4.0]))
            self._back(daemon)

    @contextmanager
    def _stopped(self, daemon: ClusterDaemon) -> Iterator[None]:
        if self.dice.random() < 0.7:
            self.books.await_moment(self.dice.choice([READ, CUT]), 3.0)
        daemon.pause()
        try:
            yield
        finally:
            daemon.resume()

    def _back(self, daemon: ClusterDaemon) -> None:
        if not daemon.come_back(BACK_WITHIN):
            self.books.note_wrong(f"{daemon.name} does not serve within {BACK_WITHIN:g} s")

    def _restart_balancer(self, *, killed: bool) -> None:
        self.books.balancer_deaths.append(time.monotonic())
        if killed:
            self._balancer.process.kill()
        else:
            self._balancer.process.stop()
        self.books.balancer_deaths.append(time.monotonic())
        self._balancer.start()


class LineFaults(Faults):
    """Cuts of a daemon's lines to the database."""

    def __init__(
        self, seed: int, books: ClusterBooks, margin: float, database: Database, first: Sequence[str] = ()
    ) -> None:
        super().__init__("lines", seed, plan.LINES, books, margin, first)
        self._lines = database.lines

    def do(self, kind: str) -> None:
        lines = self._lines[self.dice.choice(sorted(self._lines))]
        with self.books.trouble(kind):
            for line in lines:
                if kind == plan.ANSWERS:
                    line.lose_answers()
                else:
                    line.cut()
            try:
                time.sleep(self.seconds(kind))
            finally:
                for line in lines:
                    line.join()
