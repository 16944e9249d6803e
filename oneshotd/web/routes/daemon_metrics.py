"""``GET /metrics/daemon``: the figures of this daemon alone, without events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from klein import Klein
from twisted.internet.interfaces import IReactorTime

from oneshotd.core.negotiation import choose_format
from oneshotd.core.scrape_limits import NO_LIMITS
from oneshotd.metrics.registry import Telemetry
from oneshotd.web.routes.clients import Clients
from oneshotd.web.routes.scrape import encoded
from oneshotd.web.transport.request import OneshotRequest


@define(kw_only=True, eq=False)
class DaemonMetricsRoutes:
    """Shows this daemon's metrics; parameters are ignored, so that those of a scrape do no harm."""

    telemetry: Telemetry
    clock: IReactorTime
    clients: Clients

    async def metrics(self, request: OneshotRequest) -> bytes:
        """Answer with the metrics; no scraper is registered, and nothing is delivered."""
        self.clients.check_reader(request)
        format = choose_format(request.header(b"Accept"))
        body, _ = self.telemetry.daemon_metrics(format).within(NO_LIMITS)
        return await encoded(request, body, format.content_type, self.clock)


def register(app: Klein, routes: Callable[[Any], DaemonMetricsRoutes]) -> None:
    """Add this route to `app`.

    :param routes: finds it in the object that `app` is bound to.
    """

    @app.route("/metrics/daemon", methods=["GET"])
    async def daemon_metrics(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).metrics(request)
