"""The fast path of a connection that brings one event: answered without a transport.

Tools that report an event open a connection for it, and ask for a close with their request. The kernel
shows such a connection when its first bytes are there (TCP_DEFER_ACCEPT, tcp(7)), so they are peeked at
(MSG_PEEK). If they are one plain request, its event is submitted, and its answer is sent on the bare socket.
The requests of the connections that one turn accepts are compared together. From the other connections
nothing has been read; they get a transport and a channel.
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

from oneshotd.access.rules import Rule
from oneshotd.logs.throttle import ThrottledLog
from oneshotd.web.fastpath.blocks import NO_SANS, Caller
from oneshotd.web.fastpath.channel import MORE
from oneshotd.web.fastpath.requests import MAX_REQUEST, RequestMatcher
from oneshotd.web.transport.site import Site

#: Connections accepted in one turn of the reactor; and how many times that when the port is closed.
TURN_ACCEPTS = LAST_TURNS = 64

#: Most connections without a transport. A client that has gone is not noticed before the answer, so these do
#: not count as connections and cannot crowd others out. `daemon/sockets.py` spares descriptors for them.
MAX_BARE = 64

#: Seconds without accept() after it has failed (no descriptors, no memory).
RESPITE = 0.1

#: Bytes read before a socket is closed: unread data would make the kernel reset the connection, and the
#: client would lose the answer.
MAX_BEHIND = 65536

_AT_ONCE = socket.MSG_DONTWAIT
_LOOK = socket.MSG_DONTWAIT | socket.MSG_PEEK
_LAST = socket.MSG_DONTWAIT | MORE  # FIN follows in the same segment

#: Seconds for which the kernel waits for the first bytes of a connection before accept() returns it without;
#: the kernel rounds up to its own intervals.
DEFER_SECONDS = 1


#: A connection, its first bytes, and its other end.
_Request = tuple[socket.socket, bytes, Caller]


def _acknowledge_at_once(sock: socket.socket, at_once: bool) -> None:
    """Set TCP_QUICKACK; connections inherit it from a listening socket (Linux)."""
    if hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, at_once)


def _finish(sock: socket.socket, answer: bytes) -> None:
    """Send the answer and close the socket."""
    try:
        sock.recv(MAX_BEHIND, _AT_ONCE)
        sock.send(answer, _LAST)  # the buffer is empty, so it takes the whole answer
    except OSError:
        pass  # the client has gone
    sock.close()


class PendingClients:
    """Connections without a transport whose events have been submitted together.

    All sockets are answered, or handed over, once: in the reactor's thread, when the store has answered.
    """

    __slots__ = ("_matcher", "_port", "_rules", "_sockets")

    def __init__(
        self,
        port: Listener,
        matcher: RequestMatcher,
        sockets: Sequence[socket.socket],
        rules: Sequence[Rule | None],
    ) -> None:
        self._port = port
        self._matcher = matcher  # that has taken them; the site may have none by now
        self._sockets = sockets
        self._rules = rules

    def on_stored(self, now: float) -> None:
        """Answer each client, and close its connection."""
        answer = self._matcher.answers(1, True)
        for sock in self._sockets:
            _finish(sock, answer)
        self._port.done(len(self._sockets))

    def on_failed(self) -> None:
        """Give each connection a channel, which submits the event again and answers."""
        for rule in self._rules:
            self._matcher.give_back(rule)
        for sock in self._sockets:
            self._port.hand_over(sock)
        self._port.done(len(self._sockets))


@implementer(IListeningPort, IReadDescriptor)
class Listener:
    """A listening TCP socket.

    :param sock: bound, listening and non-blocking; closed by `stopListening`.
    :param site: its `matcher` is used as soon as it is set.
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
            "HTTP: accept() failed {count} times: {text}",
            level=LogLevel.error,
        )
        self.startListening()

    def startListening(self) -> None:
        """Start to accept connections."""
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
        # The answer acknowledges the request, too: seven segments instead of eight.
        _acknowledge_at_once(self._socket, False)
        self._site.doStart()
        self._reactor.addReader(self)

    def stopListening(self) -> None:
        """Accept the connections that are in the backlog, then close the socket."""
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
        """Return the address of the socket."""
        kind = IPv6Address if self._socket.family == socket.AF_INET6 else IPv4Address
        return kind("TCP", *self._socket.getsockname())

    def fileno(self) -> int:
        """Return the descriptor for the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Return the name for the reactor's log lines."""
        return "fast path"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: the reactor stops, or the descriptor is invalid."""

    def doRead(self) -> None:
        """Accept connections; the reactor calls again if there are more."""
        self._accept()

    def _accept(self) -> bool:
        """Accept `TURN_ACCEPTS` connections at most; return whether there may be more."""
        requests: list[_Request] = []
        more = False
        for _ in range(TURN_ACCEPTS):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                break
            except (ConnectionError, PermissionError):
                continue  # the client has gone again, or a packet filter refuses it
            except OSError as error:
                # The socket stays readable, so the reactor would call again at once.
                self._troubles.note("accept", text=error.strerror or str(error))
                self._reactor.removeReader(self)
                self._reactor.callLater(RESPITE, self._go_on)
                break
            data = self._look(sock, address[0]) if self._bare + len(requests) < MAX_BARE else b""
            if data:
                requests.append((sock, data, (address[0], NO_SANS)))
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
        """Peek at the data of a connection; return none if the fast path is not for it."""
        matcher: RequestMatcher | None = self._site.matcher
        if matcher is None or not matcher.admits(host):
            return b""
        try:
            return sock.recv(MAX_REQUEST, _LOOK)
        except OSError:
            return b""

    def _take(self, requests: Sequence[_Request]) -> None:
        """Submit the events of connections that bring one each; hand over the others."""
        taken: set[socket.socket] = set()
        try:
            taken = self._taken(requests)
        except Exception:
            # If doRead raises, Twisted drops the reader and the port stops accepting.
            self._log.failure("looking at a request")
        for sock, _, _ in requests:
            if sock not in taken:
                self.hand_over(sock)

    def _taken(self, requests: Sequence[_Request]) -> set[socket.socket]:
        """Submit the events of plain requests, of as many as there is room for; return their sockets."""
        matcher: RequestMatcher = self._site.matcher
        found = matcher.recognize_each([(data, caller) for _, data, caller in requests])
        ordinary = [
            (request[0], *each) for request, each in zip(requests, found, strict=True) if each is not None
        ]
        while ordinary:
            clients, series, rules = zip(*ordinary, strict=True)
            if matcher.ingest.submit_series(series, PendingClients(self, matcher, clients, rules)):
                self._bare += len(clients)
                self._site.enter()
                return set(clients)
            half = len(ordinary) // 2
            for rule in rules[half:]:
                matcher.give_back(rule)
            ordinary = ordinary[:half]
        return set()

    def done(self, connections: int) -> None:
        """Note that so many connections without a transport are closed or handed over."""
        self._bare -= connections
        self._site.leave()

    def hand_over(self, sock: socket.socket) -> None:
        """Give a connection to Twisted, with all data that its client has sent. Does not raise."""
        self._drop_spare()  # the transport has a duplicate, and this may have been the last descriptor
        try:
            sock.setblocking(False)
            _acknowledge_at_once(sock, True)  # a client with Nagle's algorithm may wait for it
            self._reactor.adoptStreamConnection(sock.fileno(), sock.family, self._site)
        except OSError:
            pass  # the client has gone again
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
