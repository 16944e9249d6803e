"""The HTTP side of the daemon, assembled from the groups of routes.

A route's coroutine must not hold work that has to be finished: Klein cancels it when the client
hangs up (klein#840).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from attrs import define, field
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.passwords import Authenticator
from oneshotd.access.policy import AccessPolicy
from oneshotd.backups import Backups
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import MAX_HOOK_BODY_BYTES, Rules
from oneshotd.delivery.scrapes import Delivery
from oneshotd.ingest.dialects.pings import Checks
from oneshotd.ingest.hooks.hooks import Hooks
from oneshotd.ingest.pipeline import Ingest
from oneshotd.metrics.doors import DoorUse
from oneshotd.metrics.registry import Telemetry
from oneshotd.query import EventQueries
from oneshotd.store.abilities import IConnected
from oneshotd.store.interface import IStore
from oneshotd.web import error_responses
from oneshotd.web.routes import annotations as chart_annotations
from oneshotd.web.routes import api, backup, daemon_metrics, dialects, health, pings, scrape, status
from oneshotd.web.routes import hooks as webhooks
from oneshotd.web.routes import ingest as event_routes
from oneshotd.web.routes.clients import Clients
from oneshotd.web.routes.guard import Guard
from oneshotd.web.status import page
from oneshotd.web.status.cache import StatusCache
from oneshotd.web.status.readiness import StoreProbe


@define(kw_only=True, eq=False, slots=False)
class HTTPApi:
    """All routes of the daemon's public listeners; `resource` is what a site needs.

    :param send: sends a response with events and tracks its acknowledgement.
    :param ready: returns why the daemon cannot work now ("starting", "stopping"), or None.
    :param trusted_proxies: proxies whose X-Forwarded-For and X-Real-IP count.
    :param access: which client may send events, and which may scrape and look.
    :param bounds: of the events of access rules; UDP and the fast path ask them, too.
    :param now_ms: returns Unix ms.
    :param hold: seconds for which events are kept.
    :param udp_port: where the daemon takes datagrams, or None.
    :param warnings: returns what /readyz adds while it answers 200; the page has it, too.
    :param authenticator: checks credentials; None: there is neither a web configuration nor an access file,
        and an address is all that counts.
    :param peer_sans: see `routes.guard.Guard`.
    :param backups: for admins; None: there are none.
    :param daemon: the name of this daemon among those that share the store; None: there are no others.
    :param hooks: all of them.
    :param max_hook_body: bytes that the body of a webhook may have; the site has to accept them.
    :param checks: returns the checks whose pings are taken.
    """

    ingest: Ingest
    delivery: Delivery
    store: IStore
    queries: EventQueries
    telemetry: Telemetry
    send: scrape.Send
    ready: Callable[[], str | None]
    clock: IReactorTime
    rules: Rules
    trusted_proxies: Networks
    access: AccessPolicy
    bounds: EventBounds
    now_ms: Callable[[], int]
    hold: float
    udp_port: int | None
    warnings: Callable[[], Sequence[str]] = tuple
    authenticator: Authenticator | None = None
    peer_sans: Callable[[Any], frozenset[str]] = lambda transport: frozenset()
    backups: Backups | None = None
    daemon: str | None = None
    hooks: Hooks = field(factory=Hooks)
    max_hook_body: int = MAX_HOOK_BODY_BYTES
    checks: Callable[[], Checks] = Checks
    clients: Clients = field(init=False)
    ingest_routes: event_routes.IngestRoutes = field(init=False)
    scrape_routes: scrape.ScrapeRoutes = field(init=False)
    daemon_metrics_routes: daemon_metrics.DaemonMetricsRoutes = field(init=False)
    health_routes: health.HealthRoutes = field(init=False)
    status_routes: status.StatusRoutes = field(init=False)
    query_routes: api.QueryRoutes = field(init=False)
    backup_routes: backup.BackupRoutes = field(init=False)
    hook_routes: webhooks.HookRoutes = field(init=False)
    annotation_routes: chart_annotations.AnnotationRoutes = field(init=False)
    ping_routes: pings.PingRoutes = field(init=False)

    app = Klein()
    error_responses.register(app, attrgetter("telemetry.refused_request"))
    event_routes.register(app, attrgetter("ingest_routes"))
    scrape.register(app, attrgetter("scrape_routes"))
    daemon_metrics.register(app, attrgetter("daemon_metrics_routes"))
    health.register(app, attrgetter("health_routes"))
    status.register(app, attrgetter("status_routes"))
    api.register(app, attrgetter("query_routes"))
    backup.register(app, attrgetter("backup_routes"))
    webhooks.register(app, attrgetter("hook_routes"))
    chart_annotations.register(app, attrgetter("annotation_routes"))
    pings.register(app, attrgetter("ping_routes"))

    def __attrs_post_init__(self) -> None:
        clients = self.clients = Clients(
            trusted_proxies=self.trusted_proxies,
            access=self.access,
        )
        self.telemetry.doors.hooks = self._hook_names
        taker = dialects.DialectRequests(
            ingest=self.ingest,
            rules=self.rules,
            bounds=self.bounds,
            clients=clients,
            hold=self.hold,
            now_ms=self.now_ms,
            clock=self.clock,
        )
        self.hook_routes = webhooks.HookRoutes(hooks=self.hooks, dialects=taker, max_body=self.max_hook_body)
        self.ingest_routes = event_routes.IngestRoutes(
            ingest=self.ingest,
            rules=self.rules,
            clients=clients,
            bounds=self.bounds,
            by_hook=self.hook_routes.at_plain_path,
        )
        self.scrape_routes = scrape.ScrapeRoutes(
            delivery=self.delivery, send=self.send, clock=self.clock, clients=clients
        )
        self.daemon_metrics_routes = daemon_metrics.DaemonMetricsRoutes(
            telemetry=self.telemetry, clock=self.clock, clients=clients
        )
        self.health_routes = health.HealthRoutes(
            ready=self.ready,
            probe=StoreProbe(self.store.check, self.clock),
            ingest=self.ingest,
            warnings=self.warnings,
        )
        cache = StatusCache(
            queries=self.queries,
            problem=self.health_routes.problem,
            clock=self.clock,
            now_ms=self.now_ms,
            hold=self.hold,
            render=page.render_live,
            rules=self.bounds.report,
            notes=self.warnings,
            daemon=self.daemon,
            durability=IConnected(self.store).durability if IConnected.providedBy(self.store) else str,
            doors=self._doors,
        )
        self.status_routes = status.StatusRoutes(
            cache=cache, clients=clients, udp_port=self.udp_port, hooks=self._hook_names
        )
        self.query_routes = api.QueryRoutes(queries=self.queries, clients=clients, hold=self.hold)
        self.backup_routes = backup.BackupRoutes(backups=self.backups, clients=clients)
        self.annotation_routes = chart_annotations.AnnotationRoutes(dialects=taker, queries=self.queries)
        self.ping_routes = pings.PingRoutes(dialects=taker, checks=self.checks)

    def _hook_names(self) -> Sequence[str]:
        return self.hooks.names

    def _doors(self) -> Sequence[DoorUse]:
        report = self.telemetry.doors.report()
        return report if self.udp_port is not None else [use for use in report if use.source != "udp"]

    def resource(self) -> IResource:
        """Return the root of the site."""
        routes: IResource = self.app.resource()
        if self.authenticator is None:
            return routes
        return Guard(
            routes=routes,
            url_map=self.app.url_map,
            access=self.access,
            authenticator=self.authenticator,
            clients=self.clients,
            count=self.telemetry.refused_request,
            peer_sans=self.peer_sans,
        )
