"""The cluster campaign: daemons that share a database, load, faults, and in the end the books.

Everything is on the loopback, and no other process is touched.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from random import Random

from attrs import frozen
from soak.actor import Actor, Bag, working
from soak.cluster_actors import (
    BALANCER,
    CLUSTER_SCRAPERS,
    ClusterBulk,
    ClusterKeyed,
    ClusterPlain,
    ClusterScraper,
)
from soak.cluster_books import ClusterBooks
from soak.cluster_database import Database
from soak.cluster_faults import DaemonFaults, DatabaseFaults, Faults, LineFaults
from soak.cluster_nodes import ClusterDaemon
from soak.cluster_plan import CLOCKS, FAILOVER, STOPPED_LONG
from soak.marks import labels
from soak.push_judge import Findings
from soak.receiver import Receiver
from soak.senders import DatagramSender, Sender
from support.haproxy import HAProxy
from support.processes import until

NAMES = ("ann-host", "bob-host")

#: Seconds of a lease that pass when the database's clock changes (`oneshotd.store.postgresql.link`).
MAX_GAP = 5.0

#: Seconds until all is read once nothing more is sent.
QUIET_WITHIN = 120.0

#: A campaign on a busy machine ends at this multiple of its time.
OVERTIME = 3.0


@frozen(kw_only=True)
class Settings:
    """What is to be done.

    :param seconds: how long the faults go on, about.
    :param faults: how many there must be; if they are not done by then, it takes longer.
    :param promotions: how many of them make the standby the primary.
    :param pauses: how many of them stop a daemon beyond its lease.
    :param clock: whether the servers of the database have clocks that are wrong.
    :param receiver: the ``prometheus`` that is pushed to; None: there is none.
    """

    seconds: float
    seed: int
    faults: int
    promotions: int
    pauses: int
    clock: bool = False
    receiver: Path | None = None

    @property
    def margin(self) -> float:
        """Seconds that a lease outlives the timeout of its scrape."""
        return 12.0 if self.clock else 3.0

    @property
    def sure_margin(self) -> float:
        """The same, less what a lease may lose as the clock of the database changes (twice)."""
        return self.margin - 2 * MAX_GAP if self.clock else self.margin


class ClusterCampaign:
    """One campaign.

    :param folder: which every user may enter.
    :ivar began: monotonic seconds.
    :ivar seconds: how long it took.
    :ivar receiver: of remote write, to which one of the daemons sends; None: there is none.
    :ivar findings: what that one has in the end.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.books = ClusterBooks(tuple(CLUSTER_SCRAPERS))
        self.began = time.monotonic()
        self.seconds = 0.0
        self.daemons: list[ClusterDaemon] = []
        self.senders: list[Sender] = []
        self.parts: list[Faults] = []
        self.receiver: Receiver | None = None
        self.findings: Findings | None = None
        self._scrapers: list[ClusterScraper] = []

    def run(self) -> None:
        """All of it; what went wrong is in the books afterwards."""
        with ExitStack() as stack:
            clocks = Bag(Random(f"{self.settings.seed}/clocks"), CLOCKS) if self.settings.clock else None
            database = Database(self.folder, NAMES, clocks)
            stack.callback(database.close)
            more: Sequence[str] = ()
            if self.settings.receiver is not None:
                receiver = Receiver(
                    self.settings.receiver, self.folder, books=self.books, seed=self.settings.seed
                )
                self.receiver = stack.enter_context(receiver)
                more = receiver.options
            for name in NAMES:
                daemon = ClusterDaemon(
                    name, self.folder / name, database.address(name), self.books, self.settings.margin, more
                )
                stack.callback(daemon.discard)
                self.daemons.append(daemon)
            for daemon in self.daemons:
                if not daemon.come_back(60):
                    raise AssertionError(f"{daemon.name} does not start: {daemon.log()[-2000:]}")
            ports = {daemon.name: daemon.port for daemon in self.daemons}
            balancer = stack.enter_context(HAProxy.before(self.folder / BALANCER, ports))
            balancer.await_states(**dict.fromkeys(ports, True))
            self._load(database, balancer, {**ports, BALANCER: balancer.port})
        self.seconds = time.monotonic() - self.began

    def _load(self, database: Database, balancer: HAProxy, doors: dict[str, int]) -> None:
        books, seed, margin = self.books, self.settings.seed, self.settings.margin
        self._scrapers = [
            ClusterScraper(name, habit, books=books, doors=doors, seed=seed)
            for name, habit in CLUSTER_SCRAPERS.items()
        ]
        kinds = {"keyed": ClusterKeyed, "plain": ClusterPlain, "bulk": ClusterBulk}
        self.senders = [
            kind(f"{name}-{i}", books=books, doors=doors, seed=seed)
            for name, kind in kinds.items()
            for i in (1, 2)
        ]
        datagrams = [
            DatagramSender(f"udp-{each.name}", books=books, port=each.port, seed=seed, scraper="ann")
            for each in self.daemons
        ]
        self.parts = [
            DatabaseFaults(seed, books, margin, database, [FAILOVER]),
            DaemonFaults(seed, books, margin, self.daemons, balancer, self.receiver, [STOPPED_LONG]),
            LineFaults(seed, books, margin, database),
        ]
        with self._working(self._scrapers):
            if not books.await_readings(1, 30):
                books.note_wrong("not every scraper could read at all")
            store_faults = [] if self.receiver is None else [self.receiver.faults]
            with (
                self._working([*self.senders, *datagrams]),
                self._working([*self.parts, *store_faults]),
            ):
                self._last()
            self._quiet()
        for daemon in self.daemons:
            daemon.stop()

    def _working(self, actors: Sequence[Actor]) -> AbstractContextManager[None]:
        return working(actors, self.books.note_wrong, 150)

    def _last(self) -> None:
        """Wait until there were enough faults."""
        settings = self.settings
        end = time.monotonic() + settings.seconds
        last = time.monotonic() + OVERTIME * settings.seconds
        while time.monotonic() < end or (self.done < settings.faults and time.monotonic() < last):
            time.sleep(0.2)
            if any(part.failure for part in self.parts):
                return

    @property
    def done(self) -> int:
        """How many faults there were."""
        return sum(part.done for part in self.parts)

    # -- the end

    def _quiet(self) -> None:
        """Wait until all is read that is stored, and for what would come twice."""
        for scraper in self._scrapers:
            scraper.calm_down()
        if self.receiver is not None:
            self.receiver.line.calm = True
        try:
            until(self._nothing_pending, QUIET_WITHIN, lambda: f"all read; pending: {self._pending()}")
        except (AssertionError, OSError) as error:
            self.books.note_wrong(str(error))
        if not self.books.await_readings(3, 30):
            self.books.note_wrong("a scraper does not get three answers in 30 s, and all is quiet")
        if self.receiver is not None:
            self.findings = self.receiver.find_out(self.daemons[0].daemon)
        for series, value in self._figures("oneshotd_scraper_lost_events_total"):
            if float(value):
                of = labels(series)
                self.books.losses[of["scraper"], of["reason"]] = int(float(value))
        for series, value in self._figures("oneshotd_scraper_superseded_events_total"):
            self.books.superseded[labels(series)["scraper"]] = int(float(value))

    def _nothing_pending(self) -> bool:
        try:
            pending = self._pending()
        except OSError:
            return False
        scrapers = len(CLUSTER_SCRAPERS) + (0 if self.receiver is None else 1)
        return len(pending) == scrapers and not any(float(value) for _, value in pending)

    def _pending(self) -> list[tuple[str, str]]:
        return self._figures("oneshotd_scraper_pending_events")

    def _figures(self, name: str) -> list[tuple[str, str]]:
        """Series and value, as the text has them."""
        lines = [
            line.rpartition(" ") for line in self.daemons[0].look().splitlines() if line.startswith(name)
        ]
        return [(series, value) for series, _, value in lines]
