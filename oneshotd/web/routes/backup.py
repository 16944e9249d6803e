"""``POST /api/v1/backup``: on a listener of its own, and for admins.

The listener is a UNIX socket, which other hosts cannot reach; the permissions of its file decide which
processes may request a backup. The public listeners have the route only if there is an access file. Without
one a client has nothing but its address, which proves nothing: behind a reverse proxy on this host all
clients have the address 127.0.0.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from attrs import define
from klein import Klein
from twisted.web.resource import IResource
from werkzeug.exceptions import MethodNotAllowed, NotFound

from oneshotd.backups import Backups
from oneshotd.errors import Refused
from oneshotd.metrics.registry import Telemetry
from oneshotd.web import error_responses
from oneshotd.web.error_responses import JSON, answer
from oneshotd.web.routes.clients import Clients
from oneshotd.web.transport.request import OneshotRequest


@define(kw_only=True, eq=False, slots=False)
class BackupDoor:
    """The only route of that listener."""

    backups: Backups
    telemetry: Telemetry

    app = Klein()
    error_responses.register(app, attrgetter("telemetry.refused_request"))

    def resource(self) -> IResource:
        """Return the root of the site."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/api/v1/backup", methods=["POST"])
    async def backup(self, request: OneshotRequest) -> bytes:
        """Make a copy of the store; answer when it is on disk."""
        return await _back_up(self.backups, request)


@define(kw_only=True, eq=False)
class BackupRoutes:
    """The route on the public listeners, for admins.

    :param backups: None: the daemon makes no backups.
    """

    backups: Backups | None
    clients: Clients

    async def backup(self, request: OneshotRequest) -> bytes:
        """Make a copy of the store; answer when it is on disk."""
        if self.clients.access.rules is None:
            raise NotFound
        if self.backups is None:
            text = "not found: the daemon makes no backups, backup-dir and backup-socket are not set"
            raise Refused(text, reason="forbidden", status=404)
        if request.method != b"POST":
            raise MethodNotAllowed(["POST"])
        self.clients.check_admin(request)
        return await _back_up(self.backups, request)


def register(app: Klein, routes: Callable[[Any], BackupRoutes]) -> None:
    """Add this route to `app`; it takes all methods, because none is known where there are no backups.

    :param routes: finds it in the object that `app` is bound to.
    """

    @app.route("/api/v1/backup")
    async def backup(api: object, request: OneshotRequest) -> bytes:
        return await routes(api).backup(request)


async def _back_up(backups: Backups, request: OneshotRequest) -> bytes:
    backup = await backups.make()
    figures = {"file": backup.file, "bytes": backup.size, "seconds": round(backup.seconds, 3)}
    return answer(request, json.dumps(figures, ensure_ascii=False).encode() + b"\n", content_type=JSON)
