"""A store in a PostgreSQL database, which several daemons share.

Two threads, each with a connection: one appends, the other does everything else, so that a large scrape
holds up no append. A connection runs no two transactions at a time, so that none can wait for another.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from types import MappingProxyType

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zope.interface import implementer

from oneshotd.core.events import Group
from oneshotd.core.filters import Selection
from oneshotd.core.identity import Visit
from oneshotd.core.sampling.mode import TimestampHistory
from oneshotd.errors import StoreRefused, StoreUnavailable
from oneshotd.store.abilities import ConnectionCounts, IConnected
from oneshotd.store.interface import (
    NOTHING_SENT,
    Conflict,
    IStore,
    LogPage,
    Loss,
    Reservation,
    Sent,
    Settled,
    Stored,
    StoreStats,
)
from oneshotd.store.limits import Limits
from oneshotd.store.postgresql.appender import Appender
from oneshotd.store.postgresql.batches import Appended, Batch
from oneshotd.store.postgresql.clock_corrections import watch_clock
from oneshotd.store.postgresql.connecting import library, reason_of, unavailable
from oneshotd.store.postgresql.delivery import Deliveries
from oneshotd.store.postgresql.lane import Job, Lane, run_each
from oneshotd.store.postgresql.link import NOW, CommitUnknown, Link
from oneshotd.store.postgresql.presence import Presence
from oneshotd.store.postgresql.retention import heartbeat, make_room, prune
from oneshotd.store.postgresql.schema import Schema, shipped
from oneshotd.store.postgresql.stats import recent, stats
from oneshotd.store.postgresql.timelines import Timelines
from oneshotd.store.postgresql.tokens import new_token
from oneshotd.store.postgresql.watchdog import Watchdog
from oneshotd.store.retention_rules import fits

#: Greatest pause (seconds) after a commit whose time is ahead of the clock, as that of the next would be.
MAX_PAUSE = 0.02

_MEANING = {
    "off": "may be lost by a crash of the database: synchronous_commit is off",
    "local": "is on the disk of the database server",
}


@implementer(IStore, IConnected)
class PostgreSQLStore:
    """A store in a PostgreSQL database, opened by the constructor; see `IStore`.

    :param address: a connection string or URI of libpq.
    :param reactor: answers are given in its thread.
    :param committed: called in the reactor's thread with the seconds of each commit of events.
    :param name: the daemon's name, which no other daemon has; see `presence`.
    :param now: SQL expression of the time, Unix ms; tests set their own.
    :param pause: waits some seconds.
    :param schema: tests have a newer one.
    :raises StoreRefused: the database cannot be used.
    """

    _log = Logger()

    def __init__(
        self,
        address: str,
        reactor: IReactorFromThreads,
        *,
        limits: Limits | None = None,
        committed: Callable[[float], object] = lambda seconds: None,
        name: str | None = None,
        now: str = NOW,
        pause: Callable[[float], object] = time.sleep,
        schema: Schema | None = None,
    ) -> None:
        self._timelines = Timelines(address, now)
        self._limits = limits or Limits()
        self._committed = committed
        self._pause = pause
        self._durability = ""
        self._schema = schema or shipped()
        self._losses: SimpleQueue[Loss] = SimpleQueue()
        self._id = uuid.uuid4().hex
        self._appender = Appender(self._id, self._limits, self._schema.check)
        self._deliveries = Deliveries(self._limits, self._id)
        self._presence = Presence(self._id, name)
        self._appends = Lane("pg-append", reactor, self._connect_appender, self._append_batch)
        self._others = Lane("pg-delivery", reactor, self._connect_others, self._run_others, self._idle)
        error_class = library().Error  # before the thread is started: it may not be installed
        self._watchdog = Watchdog()
        links: list[Link] = []
        try:
            links.append(self._connect())
            self._schema.prepare(links[0])
            self._presence.begin(links[0])
            self._deliveries.session.begin(links[0])
            links.append(self._connect_appender())
            self._read_durability(links[0])
        except (error_class, CommitUnknown, StoreRefused) as error:
            self._watchdog.stop()
            for link in links:
                link.close()
            if isinstance(error, StoreRefused):
                raise
            raise StoreRefused(f"cannot open the PostgreSQL store: {reason_of(error)}") from error
        self._others.start(links[0])
        self._appends.start(links[1])

    def _connect(self) -> Link:
        link = self._timelines.connect()
        self._watchdog.add(link)
        return link

    def _connect_others(self) -> Link:
        link = self._connect()
        try:
            self._schema.check(link)
            self._deliveries.session.begin(link)
            self._read_durability(link)  # another host may have other settings
        except BaseException:
            link.close()
            raise
        return link

    def _connect_appender(self) -> Link:
        link = self._connect()
        try:
            self._appender.register(link)
        except BaseException:
            link.close()
            raise
        return link

    def _read_durability(self, link: Link) -> None:
        level, standbys = link.one(
            "SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names')"
        )
        meaning = _MEANING.get(level)
        if meaning is None:
            meaning = (
                f"is on the disk of the database server and of its standby ({standbys})"
                if standbys
                else "is on the disk of the database server and of no standby (synchronous_standby_names)"
            )
        if meaning != self._durability:
            self._log.info("an event that was answered with 200 {meaning}", meaning=meaning)
            self._durability = meaning

    def _idle(self, link: Link) -> None:
        with suppress(StoreRefused):  # the next job connects, and is told
            self._schema.check(link)
        if link.is_broken:
            return
        heartbeat(link, daemon=self._id)
        self._presence.watch(link)
        watch_clock(link)

    def _run_others(self, jobs: list[Job]) -> None:
        run_each(self._others, jobs)

    # -- append

    def append(self, groups: Sequence[Group]) -> Deferred[list[Stored | Conflict]]:
        return self._appends.submit(lambda: groups)

    def _append_batch(self, jobs: list[Job]) -> None:
        groups: list[Sequence[Group]] = [job.work() for job in jobs]
        started = time.monotonic()
        try:
            done = self._append([group for part in groups for group in part])
        except (
            StoreUnavailable,
            CommitUnknown,
            library().OperationalError,
            library().InternalError,  # such as a server that takes no writes any more
        ) as error:
            failure = error if isinstance(error, StoreUnavailable) else unavailable(error)
            self._appends.complete([(job, failure) for job in jobs])
            return
        except Exception as error:
            # One group is wrong. Each job gets its own transaction, so that the others are stored.
            if len(jobs) > 1:
                for job in jobs:
                    self._append_batch([job])
            else:
                self._appends.complete([(jobs[0], error)])
            return
        seconds = time.monotonic() - started
        outcomes: list[tuple[Job, object]] = []
        answers = iter(done.answers)
        for job, part in zip(jobs, groups, strict=True):
            outcomes.append((job, [next(answers) for _ in part]))
        if done.over:
            self._cut(None)
        self._appends.complete(outcomes, partial(self._committed, seconds))
        if 0 < done.ahead_ms < 1000:
            self._pause(min(done.ahead_ms / 1000, MAX_PAUSE))

    def _append(self, groups: list[Group]) -> Appended:
        """Append; if the outcome is unknown, find it out."""
        link = self._appends.link()
        pending: list[Batch] = []
        try:
            return self._appender.append(link, groups, pending)
        except CommitUnknown as error:
            reason, since = error, time.monotonic()
            self._appends.in_doubt += 1
        while pending and not self._appends.gives_up(since):
            try:
                done = self._appender.outcome(self._appends.link(), pending[0])
            except (CommitUnknown, StoreUnavailable, library().Error):
                continue
            if done is not None:
                return done
            break
        raise unavailable(reason) from reason

    def _cut(self, link: Link | None) -> None:
        """Cut the log to its bounds, before an answer that may have made it too long.

        If that fails, the next append or upkeep does it.
        """
        try:
            for loss in make_room(link or self._appends.link(), self._limits):
                self._losses.put(loss)
        except (CommitUnknown, StoreUnavailable, library().Error) as error:
            self._log.debug("cutting the log: {error}", error=reason_of(error))

    # -- deliveries

    def reserve(self, visit: Visit, lease: float, limit: int) -> Deferred[Reservation]:
        token = new_token()
        return self._others.submit(
            lambda link, in_doubt: self._deliveries.reserve(link, visit, lease, limit, token)
        )

    def look(self, visit: Visit, limit: int) -> Deferred[Reservation]:
        return self._others.submit(lambda link, in_doubt: self._deliveries.look(link, visit, limit))

    def settle(
        self,
        token: int,
        delivered: bool,
        cursor: int,
        newly_owed: Sequence[int],
        went_out: Sequence[int],
        history: TimestampHistory | None = None,
        lost: Mapping[str, Sequence[int]] = MappingProxyType({}),
        sent: Sent = NOTHING_SENT,
    ) -> Deferred[Settled]:
        def work(link: Link, in_doubt: bool) -> Settled:
            settled = self._deliveries.settle(
                link, in_doubt, token, delivered, cursor, newly_owed, went_out, history, lost, sent
            )
            if not delivered:
                self._cut(link)
            return settled

        return self._others.submit(work)

    def revoke(self, token: int, sent: Sent = NOTHING_SENT) -> Deferred[Settled]:
        def work(link: Link, in_doubt: bool) -> Settled:
            settled = self._deliveries.revoke(link, in_doubt, token, sent)
            self._cut(link)
            return settled

        return self._others.submit(work)

    def release(self, token: int) -> Deferred[None]:
        def work(link: Link, in_doubt: bool) -> None:
            at = self._deliveries.release(link, token)
            if not fits(at.head - at.pruned, at.total_size - at.pruned_size, self._limits):
                self._cut(link)

        done = self._others.submit(work)
        if self._others.is_closed:
            done.addErrback(lambda failure: None)
        return done

    # -- figures and upkeep

    def stats(self) -> Deferred[StoreStats]:
        return self._others.submit(lambda link, in_doubt: stats(link, self._limits))

    def recent(self, selection: Selection, before: int | None, limit: int) -> Deferred[LogPage]:
        def work(link: Link, in_doubt: bool) -> LogPage:
            watch_clock(link)
            return recent(link, selection, before, limit)

        return self._others.submit(work)

    def prune(self) -> Deferred[list[Loss]]:
        return Deferred.fromCoroutine(self._prune())

    async def _prune(self) -> list[Loss]:
        more = True
        while more:
            losses, more = await self._others.submit(lambda link, in_doubt: prune(link, self._limits))
            for loss in losses:
                self._losses.put(loss)
        await self._others.submit(lambda link, in_doubt: self._cut(link))  # if a lease has lapsed
        return [self._losses.get_nowait() for _ in range(self._losses.qsize())]

    def check(self) -> Deferred[None]:
        return self._others.submit(lambda link, in_doubt: heartbeat(link, True, self._id))

    def connection_counts(self) -> ConnectionCounts:
        lanes = (self._appends, self._others)
        return ConnectionCounts(
            reconnects=sum(lane.reconnects for lane in lanes), in_doubt=sum(lane.in_doubt for lane in lanes)
        )

    def durability(self) -> str:
        return self._durability

    def close(self) -> Deferred[None]:
        # Without it, the leases lapse.
        self._others.submit(lambda link, in_doubt: self._presence.end(link)).addErrback(lambda failure: None)
        closed = gatherResults([self._appends.close(), self._others.close()])
        done: Deferred[None] = Deferred()

        def stopped(results: list[None]) -> None:
            self._watchdog.stop()
            done.callback(None)

        closed.addCallback(stopped)
        return done
