"""The daemon, put together: what there is, in which order it starts, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger
from twisted.web.pages import notFound

from oneshotd import __version__
from oneshotd.backups import Backups
from oneshotd.core.parsing.formats import Rules
from oneshotd.daemon.config import Config
from oneshotd.daemon.sockets import adopt, affordable, http_ports, listen_backup, udp_sockets
from oneshotd.daemon.systemd import Notifier, Supervision
from oneshotd.delivery.scrapes import Delivery
from oneshotd.errors import ConfigError, StoreUnavailable
from oneshotd.ingest.pipeline import Ingest
from oneshotd.metrics.registry import Telemetry
from oneshotd.query import EventQueries
from oneshotd.store.clock import Clock
from oneshotd.store.factory import open_store
from oneshotd.store.limits import Limits
from oneshotd.udp.datagrams import Datagrams, UDPDoor
from oneshotd.web.app import HTTPApi
from oneshotd.web.fastpath.listener import Listener
from oneshotd.web.fastpath.requests import FastPathChannel, RequestMatcher
from oneshotd.web.routes.backup import BackupDoor
from oneshotd.web.transport.channel import send
from oneshotd.web.transport.request import OneshotRequest
from oneshotd.web.transport.site import Site

#: Seconds between two rounds of upkeep (pruning, retiring); more often where the hold is short.
UPKEEP = 10.0

#: Connections at the socket for backups at a time.
BACKUP_CONNECTIONS = 10

#: Seconds that what is under way at a shutdown gets: requests and deliveries, then the disk.
#: Together with the rest well below the 90 s after which systemd kills.
LAST_REQUESTS, LAST_WRITES = 10.0, 10.0


class OneshotService(Service):
    """One daemon. Ports are bound in the privileged part of the start, the store is opened as
    the service's user, and nothing is served before both are there.

    :param supervision: whom to tell that it serves, lives and ends.
    :raises OneshotError: from the start, with the reason.
    """

    _log = Logger()

    def __init__(self, reactor: Any, config: Config, supervision: Supervision | None = None) -> None:
        self._reactor = reactor
        self._config = config
        self._notifier = Notifier(reactor, supervision or Supervision())
        self._trouble: str | None = "starting"
        self._upkeep: IDelayedCall | None = None
        self._ports: list[IListeningPort] = []
        self._telemetry = Telemetry()
        self._site = self._make_site(affordable(config.max_connections))
        self._backup_site = self._make_site(BACKUP_CONNECTIONS)
        self._site.protocol = FastPathChannel

    def _make_site(self, max_connections: int) -> Site:
        return Site(
            notFound(),
            requestFactory=partial(OneshotRequest, refused=self._telemetry.refused),
            reactor=self._reactor,
            max_connections=max_connections,
            request_timeout=self._config.request_timeout,
            idle_timeout=self._config.idle_timeout,
            access_log=self._config.access_log,
        )

    def privilegedStartService(self) -> None:
        """Bind everything; no connection is looked at before the reactor runs."""
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
        self._udp_sockets = [sock for address in self._config.udp for sock in udp_sockets(address)]
        # With an access log there is no short way, and nothing to look at in advance.
        make = adopt if self._config.access_log else Listener
        self._ports = [
            port for where in self._config.http for port in http_ports(self._reactor, where, self._site, make)
        ]
        if self._config.backup_socket is not None:
            self._ports.append(listen_backup(self._reactor, self._config.backup_socket, self._backup_site))

    def startService(self) -> None:
        """Open the store and start to serve."""
        super().startService()
        self._notifier.start()
        config, reactor, telemetry = self._config, self._reactor, self._telemetry
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
        )
        self._intake = Ingest(self._store, telemetry, reactor)
        self._delivery = Delivery(self._store, telemetry, reactor, _now_ms, timestamps=config.timestamps)
        self._site.resource = HTTPApi(
            intake=self._intake,
            delivery=self._delivery,
            store=self._store,
            reading=EventQueries(self._store, telemetry, reactor),
            telemetry=telemetry,
            send=send,
            ready=lambda: self._trouble,
            clock=reactor,
            rules=self._rules,
            trusted_proxies=config.trusted_proxy,
            allow_emit=config.allow_emit,
            allow_scrape=config.allow_scrape,
            now_ms=_now_ms,
            hold=config.hold,
            udp_port=next((sock.getsockname()[1] for sock in self._udp_sockets), None),
        ).resource()
        if config.backup_dir is not None:
            backups = Backups(self._store, config.backup_dir, time.time, time.monotonic)
            self._backup_site.resource = BackupDoor(backups=backups, telemetry=telemetry).resource()
        if not config.access_log:
            self._site.shortcut = RequestMatcher(self._intake, self._rules, config.allow_emit)
        self._datagrams = Datagrams(
            intake=self._intake,
            telemetry=telemetry,
            rules=self._rules,
            allowed=config.allow_emit,
            clock=reactor,
        )
        self._udp = [
            UDPDoor(sock, self._datagrams, telemetry=telemetry, clock=reactor) for sock in self._udp_sockets
        ]
        for door in self._udp:
            door.start(reactor)
        self._log.info(
            "oneshotd {version} serves {http}, takes datagrams on {udp}, keeps its events in {store}",
            version=__version__,
            http=", ".join(_where(port.getHost()) for port in self._ports),
            udp=", ".join("{}:{}".format(*sock.getsockname()) for sock in self._udp_sockets),
            store=config.store.path,
        )
        self._background(self._round)

    def stopService(self) -> Deferred[None]:
        """Take nothing new, see to the end what is under way, then close the store."""
        super().stopService()
        self._notifier.stopping()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._trouble = "stopping"
        if self._upkeep is not None and self._upkeep.active():
            self._upkeep.cancel()
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        for door in self._udp:
            door.drain()
            door.stop()
        self._datagrams.flush()
        await self._at_most(LAST_REQUESTS, self._site.finish(), "requests")
        self._site.abort()
        await self._at_most(LAST_REQUESTS, self._backup_site.finish(), "a backup")
        self._backup_site.abort()
        await self._at_most(LAST_WRITES, self._intake.drain(), "storing events")
        await self._at_most(LAST_WRITES, self._delivery.drain(), "deliveries")
        await self._at_most(LAST_WRITES, self._store.close(), "closing the store")
        self._intake.flush()
        self._delivery.log.flush()
        self._say_what_is_left()
        self._notifier.stop()

    async def _at_most(self, seconds: float, work: Deferred[None], what: str) -> None:
        try:
            await work.addTimeout(seconds, self._reactor)
        except TimeoutError:
            self._log.error("{what}: not done within {seconds} s", what=what, seconds=seconds)

    def _say_what_is_left(self) -> None:
        events, scrapers = self._intake.load.events, self._delivery.unsettled()
        if events:
            self._log.error("{events} events that waited for the disk may be lost", events=events)
        if scrapers:
            self._log.error(
                "the last delivery to {scrapers} is not settled on disk: it goes out again",
                scrapers=", ".join(scrapers),
            )
        if not events and not scrapers:
            self._log.info("oneshotd has stopped; all that was accepted is on disk")

    # -- upkeep

    async def _round(self) -> None:
        """One round of upkeep; whatever fails in it, there is a next one."""
        try:
            if self._trouble == "starting":
                self._delivery.learn(await self._store.census())
                self._ready()
            else:
                await self._prune()
        except StoreUnavailable as error:
            self._telemetry.writable = False
            if self._trouble != "stopping":
                self._log.warn("upkeep waits for the store: {error}", error=str(error))
        finally:
            if self._trouble != "stopping":
                seconds = max(0.5, min(UPKEEP, self._config.hold / 20))
                self._upkeep = self._reactor.callLater(seconds, self._background, self._round)

    def _ready(self) -> None:
        if self._trouble == "starting":
            self._trouble = None
            self._log.info("oneshotd is ready")
            self._notifier.ready(f"serves {', '.join(_where(port.getHost()) for port in self._ports)}")

    async def _prune(self) -> None:
        for loss in await self._store.prune():
            self._log.warn(
                "{scraper} has missed {events} events: {reason}",
                scraper=loss.scraper,
                events=loss.events,
                reason=loss.reason,
            )
        self._telemetry.writable = True
        self._delivery.learn(await self._store.census())

    def _background(self, work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        Deferred.fromCoroutine(work()).addErrback(
            lambda failure: self._log.failure("upkeep", failure=failure)
        )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _where(address: Any) -> str:
    """An address for the log: of TCP as ``host:port``, of anything else as it says itself."""
    return f"{address.host}:{address.port}" if hasattr(address, "port") else str(address)


def assemble(reactor: Any, config: Config, supervision: Supervision | None = None) -> IService:
    """The daemon as a service; nothing is opened before it is started."""
    service: IService = OneshotService(reactor, config, supervision)
    return service
