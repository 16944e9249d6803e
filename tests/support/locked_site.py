"""A site in memory with users, tokens and rules, with the fast path or without it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from support.fake_queries import FakeQueries
from support.fake_telemetry import FakeTelemetry
from support.fastpath_requests import TakingIngest
from support.web_fakes import FakeDelivery, FakeStore
from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import directlyProvides

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.passwords import Authenticator
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Rule
from oneshotd.core.networks import Networks
from oneshotd.core.parsing.formats import Rules
from oneshotd.web.app import HTTPApi
from oneshotd.web.fastpath.channel import FastPathChannel
from oneshotd.web.fastpath.requests import RequestMatcher
from oneshotd.web.transport.request import OneshotRequest
from oneshotd.web.transport.site import Site

NEAR, FAR = "192.0.2.7", "198.51.100.7"


class TLSTransport(StringTransport):
    """A transport that says that it encrypts.

    :ivar sans: names in the client's certificate.
    """

    def __init__(self, sans: frozenset[str], **addresses: Any) -> None:
        super().__init__(**addresses)
        directlyProvides(self, ISSLTransport)
        self.sans = sans

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: there is no socket."""

    @property
    def transport(self) -> TLSTransport:
        """Return what is below the encryption."""
        return self


def _peer_sans(transport: Any) -> frozenset[str]:
    return cast(TLSTransport, transport).sans


class LockedSite:
    """The routes behind a guard.

    :param quick: with the fast path.
    :param users: names to bcrypt hashes.
    """

    def __init__(
        self, quick: bool, *, rules: Sequence[Rule] | None = None, users: Mapping[str, bytes] | None = None
    ) -> None:
        self.clock = Clock()
        self.ingest = TakingIngest(clock=self.clock)
        self.telemetry = FakeTelemetry()
        self.policy = AccessPolicy()
        self._users = dict(users or {})
        self.replace(rules)
        self.authenticator = Authenticator(
            self._users, maybeDeferred, self.clock, has_token=self.policy.has_token
        )
        self.bounds = EventBounds(access=self.policy, limits=Rules(), seconds=self.clock.seconds)
        api = HTTPApi(
            ingest=cast(Any, self.ingest),
            delivery=cast(Any, FakeDelivery()),
            store=cast(Any, FakeStore()),
            queries=cast(Any, FakeQueries()),
            telemetry=cast(Any, self.telemetry),
            send=cast(Any, None),
            ready=lambda: None,
            clock=self.clock,
            rules=Rules(),
            trusted_proxies=Networks(),
            access=self.policy,
            bounds=self.bounds,
            now_ms=lambda: 1_700_000_000_000,
            hold=3600.0,
            udp_port=None,
            authenticator=self.authenticator,
            peer_sans=_peer_sans,
        )

        def request(*args: Any) -> OneshotRequest:
            return OneshotRequest(*args, refused=self.telemetry.refused_request)

        self.site = Site(api.resource(), requestFactory=cast(Any, request), reactor=self.clock)
        if quick:
            self.site.protocol = FastPathChannel
            self.site.matcher = RequestMatcher(
                cast(Any, self.ingest),
                Rules(),
                self.policy,
                known=self.authenticator.known,
                bounds=self.bounds,
                peer_sans=_peer_sans,
            )

    def replace(self, rules: Sequence[Rule] | None) -> None:
        """Put other rules in force."""
        self.policy.update(rules=rules, has_users=bool(self._users))

    @property
    def stored(self) -> list[str]:
        """Return the series of all stored events."""
        return [event.series for group, _ in self.ingest.groups for event in group.events]


class LockedLine:
    """A connection to such a site.

    :param sans: names in the client's certificate; None: it has no TLS.
    :ivar short: events that the fast path has taken.
    """

    def __init__(self, server: LockedSite, address: str = NEAR, sans: Sequence[str] | None = None) -> None:
        self.server = server
        self.short = 0
        peer = IPv4Address("TCP", address, 40000)
        if sans is None:
            self.transport: Any = StringTransport(peerAddress=peer)
        else:
            self.transport = TLSTransport(frozenset(sans), peerAddress=peer)
        self.channel = cast(Any, server.site.buildProtocol(peer))
        self.channel.makeConnection(self.transport)

    def send(self, *pieces: bytes) -> bytes:
        """Send these, each with a commit behind it; return the answers, without dates, headers sorted."""
        for piece in pieces:
            self.channel.dataReceived(piece)
            self.commit()
        output = re.sub(rb"Date: [^\r]*", b"Date: -", self.transport.value())
        self.transport.clear()
        head = re.compile(rb"(HTTP/1\.1 [^\r]*\r\n)((?:[^\r\n]+\r\n)*)(?=\r\n)")
        return head.sub(lambda found: found[1] + b"".join(sorted(found[2].splitlines(True))), output)

    def commit(self, stored: bool = True) -> None:
        """Let the store answer what it has been given, and the routes go on."""
        self.server.clock.advance(0)
        # Behind a batch there may be another one.
        while taken := self.server.ingest.commit(stored):
            self.short += taken if stored else 0
            self.server.clock.advance(0)
