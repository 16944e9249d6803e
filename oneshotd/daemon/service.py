"""The daemon's service: assembly of its parts, start, upkeep and stop.

States:

| state    | entered                                   | /readyz        | upkeep timer      |
|----------|-------------------------------------------|----------------|-------------------|
| STARTING | at construction                           | 503 "starting" | reads the store   |
| SERVING  | after the first answer of the store       | 200            | prunes the store  |
| STOPPING | at stopService, after the manager is told | 503 "stopping" | cancelled         |

Order of the start: the files of the options are read, ports are bound (both privileged), the
store is opened, HTTP and UDP are served.
Order of the stop: ports close, requests end, queued events are committed, deliveries are settled,
the store is closed. Each step has a time limit, so that the stop ends before systemd kills.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from oneshotd import __version__
from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.rule_metrics import RuleMetrics
from oneshotd.backups import Backups
from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.addresses import datagram_socket, default_name, http_addresses, udp_port
from oneshotd.daemon.config import Config
from oneshotd.daemon.hooks import HookParts
from oneshotd.daemon.locks import Locks
from oneshotd.daemon.pings import PingParts
from oneshotd.daemon.ports import Ports
from oneshotd.daemon.receivers import STOP_TIMEOUT, ReceiverParts
from oneshotd.daemon.systemd import Notifier, Supervision
from oneshotd.delivery.scrapes import Delivery
from oneshotd.errors import ConfigError, StoreUnavailable
from oneshotd.ingest.pipeline import Ingest
from oneshotd.metrics.registry import Telemetry
from oneshotd.query import EventQueries
from oneshotd.store.abilities import IBackup, IConnected
from oneshotd.store.clock import Clock
from oneshotd.store.factory import open_store
from oneshotd.store.limits import Limits
from oneshotd.udp.datagrams import Datagrams
from oneshotd.udp.reader import UDPReader
from oneshotd.web.app import HTTPApi
from oneshotd.web.fastpath.blocks import without_users
from oneshotd.web.fastpath.requests import RequestMatcher
from oneshotd.web.routes.backup import BackupDoor
from oneshotd.web.transport.channel import send

#: Seconds between two rounds of upkeep (pruning the log, removing scrapers); less if the hold is short.
UPKEEP_INTERVAL = 10.0

#: Seconds that each step of the stop may take: those that wait for clients, and those that wait for
#: the disk. Their sum is below the 90 s after which systemd kills.
REQUEST_DRAIN_TIMEOUT, WRITE_DRAIN_TIMEOUT = 10.0, 10.0


class State(enum.Enum):
    """Where the service is in its life; the value is what /readyz says."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class OneshotService(Service):
    """The whole daemon as one Twisted service.

    The ports are bound in the privileged part of the start; the store is opened as the service's user.

    :param supervision: the service manager that is notified of start, life and stop.
    :raises OneshotError: from the start, with the reason.
    """

    _log = Logger()

    def __init__(self, reactor: Any, config: Config, supervision: Supervision | None = None) -> None:
        self._reactor = reactor
        self._config = config
        self._notifier = Notifier(reactor, supervision or Supervision())
        self._state = State.STARTING
        self._upkeep: IDelayedCall | None = None
        self._telemetry = Telemetry(is_shared=config.store.kind == "postgresql")
        self._locks = Locks(reactor, config, self._telemetry)
        self._hooks = HookParts(reactor, config, self._telemetry)
        self._pings = PingParts(reactor, config, self._telemetry)
        self._receivers = ReceiverParts(reactor, config, self._telemetry)
        self._ports = Ports(reactor, config, self._telemetry)

    def privilegedStartService(self) -> None:
        """Read all files, and bind all sockets; the reactor does not run yet: no connection is accepted."""
        super().privilegedStartService()
        try:
            self._rules = Rules(
                metric=self._config.metric,
                taken=self._telemetry.reserved_names(),
                max_labels=self._config.max_labels,
                max_value=self._config.max_label_value,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._locks.read(self._rules)
        self._hooks.read(self._rules)
        self._pings.read(self._rules)
        self._receivers.read()
        self._ports.bind(self._locks.tls)

    def startService(self) -> None:
        """Open the store, and serve HTTP and UDP."""
        super().startService()
        self._notifier.start()
        config, reactor, telemetry = self._config, self._reactor, self._telemetry
        access = self._locks.policy
        bounds = self._bounds = EventBounds(access=access, limits=self._rules, seconds=reactor.seconds)
        telemetry.registry.register(RuleMetrics(bounds.report))
        name = config.daemon_name or default_name(self._ports.all)
        self._store = open_store(
            config.store.kind,
            config.store.path,
            reactor,
            limits=Limits(
                hold=config.hold,
                newcomers=config.newcomers,
                max_events=config.max_events,
                max_bytes=config.max_bytes,
            ),
            clock=Clock(),
            committed=telemetry.commit,
            name=name,
        )
        if IConnected.providedBy(self._store):
            telemetry.database = IConnected(self._store).connection_counts
        self._ingest = Ingest(self._store, telemetry, reactor)
        self._delivery = Delivery(
            self._store,
            telemetry,
            reactor,
            timestamps=config.timestamps,
            lease_margin=config.lease_margin,
        )
        backups = None
        if config.backup_dir is not None:
            backups = Backups(IBackup(self._store), config.backup_dir, time.time, time.monotonic)
        self._ports.site.resource = HTTPApi(
            ingest=self._ingest,
            delivery=self._delivery,
            store=self._store,
            queries=EventQueries(self._store, telemetry, reactor),
            telemetry=telemetry,
            send=send,
            ready=self._not_ready_reason,
            clock=reactor,
            rules=self._rules,
            trusted_proxies=config.trusted_proxy,
            access=access,
            bounds=bounds,
            now_ms=_now_ms,
            hold=config.hold,
            udp_port=udp_port(self._ports.udp),
            warnings=self._warnings,
            authenticator=self._locks.authenticator,
            peer_sans=self._locks.peer_sans,
            backups=backups,
            daemon=name if telemetry.is_shared else None,
            hooks=self._hooks.hooks,
            checks=lambda: self._pings.checks,
            max_hook_body=config.max_hook_body,
        ).resource()
        if backups is not None:
            self._ports.backup_site.resource = BackupDoor(backups=backups, telemetry=telemetry).resource()
        self._locks.serve(self._ports.site, self._matcher() if self._ports.has_fast_path else None)
        self._datagrams = Datagrams(
            ingest=self._ingest,
            telemetry=telemetry,
            rules=self._rules,
            access=access,
            bounds=bounds,
            clock=reactor,
        )
        self._udp = [
            UDPReader(sock, self._datagrams, telemetry=telemetry, clock=reactor) for sock in self._ports.udp
        ]
        for listener in self._udp:
            listener.start(reactor)
        self._log.info(
            "oneshotd {version} serves {http}, receives UDP on {udp}, stores events in {store}",
            version=__version__,
            http=http_addresses(self._ports.all, self._ports.tls),
            udp=", ".join(map(datagram_socket, self._ports.udp)),
            store=config.store.path,
        )
        self._locks.log_summary(has_udp=bool(self._udp))
        self._locks.start()
        self._hooks.start()
        self._pings.start()
        self._receivers.start(self._store, self._ingest)
        self._background(self._run_upkeep)

    def _matcher(self) -> RequestMatcher:
        """Make the fast path, which asks what the routes ask."""
        locks = self._locks
        return RequestMatcher(
            self._ingest,
            self._rules,
            locks.policy,
            known=without_users if locks.authenticator is None else locks.authenticator.known,
            bounds=self._bounds,
            peer_sans=locks.peer_sans,
        )

    def reload(self) -> None:
        """Read the web configuration, the access file, hooks, checks and receivers again."""
        self._locks.reload()
        self._hooks.reload()
        self._pings.reload()
        self._receivers.reload()

    def _warnings(self) -> list[str]:
        parts = (self._locks, self._hooks, self._pings, self._receivers)
        return [warning for part in parts for warning in part.warnings()]

    def stopService(self) -> Deferred[None]:
        """Close the ports, finish requests and deliveries, then close the store."""
        super().stopService()
        self._notifier.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._state = State.STOPPING
        if self._upkeep is not None and self._upkeep.active():
            self._upkeep.cancel()
        for port in self._ports.all:
            await maybeDeferred(port.stopListening)
        for listener in self._udp:
            listener.drain()
            listener.stop()
        self._datagrams.flush()
        await self._at_most(REQUEST_DRAIN_TIMEOUT, self._ports.site.finish(), "requests")
        self._ports.site.abort()
        self._locks.stop()
        self._hooks.stop()
        self._pings.stop()
        await self._at_most(REQUEST_DRAIN_TIMEOUT, self._ports.backup_site.finish(), "backup")
        self._ports.backup_site.abort()
        await self._at_most(WRITE_DRAIN_TIMEOUT, self._ingest.drain(), "commits")
        receivers = self._receivers.stop()
        await self._at_most(WRITE_DRAIN_TIMEOUT, self._delivery.drain(), "deliveries")
        await self._at_most(STOP_TIMEOUT, receivers, "receivers")
        await self._at_most(WRITE_DRAIN_TIMEOUT, self._store.close(), "closing the store")
        self._ingest.flush()
        self._delivery.log.flush()
        self._log_remaining()
        self._notifier.stop()

    async def _at_most(self, seconds: float, work: Deferred[Any], what: str) -> None:
        """Wait for one step of the stop, and log if it takes longer than `seconds`."""
        try:
            await work.addTimeout(seconds, self._reactor)
        except TimeoutError:
            self._log.error("stop: {what} did not finish within {seconds} s", what=what, seconds=seconds)

    def _log_remaining(self) -> None:
        """Log what the stop could not finish: events without a commit, deliveries without a settlement."""
        events, scrapers = self._ingest.load.events, self._delivery.unsettled()
        if events:
            self._log.error("{events} events in the queue were not committed and may be lost", events=events)
        if scrapers:
            self._log.error(
                "the last delivery to {scrapers} is not settled on disk; its events will be delivered again",
                scrapers=", ".join(scrapers),
            )
        if not events and not scrapers:
            self._log.info("oneshotd has stopped; all that was accepted is on disk")

    # -- upkeep

    async def _run_upkeep(self) -> None:
        """Run one round of upkeep and schedule the next one, also after an error."""
        try:
            if self._state is State.STARTING:
                self._delivery.learn(await self._store.stats())
                self._become_ready()
            else:
                await self._prune()
        except StoreUnavailable as error:
            self._telemetry.writable = False
            if self._state is not State.STOPPING:
                self._log.warn("upkeep waits for the store: {error}", error=str(error))
        finally:
            if self._state is not State.STOPPING:
                seconds = max(0.5, min(UPKEEP_INTERVAL, self._config.hold / 20))
                self._upkeep = self._reactor.callLater(seconds, self._background, self._run_upkeep)

    def _become_ready(self) -> None:
        """Leave STARTING, unless the stop has begun while the store was asked."""
        if self._state is State.STARTING:
            self._state = State.SERVING
            self._log.info("oneshotd is ready")
            self._notifier.ready(f"serves {http_addresses(self._ports.all, self._ports.tls)}")

    def _not_ready_reason(self) -> str | None:
        """Return why /readyz is 503 whatever the store says; None while the service runs."""
        return None if self._state is State.SERVING else self._state.value

    async def _prune(self) -> None:
        for loss in await self._store.prune():
            self._log.warn(
                "{scraper} has missed {events} events: {reason}",
                scraper=loss.scraper,
                events=loss.events,
                reason=loss.reason,
            )
        self._telemetry.writable = True
        self._delivery.learn(await self._store.stats())

    def _background(self, work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        Deferred.fromCoroutine(work()).addErrback(
            lambda failure: self._log.failure("upkeep", failure=failure)
        )


def _now_ms() -> int:
    return int(time.time() * 1000)
