"""Limit the bytes of an answer that Twisted's HTTP client receives.

`twisted.web.client.Agent` bounds neither the number of headers nor the body.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer


@implementer(IAgentEndpointFactory)
class BoundedEndpoints:
    """Endpoints of an `Agent` for one request, with a limit of received bytes.

    :param timeout: seconds for the connection.
    :param limit: bytes that may be received.
    :param tls: secures connections; None: they are plain.
    :ivar exceeded: whether more arrived; then the connection was aborted.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        timeout: float,
        limit: int,
        tls: IOpenSSLClientConnectionCreator | None = None,
    ) -> None:
        self.exceeded = False
        self._reactor: Any = reactor
        self._timeout = timeout
        self._left = limit
        self._tls = tls

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the endpoint; called by the `Agent`."""
        endpoint: Any = HostnameEndpoint(self._reactor, uri.host, uri.port, self._timeout)
        if self._tls is not None:
            endpoint = wrapClientTLS(self._tls, endpoint)
        return _Endpoint(endpoint, self)

    def received(self, count: int) -> bool:
        """Count received bytes; return whether the answer is within the limit."""
        self._left -= count
        self.exceeded = self._left < 0
        return not self.exceeded


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, endpoint: IStreamClientEndpoint, bounds: BoundedEndpoints) -> None:
        self._endpoint = endpoint
        self._bounds = bounds

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; the result is the protocol of `factory`."""
        wrapping = _Factory(factory)
        wrapping.bounds = self._bounds
        connecting: Deferred[Any] = self._endpoint.connect(wrapping)
        return connecting.addCallback(lambda wrapper: wrapper.wrappedProtocol)


class _Protocol(ProtocolWrapper):
    """Counts the received bytes."""

    def dataReceived(self, data: bytes) -> None:
        bounds: BoundedEndpoints = self.factory.bounds
        if bounds.exceeded:
            return
        if bounds.received(len(data)):
            super().dataReceived(data)
        else:
            self.abortConnection()


class _Factory(WrappingFactory):
    protocol = _Protocol
    noisy = False
    bounds: BoundedEndpoints
