"""Send events to the daemon: over HTTP, with answers and retries; over UDP, without either."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from oneshotd import __version__
from oneshotd.emit.answers import (
    EmitRefused,
    EmitUnavailable,
    RetrySchedule,
    Round,
    check,
    check_ok,
    check_tally,
)
from oneshotd.emit.credentials import authorization, hidden, sent_with
from oneshotd.emit.encoding import fault, has_id
from oneshotd.emit.http import Connection
from oneshotd.emit.settings import Credentials, Settings, Target

T = TypeVar("T")

AGENT = f"oneshot-emit/{__version__}"
FORM = "application/x-www-form-urlencoded"
LINES = "text/plain; charset=utf-8"
KEY = "Idempotency-Key"

#: Bytes of a body that the daemon takes.
MAX_BODY_BYTES = 1024 * 1024
#: Bytes of a datagram of several lines; networks pass this size without fragmentation.
DATAGRAM_BYTES = 1400
#: Bytes of any datagram: 65535 with the heads of UDP and IPv4 (RFC 768, RFC 791).
MAX_DATAGRAM_BYTES = 65507


def new_key() -> str:
    """Return a unique idempotency key."""
    import uuid  # here: only retries need one

    return str(uuid.uuid4())


class Sender(Protocol):
    """A connection to the daemon. Its methods raise `EmitError`, and `SettingsError` for unusable files."""

    def event(self, line: bytes) -> None:
        """Send one event."""

    def lines(self, lines: Sequence[bytes]) -> int:
        """Send many events, all or none; return how many were no duplicates."""

    def give_up(self) -> None:
        """Make no further attempts."""

    def close(self) -> None:
        """Close the connection."""


def sender(settings: Settings, sleep: Callable[[float], None] = time.sleep) -> Sender:
    """Return the sender for the settings' URL.

    :param sleep: waits between two attempts.
    :raises SettingsError: the file with the token cannot be used.
    """
    return UdpSender(settings) if settings.target.scheme == "udp" else HttpSender(settings, sleep)


class HttpSender:
    """Sends HTTP requests, to the next address if one does not answer; never to two at once.

    With retries or several addresses, each request has an idempotency key, so that it counts once. The
    address that answered last is the first of the next request.
    """

    def __init__(self, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._daemons = [_Daemon(target, settings.credentials) for target in settings.targets]
        self._timeout = settings.timeout
        self._retry = settings.retry
        self._sleep = sleep

    @property
    def _keyed(self) -> bool:
        return bool(self._retry) or len(self._daemons) > 1

    def event(self, line: bytes) -> None:
        """Send one event.

        :raises EmitError: the event may not be stored.
        """
        keyed = self._keyed and not has_id(line)
        self._post("/event", line, FORM, {KEY: new_key()} if keyed else {}, check_ok)

    def lines(self, lines: Sequence[bytes]) -> int:
        """Send many events, all or none.

        :return: how many were no duplicates.
        :raises EmitError: the events may not be stored.
        """
        headers: dict[str, str] = {}
        if self._keyed:
            identified = [has_id(line) for line in lines]
            if any(identified):  # then the request can have no key
                lines = [
                    line if has else line + b"&__id__=" + new_key().encode()
                    for line, has in zip(lines, identified, strict=True)
                ]
            else:
                headers[KEY] = new_key()
        return self._post("/events", b"\n".join(lines), LINES, headers, check_tally)[0]

    def give_up(self) -> None:
        """Make no further attempts, except at another address."""
        self._retry = 0.0

    def close(self) -> None:
        """Close the connections."""
        for daemon in self._daemons:
            daemon.close()

    def _post(
        self, path: str, body: bytes, media: str, headers: Mapping[str, str], read: Callable[[bytes], T]
    ) -> T:
        schedule = RetrySchedule(self._retry, time.monotonic())
        if len(body) > MAX_BODY_BYTES:  # the daemon would close the connection before the end of the body
            raise EmitRefused(f"longer than {MAX_BODY_BYTES} bytes", status=413)
        headers = {"User-Agent": AGENT, "Content-Type": media, **headers}
        while True:
            turn = Round([daemon.target for daemon in self._daemons], self._timeout)
            try:
                for place, daemon in enumerate(self._daemons):
                    seconds = turn.seconds(time.monotonic())
                    try:
                        found = read(daemon.post(path, body, headers, seconds))
                    except EmitUnavailable as error:
                        turn.failed(daemon.target, error)
                    except EmitRefused as error:
                        raise turn.named(daemon.target, error) from None
                    else:
                        self._daemons = self._daemons[place:] + self._daemons[:place]
                        return found
            except EmitUnavailable as error:
                self._sleep(schedule.pause(time.monotonic(), error))


class _Daemon:
    """One address, its connection and its credentials."""

    def __init__(self, target: Target, credentials: Credentials) -> None:
        self.target = target
        self._connection = Connection(target, credentials)
        self._authorization = authorization(target, credentials)
        self._sent_with = sent_with(target, credentials)

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> bytes:
        """Send a request; return the body of a successful answer."""
        if (header := self._authorization()) is not None:
            headers = {**headers, "Authorization": header}
        answer = self._connection.post(path, body, headers, timeout)
        said = hidden(answer.body, header)
        return check(answer.status, answer.headers.get("retry-after"), said, self._sent_with)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class UdpSender:
    """Sends datagrams, which have no answer. A closed port is noticed on the same host only."""

    def __init__(self, settings: Settings) -> None:
        self._target = settings.target
        self._socket: socket.socket | None = None

    def event(self, line: bytes) -> None:
        """Send one event.

        :raises EmitRefused: the line is too long for a datagram, or the daemon would refuse it.
        :raises EmitUnavailable: the datagram was not delivered.
        """
        _check_line(line)
        self._datagram(line)

    def _datagram(self, line: bytes) -> None:
        try:
            if self._socket is None:
                self._socket = self._opened(line)
            else:
                self._send(self._socket, line)
        except OSError as error:
            self.close()
            raise EmitUnavailable(error.strerror or str(error)) from None

    def lines(self, lines: Sequence[bytes]) -> int:
        """Send many events, as many lines as fit into each datagram.

        :raises EmitRefused: a line is too long, or the daemon would refuse it; then none is sent.
        """
        for line in lines:
            _check_line(line)
        gathered: list[bytes] = []
        for line in lines:
            if gathered and sum(map(len, gathered)) + len(gathered) + len(line) > DATAGRAM_BYTES:
                self._datagram(b"\n".join(gathered))
                gathered.clear()
            gathered.append(line)
        if gathered:
            self._datagram(b"\n".join(gathered))
        return len(lines)

    def give_up(self) -> None:
        """Do nothing: datagrams are sent once."""

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _opened(self, line: bytes) -> socket.socket:
        """Send the line to the first of the host's addresses that accepts it; return the socket."""
        failure: OSError = OSError("the host has no address")
        found = socket.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_DGRAM)
        for family, kind, protocol, _, address in found:
            opened = socket.socket(family, kind, protocol)
            try:
                opened.connect(address)
                self._send(opened, line)
            except OSError as error:
                opened.close()
                failure = error
            except BaseException:
                opened.close()
                raise
            else:
                return opened
        raise failure

    def _send(self, opened: socket.socket, line: bytes) -> None:
        opened.send(line)
        # The kernel reports a closed port at once, if the port is on this host.
        if refused := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(refused, "nobody listens there")


def _check_line(line: bytes) -> None:
    if len(line) > MAX_DATAGRAM_BYTES:
        raise EmitRefused(f"{len(line)} bytes, and a datagram has {MAX_DATAGRAM_BYTES}", status=413)
    if (why := fault(line)) is not None:
        raise EmitRefused(f"not sent, the daemon would refuse it: {why}", status=400)
