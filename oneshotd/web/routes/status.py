"""``GET /``, ``/live`` and ``/assets/``: the status page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from klein import Klein
from twisted.web.http import CACHED
from werkzeug.exceptions import NotFound

from oneshotd.access.rules import Role
from oneshotd.web import error_responses
from oneshotd.web.error_responses import answer
from oneshotd.web.routes.clients import Clients
from oneshotd.web.status import page
from oneshotd.web.status.assets import ASSETS, CACHE_FOREVER
from oneshotd.web.status.cache import StatusCache
from oneshotd.web.status.examples import Examples
from oneshotd.web.transport.request import OneshotRequest


@define(kw_only=True, eq=False)
class StatusRoutes:
    """Serves the status page and its files.

    :param udp_port: where the daemon takes datagrams, or None.
    :param hooks: returns the names of all hooks.
    """

    cache: StatusCache
    clients: Clients
    udp_port: int | None
    hooks: Callable[[], Sequence[str]] = tuple

    async def front(self, request: OneshotRequest) -> bytes:
        """Serve the status page to browsers, a few lines of text to other clients."""
        self.clients.check_reader(request)
        request.setHeader(b"Vary", b"Accept")
        examples = self._examples(request)
        if not error_responses.accepts(request, "text/html"):
            return answer(request, examples.welcome())
        status = await self.cache.status()
        _restrict(request)
        live = await self.cache.html(status)
        hooks = self.hooks() if self.clients.is_admin(request) else ()
        return answer(request, await page.render(live, examples, hooks), content_type=page.HTML)

    def _examples(self, request: OneshotRequest) -> Examples:
        access = self.clients.access
        return Examples(
            scheme="https" if request.isSecure() else "http",
            host=request.host_text(),
            path=self.clients.prefix(request),
            udp=self.udp_port if access.takes_datagrams else None,
            emitter=access.credentials(Role.EMIT),
            scraper=access.credentials(Role.SCRAPE),
            admin=access.credentials(Role.ADMIN),
        )

    async def live(self, request: OneshotRequest) -> bytes:
        """Serve the part of the page that changes; 304 if it has not changed."""
        self.clients.check_reader(request)
        status = await self.cache.status()
        _restrict(request)
        if request.setETag(status.etag) is CACHED:
            return answer(request, b"", status=304, content_type=page.HTML)
        return answer(request, await self.cache.html(status), content_type=page.HTML)

    def asset(self, request: OneshotRequest, name: str) -> bytes:
        """Serve the style, the script or the icon of the page."""
        self.clients.check_reader(request)
        found = ASSETS.get(name)
        if found is None:
            raise NotFound
        _restrict(request)
        body = answer(request, found.body, content_type=found.content_type)
        if request.query == found.version.encode("ascii"):
            request.setHeader(b"Cache-Control", CACHE_FOREVER)
        return body


def register(app: Klein, routes: Callable[[Any], StatusRoutes]) -> None:
    """Add these routes to `app`.

    :param routes: finds them in the object that `app` is bound to.
    """

    @app.route("/", methods=["GET"])
    async def front(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).front(request)

    @app.route("/live", methods=["GET"])
    async def live(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).live(request)

    @app.route("/assets/<name>", methods=["GET"])
    def asset(api: object, request: OneshotRequest, name: str) -> bytes:
        return routes(api).asset(request, name)


def _restrict(request: OneshotRequest) -> None:
    """Set the headers that let a browser load the page's own files and nothing else."""
    for name, value in page.HEADERS.items():
        # A policy of the web configuration holds in addition: a browser obeys both.
        request.responseHeaders.addRawHeader(name, value)
