"""Connections of a sender: each request's received bytes are counted and bounded, and it can be aborted.

`twisted.web.client.Agent` bounds neither the number of headers nor the body of an answer, and a cancelled
request may leave its connection open (twisted#8227).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from oneshotd.core.origin import host_of
from oneshotd.delivery.remote_write.exchange import NotSent

#: Bytes of an answer, headers included. Remote Write's are short; Mimir and Thanos name refused series.
MAX_ANSWER_BYTES = 1024 * 1024


@implementer(IAgentEndpointFactory)
class BoundedEndpoints:
    """Endpoints of an `Agent` that has one request at a time.

    :param timeout: seconds for the connection.
    :param tls: secures connections; None: they are plain.
    :ivar received: bytes received since `begin`.
    :ivar connections: number of connections so far; that of the newest one.
    :ivar host: where the newest one led, see `oneshotd.core.origin`; empty: there was none.
    """

    def __init__(
        self, reactor: Any, timeout: float, tls: IOpenSSLClientConnectionCreator | None = None
    ) -> None:
        self.received = 0
        self.connections = 0
        self.host = ""
        self._reactor = reactor
        self._timeout = timeout
        self._tls = tls
        self._connection: _Connection | None = None

    @property
    def exceeded(self) -> bool:
        """Whether the answer was too long; the connection was aborted then."""
        return self.received > MAX_ANSWER_BYTES

    def begin(self) -> None:
        """Begin a request."""
        self.received = 0

    def abort(self) -> None:
        """Close the connection at once; what is not yet sent is dropped."""
        if self._connection is not None:
            self._connection.abortConnection()

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the endpoint; called by the `Agent`, also where it has a connection already."""
        endpoint: Any = HostnameEndpoint(self._reactor, uri.host, uri.port, self._timeout)
        if self._tls is not None:
            endpoint = wrapClientTLS(self._tls, endpoint)
        return _Endpoint(endpoint, self)

    def made(self, connection: _Connection, transport: Any) -> None:
        """Note the newest connection."""
        self.connections += 1
        self.host = host_of(transport.getPeer().host, transport.getHost().host)
        self._connection = connection

    def lost(self, connection: _Connection) -> None:
        """Forget a connection; that of an aborted request may end after a new one was made."""
        if self._connection is connection:
            self._connection = None


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, endpoint: IStreamClientEndpoint, bounds: BoundedEndpoints) -> None:
        self._endpoint = endpoint
        self._bounds = bounds

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; the result is the protocol of `factory`.

        :raises NotSent: there is no connection.
        """
        factory.noisy = False  # type: ignore[attr-defined]  # or each connection is two lines in the log
        wrapping = _Factory(factory)
        wrapping.bounds = self._bounds
        connecting: Deferred[Any] = self._endpoint.connect(wrapping)
        return connecting.addCallbacks(lambda wrapper: wrapper.wrappedProtocol, _not_sent)


def _not_sent(failure: Failure) -> None:
    raise NotSent(f"no connection: {failure.getErrorMessage()}") from failure.value


class _Connection(ProtocolWrapper):
    """Counts the received bytes."""

    def makeConnection(self, transport: Any) -> None:
        self._bounds.made(self, transport)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        bounds = self._bounds
        if bounds.exceeded:
            return
        bounds.received += len(data)
        if bounds.exceeded:
            self.abortConnection()
        else:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._bounds.lost(self)
        super().connectionLost(reason)

    @property
    def _bounds(self) -> BoundedEndpoints:
        bounds: BoundedEndpoints = self.factory.bounds
        return bounds


class _Factory(WrappingFactory):
    protocol = _Connection
    noisy = False
    bounds: BoundedEndpoints
