"""``/ping/…`` and ``/p/…``: pings of jobs, as they are sent to Healthchecks and Cronitor.

The URL of a ping is a credential: a check of --pings needs no rule. Without such a check, the rule of the
client may name one (``labels = { check = "…" }``). All other pings are 404: an invented URL makes no series.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, evolve
from klein import Klein

from oneshotd.errors import Refused
from oneshotd.ingest.dialects.cronitor import read_telemetry
from oneshotd.ingest.dialects.healthchecks import read_ping
from oneshotd.ingest.dialects.pings import BODY_LIMIT, Check, Checks, Ping, translate_ping
from oneshotd.ingest.dialects.translation import Message
from oneshotd.web.routes.dialects import DialectRequests, plain_body
from oneshotd.web.routes.previews import is_preview
from oneshotd.web.transport.request import OneshotRequest

#: HEAD is a ping, too: clients choose it to save the answer's body.
METHODS = ["GET", "HEAD", "POST"]

#: The source of these events in the metrics.
SOURCE = "ping"


@define(kw_only=True, eq=False)
class PingRoutes:
    """Takes pings.

    :param checks: returns the checks in force.
    """

    dialects: DialectRequests
    checks: Callable[[], Checks]

    async def take(self, request: OneshotRequest, read: Callable[[Message], Ping], path: str) -> bytes:
        """Store the event of a ping.

        :param read: reads the protocol.
        :param path: what is behind the protocol's own part of the path, decoded.
        """
        self.dialects.clients.check_pinger(request)
        if is_preview(request):
            raise Refused("a link preview may not send a ping", reason="forbidden", status=403)
        message = self.dialects.message(request, plain_body(request), path=path)
        ping = read(message)
        check = self.checks().find(ping.place)
        if check is None:
            check = _by_rule(request, ping)
        else:
            # The file bounds the events: pings of one check from several clients are of one sender.
            request.rule, message = None, evolve(message, principal="")
        translation = translate_ping(ping, check, message, self.dialects.context())
        body = await self.dialects.store(request, SOURCE, translation)
        request.setHeader(b"Ping-Body-Limit", b"%d" % BODY_LIMIT)
        return body


def _by_rule(request: OneshotRequest, ping: Ping) -> Check:
    """Return the check that the client's rule names.

    :raises Refused: it names none, or another one.
    """
    name = None if request.rule is None else request.rule.labels.get("check")
    if name is None or (len(ping.place) == 2 and ping.place[1] != name):
        raise Refused("not found, there is no check with this URL", reason="name", status=404)
    return Check(name=name)


def register(app: Klein, routes: Callable[[Any], PingRoutes]) -> None:
    """Add these routes to `app`.

    :param routes: finds them in the object that `app` is bound to.
    """

    @app.route("/ping/<path:rest>", methods=METHODS)
    async def ping(api: object, request: OneshotRequest, rest: str) -> bytes:
        return await routes(api).take(request, read_ping, rest)

    @app.route("/p/<path:rest>", methods=METHODS)
    async def telemetry(api: object, request: OneshotRequest, rest: str) -> bytes:
        return await routes(api).take(request, read_telemetry, rest)
