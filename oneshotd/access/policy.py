"""The access policy, which HTTP routes, the fast path and UDP ask alike."""

from __future__ import annotations

from attrs import field, frozen

from oneshotd.core.networks import Networks


@frozen(kw_only=True)
class AccessPolicy:
    """Which client may do what, by its address.

    Addresses are given as a socket has them, or as a trusted proxy names them; "unix" stands for the client
    of a UNIX socket. A policy knows no passwords: a request with an Authorization header is for the routes.

    :param emit: networks that may send events; empty: all clients.
    :param scrape: networks that may scrape and look; empty: all clients.
    """

    emit: Networks = field(factory=Networks)
    scrape: Networks = field(factory=Networks)

    def may_emit(self, address: str) -> bool:
        """Return whether a client at this address may send events."""
        return self.emit.admits(address)

    def may_scrape(self, address: str) -> bool:
        """Return whether a client at this address may scrape and look."""
        return self.scrape.admits(address)
