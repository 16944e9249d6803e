"""The clients of HTTP: their addresses, and the checks of networks and of web pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from attrs import define

from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Role
from oneshotd.core.identity import Visit, forwarded_client
from oneshotd.core.networks import UNIX, Networks, client_address
from oneshotd.errors import Refused
from oneshotd.web.transport.request import OneshotRequest

#: X-Forwarded-Prefix: the path under which a proxy serves the daemon. Traefik sends it unasked.
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){1,10}/?")


@define(kw_only=True, eq=False)
class Clients:
    """Finds a client's address and checks what the client may do.

    :param trusted_proxies: proxies whose X-Forwarded-For, X-Real-IP and X-Forwarded-Prefix count.
    :param access: which client may send events, and which may scrape and look.
    """

    trusted_proxies: Networks
    access: AccessPolicy

    def check_emitter(self, request: OneshotRequest) -> None:
        """Check that this request may store events.

        :raises Refused: the client may not send events, or a browser sends the request for a page
            of another site.
        """
        address = self.address(request)
        if not self._may(request, (Role.EMIT,), lambda: self.access.may_emit(address)):
            raise _forbidden(f"{address} may not send events")
        if request.is_from_another_page():
            raise _forbidden("a page of another site may not send events")

    def check_pinger(self, request: OneshotRequest) -> None:
        """Check that this request may be a ping, whose URL is its credential: it needs no rule.

        :raises Refused: the address may not send events, or a browser sends the request for a page of another
            site.
        """
        address = self.address(request)
        if not self.access.admits(Role.EMIT, address):
            raise _forbidden(f"{address} may not send events")
        if request.is_from_another_page():
            raise _forbidden("a page of another site may not send a ping")

    def check_reader(self, request: OneshotRequest) -> str:
        """Check that this request may read; return the client's address.

        :raises Refused: the client may not read.
        """
        address = self.address(request)
        if not self._may(request, (Role.SCRAPE, Role.LOOK), lambda: self.access.may_scrape(address)):
            raise _forbidden(f"{address} may not read here")
        return address

    def check_scraper(self, request: OneshotRequest, visit: Visit) -> None:
        """Check that a scrape, which takes events, may do so under its identity; `check_reader` was called.

        An unnamed scraper is known by its address and product, whatever rule it has: nobody becomes a
        newcomer by a credential.

        :raises Refused: the client may only look, or the name belongs to another rule.
        """
        rule = request.rule
        if rule is None:
            return
        if rule.role is not Role.SCRAPE:
            text = f"{rule} does not let you scrape: add ?look (or &look) to see what a scrape would get"
            raise _forbidden(text)
        if not visit.named:
            return
        if rule.scraper is not None and not rule.binds(visit.name):
            raise _forbidden(f"scraper: {rule} has the name {rule.scraper}, not {visit.name}")
        owner = self.access.owner(visit.name)
        if owner is not None and owner.binds(visit.name) > rule.binds(visit.name):
            raise _forbidden(f"scraper: the name {visit.name} belongs to rule {owner.number}")

    def check_admin(self, request: OneshotRequest) -> None:
        """Check that this request may change the daemon's state: only a rule lets it.

        :raises Refused: no rule does, or a browser sends the request for a page of another site.
        """
        if not self._may(request, (Role.ADMIN,), lambda: False):
            raise _forbidden(f"{self.address(request)} is no admin")
        if request.is_from_another_page():
            raise _forbidden("a page of another site may not do this")

    def is_admin(self, request: OneshotRequest) -> bool:
        """Return whether a rule lets the client of this request change the daemon's state."""
        return request.identity is not None and self.access.rule(Role.ADMIN, request.identity) is not None

    def _may(self, request: OneshotRequest, roles: Sequence[Role], by_address: Callable[[], bool]) -> bool:
        """Return whether the request's rule is of one of these roles; without a rule, its address decides."""
        return by_address() if request.rule is None else request.rule.role in roles

    def address(self, request: OneshotRequest) -> str:
        """Return the client's address; "unix" if it is connected to a UNIX socket."""
        forwarded = request.requestHeaders.getRawHeaders(b"X-Forwarded-For", [])
        return forwarded_client(
            _peer(request),
            [line.decode("latin-1") for line in forwarded],
            request.header(b"X-Real-IP"),
            self.trusted_proxies,
        )

    def prefix(self, request: OneshotRequest) -> str:
        """Return the path under which a trusted proxy serves the daemon; empty without such a proxy."""
        prefix = request.header(b"X-Forwarded-Prefix") or ""
        trusted = client_address(_peer(request)) in self.trusted_proxies
        return prefix.rstrip("/") if trusted and _PREFIX.fullmatch(prefix) else ""


def _forbidden(text: str) -> Refused:
    return Refused(text, reason="forbidden", status=403)


def _peer(request: OneshotRequest) -> str:
    """Return the address at the other end of the connection; "unix" for a UNIX socket."""
    peer: str = getattr(request.getClientAddress(), "host", UNIX)
    return peer
