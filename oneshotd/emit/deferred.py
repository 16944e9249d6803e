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

from oneshotd.emit.answers import EmitRefused, EmitUnavailable, RetrySchedule, Round, check, check_ok
from oneshotd.emit.api import File, Url, configured, named, pairs
from oneshotd.emit.bounds import BoundedEndpoints
from oneshotd.emit.credentials import Reloaded, authorization, hidden, sent_with
from oneshotd.emit.encoding import Label, Value, has_id, line
from oneshotd.emit.http import MAX_ANSWER_BYTES
from oneshotd.emit.settings import Credentials, Settings, SettingsError, Target
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
    url: Url | None = None,
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
    headers = {"User-Agent": AGENT, "Content-Type": FORM}
    if (settings.retry or settings.further) and not has_id(text):
        headers[KEY] = new_key()
    daemons = [_Daemon(reactor, target, settings.credentials) for target in settings.targets]
    schedule = RetrySchedule(settings.retry, reactor.seconds())
    while True:
        turn = Round(settings.targets, settings.timeout)
        try:
            for daemon in daemons:
                seconds = turn.seconds(reactor.seconds())
                try:
                    check_ok(await _in_time(daemon.attempt(headers, text, seconds), seconds, reactor))
                    return
                except EmitUnavailable as error:
                    turn.failed(daemon.target, error)
                except EmitRefused as error:
                    raise turn.named(daemon.target, error) from None
        except EmitUnavailable as error:
            pause = schedule.pause(reactor.seconds(), error)
        await deferLater(reactor, pause)


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


class _Daemon:
    """One address and its credentials."""

    def __init__(self, reactor: IReactorTime, target: Target, credentials: Credentials) -> None:
        self.target = target
        self._reactor = reactor
        self._credentials = credentials
        self._authorization = authorization(target, credentials)
        self._secured = Reloaded(self._load_tls)

    def _load_tls(self) -> IOpenSSLClientConnectionCreator | None:
        if self.target.scheme != "https":
            return None
        try:
            from oneshotd.emit.deferred_tls import connection_creator
        except ImportError as error:
            raise SettingsError(
                f"url: {self.target} needs pyOpenSSL and service_identity ({error}): pip install"
                " 'oneshotd[tls]', or Debian's python3-openssl and python3-service-identity"
            ) from None
        return connection_creator(self.target.name, self._credentials)

    async def attempt(self, headers: Mapping[str, str], text: bytes, timeout: float) -> bytes:
        """Send a request; return the body of a successful answer.

        :param timeout: seconds for the connection; the caller bounds the whole.
        """
        headers = {**headers, "Host": self.target.address}
        if (header := self._authorization()) is not None:
            headers["Authorization"] = header
        tls = self._secured()
        endpoints = BoundedEndpoints(self._reactor, timeout, MAX_ANSWER_BYTES, tls)
        try:
            response = await Agent.usingEndpointFactory(self._reactor, endpoints).request(
                b"POST",
                f"{self.target.local_url}/event".encode("ascii"),
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

                if (refused := tls_failure(error.reasons, self._credentials)) is not None:
                    raise refused from None
            failure = f"no answer: {error.reasons[0].getErrorMessage()}"
        except _NO_ANSWER as error:
            failure = str(error)
        if endpoints.exceeded:
            failure = f"the answer is longer than {MAX_ANSWER_BYTES} bytes"
        if failure is not None:
            raise EmitUnavailable(failure)
        (retry_after,) = response.headers.getRawHeaders("retry-after", [None])[:1]
        said = hidden(body, header)
        return check(response.code, retry_after, said, sent_with(self.target, self._credentials))


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
