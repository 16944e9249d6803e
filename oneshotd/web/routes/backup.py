"""``POST /api/v1/backup``, on a listener of its own: a UNIX socket, which other hosts cannot reach.

An address would prove nothing here: behind a reverse proxy on this host all clients have the address
127.0.0.1. The permissions of the socket's file decide which processes may request a backup.
"""

from __future__ import annotations

import json
from operator import attrgetter

from attrs import define
from klein import Klein
from twisted.web.resource import IResource

from oneshotd.backups import Backups
from oneshotd.metrics.registry import Telemetry
from oneshotd.web import error_responses
from oneshotd.web.error_responses import JSON, answer
from oneshotd.web.transport.request import OneshotRequest


@define(kw_only=True, eq=False, slots=False)
class BackupDoor:
    """The only route of that listener."""

    backups: Backups
    telemetry: Telemetry

    app = Klein()
    error_responses.register(app, attrgetter("telemetry.refused"))

    def resource(self) -> IResource:
        """Return the root of the site."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/api/v1/backup", methods=["POST"])
    async def backup(self, request: OneshotRequest) -> bytes:
        """Make a copy of the store; answer when it is on disk."""
        backup = await self.backups.make()
        figures = {"file": backup.file, "bytes": backup.size, "seconds": round(backup.seconds, 3)}
        return answer(request, json.dumps(figures, ensure_ascii=False).encode() + b"\n", content_type=JSON)
