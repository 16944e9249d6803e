"""The fast path of a connection: its channel tries it for each request first."""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from oneshotd.access.rules import Rule
from oneshotd.web.fastpath.blocks import Caller
from oneshotd.web.fastpath.requests import RequestMatcher
from oneshotd.web.transport.channel import Channel

#: Bytes that a connection may send ahead; beyond them it is not read until its events are stored.
MAX_AHEAD = 65536

#: Tells the kernel that more data follows at once (send(2), Linux).
MORE = getattr(socket, "MSG_MORE", 0)

_DONE = Failure(CONNECTION_DONE)


class FastPathChannel(Channel):
    """A channel that tries the fast path for each request first."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = b""  # requests whose events wait for the disk
        self._count = 0  # of these
        self._rule: Rule | None = None  # of these
        self._closes = False  # the last of these asks for a close
        self._ahead = bytearray()  # data received behind them
        self._paused = False
        self._lost = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._matcher: RequestMatcher | None = None  # that has taken the requests
        self._caller: Caller | None = None
        # With an endpoint such as haproxy:, the client's address is known later.
        self._may_take = self.transport is self.tls or not isinstance(self.transport, ProtocolWrapper)
        # Answers are written to the socket. The transport's buffer is empty until something else is written,
        # and an answer through it costs as much as the rest of a request.
        get_handle = None if self.is_tls else getattr(self.transport, "getHandle", None)
        self._socket: socket.socket | None = None if get_handle is None else get_handle()

    def dataReceived(self, data: bytes) -> None:
        if self._count:
            self._ahead += data
            if len(self._ahead) > MAX_AHEAD:
                self._paused = True
                self.transport.pauseProducing()
            return
        # It may be taken away by a change of the configuration.
        matcher: RequestMatcher | None = self.site.matcher
        if matcher is not None and self._may_take and self.is_resting and self._take(matcher, data):
            return
        self._socket = None
        super().dataReceived(data)

    def _take(self, matcher: RequestMatcher, data: bytes) -> bool:
        """Submit the events of plain requests; return whether there are any, and room for them."""
        if self._caller is None:
            self._caller = matcher.caller(self.transport)
            self._may_take = matcher.admits(self._caller[0])
            if not self._may_take:
                return False
        series, end, closes, rule = matcher.recognize(data, self._caller)
        if not series:
            return False
        if not matcher.ingest.submit_series(series, self):
            matcher.give_back(rule, len(series))
            return False
        self._matcher, self._rule = matcher, rule
        self._count, self._closes = len(series), closes
        self._taken = data[:end]
        self._ahead += data[end:]
        self.handling = True
        return True

    def on_stored(self, now: float) -> None:
        """Answer each of the requests."""
        count = self._settle(now)
        if self._lost or self._matcher is None:
            return
        answer = self._matcher.answers(count, self._closes)
        written = self._send(answer)
        if written < len(answer):
            # The socket's buffer is full, or it has an error, which the transport finds by itself.
            self._socket = None
            self.transport.write(answer[written:])
        elif self._closes:
            # The kernel has the whole answer. `loseConnection` would do the same in the next turn of the
            # reactor, at twice the cost.
            self.transport.connectionLost(_DONE)
            return
        closes = self._closes
        if closes:
            self._ahead.clear()  # requests behind a request to close are ignored
        elif self.timeOut != self.site.idle_timeout:
            self.setTimeout(self.site.idle_timeout)
        if self._ahead or self._paused:
            self._proceed(self.dataReceived, b"")
        if closes or (self._is_last and not self.handling):
            self.loseConnection()

    def _send(self, answer: bytes) -> int:
        """Send as much of the answer as the kernel takes; return how many bytes."""
        if self._socket is None:
            return 0
        try:
            # With MORE, FIN goes out in the same segment.
            return self._socket.send(answer, MORE if self._closes else 0)
        except OSError:
            return 0

    def on_failed(self) -> None:
        """Give the requests to `twisted.web`, which submits their events again and answers."""
        taken = self._taken
        count = self._settle(self.clock.seconds())
        if self._matcher is not None:
            self._matcher.give_back(self._rule, count)
        if not self._lost:
            self._socket = None
            self._proceed(super().dataReceived, taken)

    def _settle(self, now: float) -> int:
        count, self._count, self._taken = self._count, 0, b""
        self.handling = False
        self.since = now
        return count

    def _proceed(self, receive: Callable[[bytes], object], before: bytes) -> None:
        """Go on with the data that has arrived meanwhile."""
        data, self._ahead = before + bytes(self._ahead), bytearray()
        if self._paused and self not in self.site.unread:
            self._paused = False
            self.transport.resumeProducing()
        if data:
            receive(data)

    def timeoutConnection(self) -> None:
        """Close a connection that is idle for too long.

        The timer is started again while the store has a request, and for the rest of the idle time: requests
        do not reset it, since that costs too much.
        """
        rest = self.since + self.site.idle_timeout - self.clock.seconds()
        if self._count:
            self.setTimeout(self.timeOut)
        elif self.timeOut == self.site.idle_timeout and rest > 0.001:
            self.setTimeout(rest)
        else:
            super().timeoutConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._socket = None
        super().connectionLost(reason)
