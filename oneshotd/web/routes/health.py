"""``GET /healthz`` and ``/readyz``: whether the process runs, and whether it can do its work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from klein import Klein

from oneshotd.ingest.pipeline import Ingest
from oneshotd.web.error_responses import RETRY_AFTER, answer, refusal
from oneshotd.web.status.readiness import StoreProbe
from oneshotd.web.transport.request import OneshotRequest

#: Seconds after which /readyz reports an event that still waits for its commit. A worn SD card
#: needs seconds for a sync now and then.
COMMIT_OVERDUE_SECONDS = 10.0


@define(kw_only=True, eq=False)
class HealthRoutes:
    """Answers health checks.

    :param ready: returns why the daemon cannot work now ("starting", "stopping"), or None.
    :param warnings: returns what needs an operator and does not keep the daemon from its work; every client
        can read these lines.
    """

    ready: Callable[[], str | None]
    probe: StoreProbe
    ingest: Ingest
    warnings: Callable[[], Sequence[str]] = tuple

    def healthz(self, request: OneshotRequest) -> bytes:
        """Answer 200: the process runs."""
        return answer(request, b"ok\n")

    async def readyz(self, request: OneshotRequest) -> bytes:
        """Answer 200 if the listeners are up and the store can be written, else 503; warnings are 200."""
        problem = await self.problem()
        if problem is None:
            return answer(
                request, "".join(["ok\n", *(f"warning: {text}\n" for text in self.warnings())]).encode()
            )
        return refusal(request, 503, problem, retry_after=RETRY_AFTER["store"])

    async def problem(self) -> str | None:
        """Return why events or scrapes would not be answered now, or None."""
        reason = self.ready()
        if reason is not None:
            return reason
        reason = await self.probe.problem()
        if reason is not None:
            return reason
        waited = self.ingest.waits()
        if waited > COMMIT_OVERDUE_SECONDS:
            return f"ingest: events have been waiting for the disk for {waited:.0f} s"
        return None


def register(app: Klein, routes: Callable[[Any], HealthRoutes]) -> None:
    """Add these routes to `app`.

    :param routes: finds them in the object that `app` is bound to.
    """

    @app.route("/healthz", methods=["GET"])
    def healthz(api: object, request: OneshotRequest) -> bytes:
        return routes(api).healthz(request)

    @app.route("/readyz", methods=["GET"])
    async def readyz(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).readyz(request)
