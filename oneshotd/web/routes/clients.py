"""The clients of HTTP: their addresses, and the checks of networks and of web pages."""

from __future__ import annotations

import re

from attrs import define

from oneshotd.access.policy import AccessPolicy
from oneshotd.core.identity import forwarded_client
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
        if not self.access.may_emit(address):
            raise Refused(f"{address} may not send events", reason="forbidden", status=403)
        if request.is_from_another_page():
            raise Refused("a page of another site may not send events", reason="forbidden", status=403)

    def check_reader(self, request: OneshotRequest) -> str:
        """Check that this request may read; return the client's address.

        :raises Refused: the client may not read.
        """
        address = self.address(request)
        if not self.access.may_scrape(address):
            raise Refused(f"{address} may not read here", reason="forbidden", status=403)
        return address

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


def _peer(request: OneshotRequest) -> str:
    """Return the address at the other end of the connection; "unix" for a UNIX socket."""
    peer: str = getattr(request.getClientAddress(), "host", UNIX)
    return peer
