"""Report an event from a Twisted program, without blocking its reactor.

from oneshotd.emit.deferred import emit

emit(reactor, type="deploy", version="1.2").addErrback(log_it)
await emit(reactor, {"type": "backup"}, value=37.5, retry=60)
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from io import BytesIO
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IPushProducer,
    IReactorThreads,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from oneshotd.emit.answers import EmitUnavailable, RetrySchedule, check, check_ok
from oneshotd.emit.api import File, configured, named, pairs
from oneshotd.emit.bounds import BoundedEndpoints
from oneshotd.emit.credentials import Reloaded, authorization, hidden, sent_with
from oneshotd.emit.encoding import Label, Value, has_id, line
from oneshotd.emit.http import MAX_ANSWER_BYTES
from oneshotd.emit.settings import Settings, SettingsError
from oneshotd.emit.transport import AGENT, FORM, KEY, UdpSender, new_key

T = TypeVar("T")

_NO_ANSWER = (ConnectError, ConnectionClosed, DNSLookupError)
_INCOMPLETE = (RequestTransmissionFailed, ResponseFailed)


def emit(
    reactor: IReactorTime,
    labels: Mapping[str, Label] | None = None,
    /,
    *,
    value: Value = None,
    id: str | None = None,
    url: str | None = None,
    timeout: float | None = None,
    retry: float | None = None,
    token_file: File | None = None,
    ca_file: File | None = None,
    cert_file: File | None = None,
    key_file: File | None = None,
    **more: Label,
) -> Deferred[None]:
    """Send one event; the Deferred fires when it is on the daemon's disk (over UDP: when it was sent).

    Arguments and errors are those of `oneshotd.emit.emit`; every error is passed to
    the Deferred. Cancelling it ends the attempts.

    :param reactor: with TCP; for ``https://`` with pyOpenSSL, for ``udp://`` with threads.
    """

    async def sent() -> None:
        text = line(pairs(labels, more), value=value, id=id)
        files = named(token_file, ca_file, cert_file, key_file)
        settings = configured(url=url, timeout=timeout, retry=retry, files=files)
        if settings.target.scheme == "udp":
            # The resolver of host names blocks.
            threads = cast(IReactorThreads, reactor)
            await deferToThreadPool(threads, threads.getThreadPool(), _send_datagram, settings, text)
        else:
            await _post(reactor, settings, text)

    return Deferred.fromCoroutine(sent())


def _send_datagram(settings: Settings, text: bytes) -> None:
    client = UdpSender(settings)
    try:
        client.event(text)
    finally:
        client.close()


async def _post(reactor: IReactorTime, settings: Settings, text: bytes) -> None:
    headers = {"User-Agent": AGENT, "Content-Type": FORM, "Host": settings.target.address}
    if settings.retry and not has_id(text):
        headers[KEY] = new_key()
    authorized = authorization(settings)
    secured = Reloaded(lambda: _secured(settings))
    schedule = RetrySchedule(settings.retry, reactor.seconds())
    while True:
        if (header := authorized()) is not None:
            headers["Authorization"] = header
        try:
            attempt = _attempt(reactor, settings, secured(), headers, text)
            check_ok(await _in_time(attempt, settings.timeout, reactor))
            return
        except EmitUnavailable as error:
            pause = schedule.pause(reactor.seconds(), error)
        await deferLater(reactor, pause)


def _secured(settings: Settings) -> IOpenSSLClientConnectionCreator | None:
    if settings.target.scheme != "https":
        return None
    try:
        from oneshotd.emit.deferred_tls import connection_creator
    except ImportError as error:
        raise SettingsError(
            f"url: {settings.target} needs pyOpenSSL and service_identity ({error}): pip install"
            " 'oneshotd[tls]', or Debian's python3-openssl and python3-service-identity"
        ) from None
    return connection_creator(settings.target.name, settings.credentials)


async def _in_time(attempt: Coroutine[Deferred[Any], Any, T], timeout: float, reactor: IReactorTime) -> T:
    try:
        return await _cancellable(Deferred.fromCoroutine(attempt)).addTimeout(timeout, reactor)
    except TookTooLong:
        raise EmitUnavailable(f"no answer within {timeout:g} s") from None


def _cancellable(attempt: Deferred[T]) -> Deferred[T]:
    """Return a Deferred of the same result that fails with `CancelledError` when cancelled.

    A cancelled Agent fails with one of four errors, among them that the host is unknown.
    """

    def cancel(result: Deferred[T]) -> None:
        result.errback(CancelledError())
        attempt.cancel()

    result: Deferred[T] = Deferred(cancel)
    attempt.addBoth(lambda outcome: None if result.called else result.callback(outcome))
    return result


async def _attempt(
    reactor: IReactorTime,
    settings: Settings,
    tls: IOpenSSLClientConnectionCreator | None,
    headers: Mapping[str, str],
    text: bytes,
) -> bytes:
    endpoints = BoundedEndpoints(reactor, settings.timeout, MAX_ANSWER_BYTES, tls)
    try:
        response = await Agent.usingEndpointFactory(reactor, endpoints).request(
            b"POST",
            f"{settings.target.local_url}/event".encode("ascii"),
            Headers({name: [value] for name, value in headers.items()}),
            FileBodyProducer(BytesIO(text)),
        )
        reading = _Reading()
        response.deliverBody(reading)
        body = await reading.whole
        failure = None
    except _INCOMPLETE as error:
        if tls is not None:
            from oneshotd.emit.deferred_tls import tls_failure  # as above

            if (refused := tls_failure(error.reasons, settings.credentials)) is not None:
                raise refused from None
        failure = f"no answer: {error.reasons[0].getErrorMessage()}"
    except _NO_ANSWER as error:
        failure = str(error)
    if endpoints.exceeded:
        failure = f"the answer is longer than {MAX_ANSWER_BYTES} bytes"
    if failure is not None:
        raise EmitUnavailable(failure)
    (retry_after,) = response.headers.getRawHeaders("retry-after", [None])[:1]
    said = hidden(body, headers.get("Authorization"))
    return check(response.code, retry_after, said, sent_with(settings.target, settings.credentials))


class _Reading(Protocol):
    """Reads the body of an answer; cancelling closes the connection.

    `twisted.web.client.readBody` warns of transports that Twisted itself gives it (twisted#8227).
    """

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(self._cancel)
        self._parts: list[bytes] = []
        self._cancelled = False

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._cancelled:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)

    def _cancel(self, whole: Deferred[bytes]) -> None:
        self._cancelled = True
        cast(IPushProducer, self.transport).stopProducing()
