"""The short way of a connection for one event: answered without a transport ever being made.

Tools that report an event open a connection for it and ask for its end with their request. The
kernel shows such a connection when its first bytes are here (TCP_DEFER_ACCEPT, tcp(7)), so they are
looked at in place (MSG_PEEK): if they are one ordinary request, and all that the client has to say,
its event goes to the disk and its answer out on the bare socket. Those that are accepted in one turn
and all look like the one before are recognized together. Of all others nothing has been read; they get
a transport and a channel as everywhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.logs.throttle import ThrottledLog
from oneshotd.web.fastpath.requests import MAX_REQUEST, MORE, RequestMatcher
from oneshotd.web.transport.site import Site

#: Connections accepted in one turn of the reactor, and at the end as many times that.
TURN_ACCEPTS = LAST_TURNS = 64

#: Connections without a transport at a time: whether their clients are still there is not seen
#: before the answer, so that they do not count as connections, and cannot crowd others out. They are
#: part of `listen.SPARE_DESCRIPTORS`.
MAX_BARE = 64

#: Seconds for which nobody is accepted when the kernel cannot (no descriptors, no memory).
RESPITE = 0.1

#: What a client may have sent behind its request to close: read before closing, which otherwise
#: would reset the connection and take the answer with it.
MAX_BEHIND = 65536

_AT_ONCE = socket.MSG_DONTWAIT
_LOOK = socket.MSG_DONTWAIT | socket.MSG_PEEK
_LAST = socket.MSG_DONTWAIT | MORE  # the end follows, in the same segment

#: Seconds for the first bytes of a connection to come, after which it is shown as it is; the kernel
#: rounds up to its own intervals.
DEFER_SECONDS = 1


def _acknowledge_at_once(sock: socket.socket, at_once: bool) -> None:
    """What has come, and what comes; of a listening socket, its connections inherit it (Linux)."""
    if hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, at_once)


def _finish(sock: socket.socket, answer: bytes) -> None:
    """Answer, and close."""
    try:
        sock.recv(MAX_BEHIND, _AT_ONCE)
        sock.send(answer, _LAST)  # into an empty buffer: it takes all
    except OSError:
        pass  # the client has gone
    sock.close()


class PendingClients:
    """Connections whose one request each has its event on the way to the disk."""

    __slots__ = ("_port", "_sockets")

    def __init__(self, port: Listener, sockets: Sequence[socket.socket]) -> None:
        self._port = port
        self._sockets = sockets

    def on_stored(self, now: float) -> None:
        """Answer all that wait."""
        answer = self._port.answer()
        for sock in self._sockets:
            _finish(sock, answer)
        self._port.done(len(self._sockets))

    def on_failed(self) -> None:
        """The store refuses: a channel is to say so, by asking it again."""
        for sock in self._sockets:
            self._port.hand_over(sock)
        self._port.done(len(self._sockets))


@implementer(IListeningPort, IReadDescriptor)
class Listener:
    """A listening TCP socket.

    :param sock: bound, listening and non-blocking; closed by `stopListening`.
    :param site: its `shortcut` is used as soon as there is one.
    """

    _log = Logger()

    def __init__(self, reactor: Any, sock: socket.socket, site: Site) -> None:
        self._reactor = reactor
        self._socket = sock
        self._site = site
        self._bare = 0
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._troubles = ThrottledLog(
            reactor,
            self._log,
            "HTTP: {count} times nobody could be accepted: {text}",
            level=LogLevel.error,
        )
        self.startListening()

    def startListening(self) -> None:
        """Begin to accept."""
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
        # The answer comes soon, and is the acknowledgement as well: one segment less of eight.
        _acknowledge_at_once(self._socket, False)
        self._site.doStart()
        self._reactor.addReader(self)

    def stopListening(self) -> None:
        """Accept those who have sent something already, and nobody else."""
        if self._socket.fileno() >= 0:
            for _ in range(LAST_TURNS):
                if not self._accept():
                    break
            self._reactor.removeReader(self)
            self._socket.close()
            self._drop_spare()
            self._troubles.flush()
            self._site.doStop()

    def getHost(self) -> IPv4Address | IPv6Address:
        """Where it listens."""
        kind = IPv6Address if self._socket.family == socket.AF_INET6 else IPv4Address
        return kind("TCP", *self._socket.getsockname())

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor."""
        return "QuickPort"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, or the descriptor is no good."""

    def doRead(self) -> None:
        """Accept who is there."""
        self._accept()

    def _accept(self) -> bool:
        """Accept some; whether there may be more."""
        requests: list[tuple[socket.socket, bytes]] = []
        more = False
        for _ in range(TURN_ACCEPTS):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                break
            except (ConnectionError, PermissionError):
                continue  # it has gone again, or a filter is against it
            except OSError as error:
                # It would say so again and again.
                self._troubles.note("accept", text=error.strerror or str(error))
                self._reactor.removeReader(self)
                self._reactor.callLater(RESPITE, self._go_on)
                break
            data = self._look(sock, address[0]) if self._bare + len(requests) < MAX_BARE else b""
            if data:
                requests.append((sock, data))
            else:
                self.hand_over(sock)
        else:
            more = True
        if requests:
            self._take(requests)
        return more

    def _go_on(self) -> None:
        if self._socket.fileno() >= 0:
            self._reactor.addReader(self)

    def _look(self, sock: socket.socket, host: str) -> bytes:
        """What the client has sent; nothing if the short way is not for it."""
        shortcut: RequestMatcher | None = self._site.shortcut
        if shortcut is None or not shortcut.admits_host(host):
            return b""
        try:
            return sock.recv(MAX_REQUEST, _LOOK)
        except OSError:
            return b""

    def _take(self, requests: Sequence[tuple[socket.socket, bytes]]) -> None:
        """Store the events of connections that bring one each, and that is all; hand over the others."""
        sockets, data = zip(*requests, strict=True)
        taken: set[socket.socket] = set()
        try:
            taken = self._taken(sockets, data)
        except Exception:
            # Who raises here is not asked again by the reactor, and nobody would be accepted.
            self._log.failure("looking at a request")
        for sock in sockets:
            if sock not in taken:
                self.hand_over(sock)

    def _taken(self, sockets: Sequence[socket.socket], requests: Sequence[bytes]) -> set[socket.socket]:
        """Whose events are on their way to the disk: of all that can be, if there is room for them."""
        shortcut: RequestMatcher = self._site.shortcut
        found = zip(sockets, shortcut.recognize_each(requests), strict=True)
        ordinary = [(sock, series) for sock, series in found if series is not None]
        while ordinary:
            takers, series = zip(*ordinary, strict=True)
            if shortcut.ingest.submit_series(series, PendingClients(self, takers)):
                self._bare += len(takers)
                self._site.enter()
                return set(takers)
            ordinary = ordinary[: len(ordinary) // 2]
        return set()

    def done(self, connections: int) -> None:
        """So many of those without a transport have been seen to."""
        self._bare -= connections
        self._site.leave()

    def answer(self) -> bytes:
        """To the one event of a connection."""
        answer: bytes = self._site.shortcut.answers(1, True)
        return answer

    def hand_over(self, sock: socket.socket) -> None:
        """Give a connection to Twisted, with all that its client has sent. Nothing is raised."""
        self._drop_spare()  # the transport has a duplicate, and this may have been the last descriptor
        try:
            sock.setblocking(False)
            _acknowledge_at_once(sock, True)  # who sends in pieces may wait for it (Nagle)
            self._reactor.adoptStreamConnection(sock.fileno(), sock.family, self._site)
        except OSError:
            pass  # it has gone again
        except Exception:
            self._log.failure("a new connection")
        sock.close()
        if self._socket.fileno() >= 0:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)

    def _drop_spare(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
