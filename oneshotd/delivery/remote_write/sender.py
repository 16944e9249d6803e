"""Send requests to one receiver with Twisted's `Agent`.

One connection is kept between requests. Redirects are not followed, and no proxy is taken from the
environment: a request goes to the address of the file of receivers, or nowhere.

A receiver may close a resting connection while a request is written to it. The request has no answer then;
the next one is sent over a new connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.client import Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from oneshotd import __version__
from oneshotd.delivery.remote_write.answer_body import AnswerBody
from oneshotd.delivery.remote_write.bounded_endpoint import BoundedEndpoints
from oneshotd.delivery.remote_write.destination import Destination
from oneshotd.delivery.remote_write.exchange import Answer, NotSent

#: Seconds for a connection.
CONNECT_TIMEOUT = 10.0

#: Seconds for which a connection rests; Prometheus closes one after five minutes, proxies often after one.
REST_SECONDS = 50

_HEADERS = {
    "User-Agent": f"oneshotd/{__version__}",
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


class Sender:
    """Sends requests to one receiver; a `Post`.

    :param now: returns Unix seconds, for a Retry-After with a date.
    :raises ConfigError: TLS cannot be had.
    """

    def __init__(self, reactor: Any, destination: Destination, now: Callable[[], float] = time.time) -> None:
        self._url = destination.url.encode("ascii")
        self._now = now
        self._answered = 0  # the number of the connection of the last answer; 0: there was none
        tls = None
        parts = urlsplit(destination.url)
        if parts.scheme == "https":
            from oneshotd.delivery.remote_write.tls import connection_creator  # needs pyOpenSSL

            tls = connection_creator(str(parts.hostname), destination)
        self._is_tls = tls is not None
        self._endpoints = BoundedEndpoints(reactor, CONNECT_TIMEOUT, tls)
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = 1
        self._pool.cachedConnectionTimeout = REST_SECONDS
        self._pool.retryAutomatically = False
        self._agent = Agent.usingEndpointFactory(reactor, self._endpoints, self._pool)
        headers = {**_HEADERS, **destination.headers}
        if destination.authorization is not None:
            headers["Authorization"] = destination.authorization
        self._headers = Headers({name: [value] for name, value in headers.items()})

    @property
    def host(self) -> str:
        """Return where the newest connection led, see `oneshotd.core.origin`; empty: there was none."""
        return self._endpoints.host

    def __call__(self, body: bytes) -> Deferred[Answer]:
        """Send one request; see `Post`. The one before has to have ended."""
        sending: Deferred[Answer] = Deferred.fromCoroutine(self._send(body))

        def cancel(result: Deferred[Answer]) -> None:
            result.errback(CancelledError())
            self._endpoints.abort()
            sending.cancel()

        result: Deferred[Answer] = Deferred(cancel)
        sending.addBoth(lambda outcome: None if result.called else result.callback(outcome))
        return result

    def close(self) -> Deferred[Any]:
        """Close the connection; fires when it is closed."""
        closing: Deferred[Any] = self._pool.closeCachedConnections()
        return closing

    async def _send(self, body: bytes) -> Answer:
        try:
            return await self._exchange(body)
        except (ResponseFailed, RequestTransmissionFailed) as error:
            if self._endpoints.exceeded:
                raise ConnectionError("the answer is too long") from None
            raise self._explained(error) from None

    async def _exchange(self, body: bytes) -> Answer:
        self._endpoints.begin()
        response: IResponse = await self._agent.request(b"POST", self._url, self._headers, _Body(body))
        reading = AnswerBody()
        response.deliverBody(reading)
        text = await reading.whole
        (retry_after,) = (response.headers.getRawHeaders(b"retry-after") or [None])[:1]
        before, self._answered = self._answered, self._endpoints.connections
        return Answer(
            status=response.code,
            retry_after=_seconds(retry_after, self._now()),
            text=text,
            reconnected=before not in (0, self._answered),
        )

    def _explained(self, error: ResponseFailed | RequestTransmissionFailed) -> Exception:
        if self._is_tls:
            from oneshotd.delivery.remote_write.tls import untrusted, wants_certificate

            if (why := untrusted(error.reasons)) is not None:
                return NotSent(why)
            if wants_certificate(error.reasons):  # with TLS 1.3 it says so after the request has left
                return ConnectionError("the receiver asks for a certificate, or does not take ours (cert)")
        return ConnectionError(f"no answer: {error.reasons[0].getErrorMessage()}")


@implementer(IBodyProducer)
class _Body:
    """The body of a request, written in one piece: it is in memory as a whole."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def stopProducing(self) -> None:
        """Do nothing: all is written."""

    def pauseProducing(self) -> None:
        """Do nothing: all is written."""

    def resumeProducing(self) -> None:
        """Do nothing: all is written."""


def _seconds(retry_after: bytes | None, now: float) -> float | None:
    """Return the seconds of Retry-After (RFC 9110 section 10.2.3); None: none, or malformed."""
    if retry_after is None:
        return None
    text = retry_after.decode("latin-1").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
