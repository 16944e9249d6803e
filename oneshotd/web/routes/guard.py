"""Stands before the routes: finds out who a client is, and asks the policy whether it may use the route.

Only a daemon with a web configuration or an access file has it. The routes check again that the rule that the
guard has found is one of their role (`web/routes/clients.py`): a path that the two would read differently
opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map
from zope.interface import implementer

from oneshotd.access.passwords import Authenticator
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Client, Role, Rule
from oneshotd.errors import Refused
from oneshotd.web import error_responses
from oneshotd.web.routes.clients import Clients
from oneshotd.web.transport.request import OneshotRequest

#: Routes of these need no role: a probe has no credential.
OPEN: tuple[Role | None, ...] = ()

_READERS = (Role.LOOK, Role.SCRAPE)

#: Routes that have a credential in their URL: a client without the role may use them, too.
_BY_URL = (Role.EMIT, None)

#: The roles that may use a route, by the name of its function; the first one that the client has decides.
#: None: no role is needed. A route that is missing here is refused.
ROLES: Mapping[str, tuple[Role | None, ...]] = {
    "event": (Role.EMIT,),
    "events": (Role.EMIT,),
    "hook": (Role.EMIT,),
    "hook_handshake": (Role.EMIT,),
    "annotate": (Role.EMIT,),
    "annotate_graphite": (Role.EMIT,),
    "graphite_events": (Role.EMIT,),
    "annotation_by_number": (Role.EMIT,),
    "ping": _BY_URL,
    "telemetry": _BY_URL,
    "annotations": _READERS,
    "try_hook": (Role.ADMIN,),
    "metrics": (Role.SCRAPE, Role.LOOK),
    "daemon_metrics": _READERS,
    "front": _READERS,
    "live": _READERS,
    "asset": _READERS,
    "held_events": _READERS,
    "known_scrapers": _READERS,
    "backup": (Role.ADMIN,),
    "healthz": OPEN,
    "readyz": OPEN,
}

_REALM = b'realm="oneshotd"'


@implementer(IResource)
@define(kw_only=True, eq=False)
class Guard:
    """A resource that passes on the requests of clients that may use the route.

    :param routes: answers these requests.
    :param url_map: finds the route of a path, as `routes` does.
    :param count: counts a refusal.
    :param peer_sans: returns the subject alternative names of the verified certificate at the other end of
        a TLS transport.
    """

    isLeaf = True

    routes: IResource
    url_map: Map
    access: AccessPolicy
    authenticator: Authenticator
    clients: Clients
    count: error_responses.Count
    peer_sans: Callable[[Any], frozenset[str]]

    def render(self, request: IRequest) -> Any:
        """Answer a refusal, or pass the request on."""
        asked = cast(OneshotRequest, request)
        roles = self._roles(asked)
        if roles == OPEN:
            return self.routes.render(request)
        try:
            _check_rate(asked)
            if self.access.is_open:
                return self.routes.render(request)
            client = self._known(asked)
            if client is None:
                self._identify(asked, roles)
                return NOT_DONE_YET
            asked.rule, asked.identity = self._rule(asked, roles, client), client
        except Refused as refused:
            self._refuse(asked, refused)
            return NOT_DONE_YET
        return self.routes.render(request)

    def getChildWithDefault(self, name: bytes, request: IRequest) -> IResource:
        """Return no child: the routes find these."""
        raise NotImplementedError

    def putChild(self, path: bytes, child: IResource) -> None:
        """Take no child."""
        raise NotImplementedError

    # Who it is

    def _known(self, request: OneshotRequest) -> Client | None:
        """Return the client, unless a password has to be checked, or the credential is refused."""
        sent = request.requestHeaders.getRawHeaders(b"Authorization", [])
        if len(sent) > 1:
            return None
        address, sans = self._origin(request)
        return self.authenticator.known(sent[0] if sent else None, address, sans)

    def _identify(self, request: OneshotRequest, roles: Sequence[Role | None] | None) -> None:
        """Check the credential; then answer the request, unless its client has hung up meanwhile."""
        work = Deferred.fromCoroutine(self._checked(request, roles))
        request.notifyFinish().addErrback(lambda _: work.cancel())
        work.addErrback(self._failed, request)

    async def _checked(self, request: OneshotRequest, roles: Sequence[Role | None] | None) -> None:
        sent = request.requestHeaders.getRawHeaders(b"Authorization", [])
        address, sans = self._origin(request)
        try:
            client = await self.authenticator.identify(sent, address, sans)
            request.rule, request.identity = self._rule(request, roles, client), client
        except Refused as refused:
            self._refuse(request, refused)
            return
        request.render(self.routes)

    def _failed(self, failure: Failure, request: OneshotRequest) -> None:
        if not failure.check(CancelledError):  # it has hung up
            request.processingFailed(failure)

    def _origin(self, request: OneshotRequest) -> tuple[str, frozenset[str]]:
        """Return the client's address, and the names of its certificate."""
        sans = self.peer_sans(request.channel.transport) if request.isSecure() else frozenset()
        return self.clients.address(request), sans

    # What it may do

    def _roles(self, request: OneshotRequest) -> Sequence[Role | None] | None:
        """Return the roles that may use the route of this request.

        A client with any role is told that there is no such route. None: the route is missing in the table.
        """
        # As Klein makes it; bytes that are no UTF-8 are refused before.
        path = b"/".join(request.postpath or ()).decode("utf-8")
        routes = self.url_map.bind("oneshotd", path_info=path if path.startswith("/") else f"/{path}")
        method = request.method.decode("ascii")
        try:
            try:
                endpoint, _ = routes.match(method=method)
            except MethodNotAllowed as error:
                # HAProxy probes with OPTIONS: what is open to GET is open to these.
                endpoints = [routes.match(method=other)[0] for other in error.valid_methods or [method]]
                return _roles_of_all(endpoints)
        except HTTPException:
            return tuple(Role)
        return ROLES.get(endpoint)

    def _rule(
        self, request: OneshotRequest, roles: Sequence[Role | None] | None, client: Client
    ) -> Rule | None:
        """Return the rule that lets the client use the route; None: it needs none.

        :raises Refused: there is none; 401 if another one would fit a client with a credential, else 403.
        """
        if roles is None:
            raise _forbidden("no role may use this path")
        asked = []
        for role in roles:
            if role is None:
                return None
            rule = self.access.rule(role, client)
            if rule is not None:
                return rule
            asked.append(role)
        wanted = " or ".join(role.value for role in asked)
        if any(self.access.credential_helps(role, client) for role in asked):
            raise Refused(f"expected a credential for the role {wanted}", reason="unauthorized", status=401)
        if not any(self.access.admits(role, client.address) for role in asked):
            option = "--allow-emit" if asked == [Role.EMIT] else "--allow-scrape"
            raise _forbidden(f"{client.address} is not in {option}")
        raise _forbidden(f"{client}: no access rule gives it the role {wanted}")

    def _refuse(self, request: OneshotRequest, refused: Refused) -> None:
        self.count(refused, request.path)
        # Not a browser's first request, which asks for the challenge.
        if refused.status != 401 or request.requestHeaders.hasHeader(b"Authorization"):
            line = b"%b %b" % (request.method, request.path)
            request.channel.site.note_refusal(refused, self.clients.address(request), line)
        if refused.status == 401:
            request.responseHeaders.setRawHeaders(b"WWW-Authenticate", self._challenges(request))
        request.write(error_responses.refuse(request, refused))
        request.finish()

    def _challenges(self, request: OneshotRequest) -> list[bytes]:
        """Return the schemes that a 401 names (RFC 9110 section 11.6.1); for Basic, browsers ask the user."""
        challenges = []
        # The page's script asks for /live every few seconds, and says itself that the login is refused.
        if self.authenticator.has_users and request.path != b"/live":
            challenges.append(b"Basic " + _REALM + b', charset="UTF-8"')
        if self.access.has_tokens or not challenges:
            challenges.append(b"Bearer " + _REALM)
        return challenges


def _roles_of_all(endpoints: Sequence[str]) -> Sequence[Role | None] | None:
    """Return the roles of all routes of one path, which a method that none of them has is asked for."""
    found: list[Role | None] = []
    for endpoint in endpoints:
        roles = ROLES.get(endpoint)
        if roles is None or roles == OPEN:
            return roles
        found += roles
    return tuple(dict.fromkeys(found))


def _check_rate(request: OneshotRequest) -> None:
    """Check the rate of all requests together, before anything that costs.

    :raises Refused: with the seconds to wait (429).
    """
    site = request.channel.site
    if site.limit is None:
        return
    wait = site.limit.take(1, site.reactor.seconds())
    if wait > 0:
        text = "the daemon gets more requests than its rate_limit allows"
        raise Refused(text, reason="rate", status=429, retry_after=wait)


def _forbidden(text: str) -> Refused:
    return Refused(text, reason="forbidden", status=403)
