"""``POST /hook/NAME``: store the events of a webhook; and a trial of a hook, which stores nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define
from klein import Klein
from werkzeug.exceptions import MethodNotAllowed

from oneshotd.core.parsing.formats import MAX_BODY_BYTES
from oneshotd.core.parsing.grammar import quoted
from oneshotd.errors import Refused
from oneshotd.ingest.hooks.hooks import Hooks
from oneshotd.metrics.doors import HOOK
from oneshotd.web import error_responses
from oneshotd.web.error_responses import JSON, answer
from oneshotd.web.routes.dialects import DialectRequests, plain_body, respond
from oneshotd.web.transport.request import OneshotRequest

#: Events, and elements that are left out, in the text of a trial.
MAX_TRIED = 100


def body_limit(max_hook_body: int) -> Callable[[bytes], int]:
    """Return how many bytes a site accepts at a path; see `transport.site.Site`."""
    most = max(MAX_BODY_BYTES, max_hook_body)
    return lambda path: most if path.startswith(b"/hook/") else MAX_BODY_BYTES


@define(kw_only=True, eq=False)
class HookRoutes:
    """Passes requests on to the hooks.

    :param max_body: bytes that a body may have, before and after it is inflated.
    """

    hooks: Hooks
    dialects: DialectRequests
    max_body: int

    async def hook(self, request: OneshotRequest, name: str) -> bytes:
        """Store the events of a webhook, and answer after their commit."""
        self._check(request, name)
        return await self._take(request, name, most=self.max_body)

    async def at_plain_path(self, request: OneshotRequest, name: str) -> bytes:
        """Store the events of a request to ``/event`` or ``/events`` that is of a hook's format."""
        self._check_name(name)
        return await self._take(request, name)

    async def _take(self, request: OneshotRequest, name: str, *, most: int | None = None) -> bytes:
        translate = partial(self.hooks.translate, name)
        return await self.dialects.take(request, f"{HOOK}{name}", translate, most=most)

    async def handshake(self, request: OneshotRequest, name: str) -> bytes:
        """Answer OPTIONS, by which some senders ask whether they may send."""
        self._check(request, name)
        made = self.hooks.handshake(name, self.dialects.message(request, plain_body(request)))
        if made is None:
            raise MethodNotAllowed(valid_methods=["POST"])
        return respond(request, made)

    def trial(self, request: OneshotRequest, name: str) -> bytes:
        """Return what a message would become; nothing is stored, and its sender is not verified."""
        self.dialects.clients.check_admin(request)
        self._check_name(name)
        message = self.dialects.message(request, plain_body(request))
        found = self.hooks.trial(name, message, self.dialects.context())
        if error_responses.accepts(request, "application/json"):
            made = json.dumps(found.as_json(), ensure_ascii=False).encode()
            return answer(request, made + b"\n", content_type=JSON)
        return answer(request, "".join(f"{line}\n" for line in found.lines(MAX_TRIED)).encode())

    def _check(self, request: OneshotRequest, name: str) -> None:
        """Check that the client may use hooks, and that there is one of this name."""
        self.dialects.clients.check_emitter(request)
        self._check_name(name)

    def _check_name(self, name: str) -> None:
        names = self.hooks.names
        if name not in names:
            those = f"; the hooks are {', '.join(names)}" if names else ""
            raise Refused(f"there is no hook {quoted(name)}{those}", reason="name", status=404)


def register(app: Klein, routes: Callable[[Any], HookRoutes]) -> None:
    """Add these routes to `app`.

    :param routes: finds them in the object that `app` is bound to.
    """

    @app.route("/hook/<name>", methods=["POST"])
    async def hook(api: object, request: OneshotRequest, name: str) -> bytes:
        return await routes(api).hook(request, name)

    @app.route("/api/v1/try-hook/<name>", methods=["POST"])
    def try_hook(api: object, request: OneshotRequest, name: str) -> bytes:
        return routes(api).trial(request, name)

    @app.route("/hook/<name>", methods=["OPTIONS"])
    async def hook_handshake(api: object, request: OneshotRequest, name: str) -> bytes:
        return await routes(api).handshake(request, name)
