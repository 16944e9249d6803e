"""``POST /api/v1/backup``, on a listener of its own: a UNIX socket, which nobody reaches from afar.

An address would prove nothing here: behind a reverse proxy on this host everyone comes from
127.0.0.1. Who may write to the socket's file may ask, and that the file system decides.
"""

from __future__ import annotations

import json
from typing import Protocol

from attrs import define
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.resource import IResource

from oneshotd.backups import Backup
from oneshotd.web import error_responses as problems
from oneshotd.web.error_responses import JSON, answer
from oneshotd.web.transport.request import OneshotRequest


class Backups(Protocol):
    """What this door needs of `oneshotd.backups`."""

    def make(self) -> Deferred[Backup]:
        """Make a copy of the store; goes on if it is cancelled."""


@define(kw_only=True, eq=False, slots=False)
class BackupDoor:
    """The one door of that listener."""

    backups: Backups
    telemetry: problems.Refusals

    app = Klein()
    problems.register(app)

    def resource(self) -> IResource:
        """The root of the site."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/api/v1/backup", methods=["POST"])
    async def backup(self, request: OneshotRequest) -> bytes:
        """Answered when the copy is on disk."""
        made = await self.backups.make()
        figures = {"file": made.file, "bytes": made.size, "seconds": round(made.seconds, 3)}
        return answer(request, json.dumps(figures, ensure_ascii=False).encode() + b"\n", content_type=JSON)
