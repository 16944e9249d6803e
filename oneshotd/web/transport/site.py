"""The factory of HTTP connections: their number, their memory and their end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web import http, server

from oneshotd.errors import Refused
from oneshotd.web.transport.channel import SHUTDOWN_GRACE, Channel
from oneshotd.web.transport.head_channel import refusal_log

#: Seconds for a request to be complete, from its first byte on, and between two requests.
#: Prometheus keeps a connection for 5 minutes; Apache and nginx allow a request 20 to 60 s.
REQUEST_TIMEOUT, IDLE_TIMEOUT = 30.0, 600.0

#: Open connections; half of the 2048 descriptors that are reasonable to expect (see setrlimit(2)).
MAX_CONNECTIONS = 1000

#: Answers that wait in memory because their clients do not read them (an answer may have 8 MiB);
#: beyond these, the one that has waited longest goes with its connection, if it has waited for so
#: many seconds. Deliveries are bounded in another way: there is one for each scraper.
MAX_UNREAD, UNREAD_GRACE = 16, 5.0

#: Bytes of all bodies that are not whole yet; beyond these, the connection that has been longest
#: without a complete request goes. Each body may have 1 MiB.
MAX_HELD = 64 << 20


class Site(server.Site):
    """The factory of channels; knows all that are open.

    :param max_connections: beyond these, the one longest without a complete request goes.
    :param request_timeout: seconds for a request to be complete, from its first byte on.
    :param idle_timeout: seconds between two requests.
    :param access_log: whether every request is logged.
    :param wall: Unix time in seconds, for the access log; the reactor's time is another.
    :ivar finishing: nothing further is taken; each connection closes after its answer.
    :ivar unread: the connections whose answer waits for the client to read, and since when.
    :ivar shortcut: what `shortcut.FastPathChannel` goes by.
    """

    shortcut: Any = None

    # Twisted's own default is a proxy around a channel, in case it has to change to HTTP/2.
    protocol = Channel  # type: ignore[assignment]
    reactor: Any

    def __init__(
        self,
        *args: Any,
        max_connections: int = MAX_CONNECTIONS,
        request_timeout: float = REQUEST_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
        access_log: bool = False,
        wall: Callable[[], float] = time.time,
        **kwargs: Any,
    ) -> None:
        def access_line(_: str | None, request: Any) -> str:
            # What twisted.web gives is the reactor's time.
            return str(http.combinedLogFormatter(http.datetimeToLogString(wall()), request))

        super().__init__(*args, logFormatter=access_line, **kwargs)
        self.request_timeout = request_timeout
        self.idle_timeout = idle_timeout
        self.finishing = False
        self._max_connections = max_connections
        self._access_log = access_log
        self._channels: set[Channel] = set()
        self.unread: dict[Channel, float] = {}
        self._held = 0
        self._bare = 0
        self._empty: Deferred[None] | None = None
        self._refusals = refusal_log(self.reactor)

    def admit(self, channel: Channel) -> None:
        """A connection was made."""
        self._channels.add(channel)
        if len(self._channels) > self._max_connections:
            waiting = [channel for channel in self._channels if not channel.handling]
            oldest = min(waiting, key=lambda channel: channel.since)
            self._channels.discard(oldest)  # it is not gone before the next turn of the reactor
            oldest.abort()

    def hold(self, size: int) -> None:
        """So many bytes more, or fewer, are kept of bodies that are not whole."""
        self._held += size
        if self._held > MAX_HELD:
            longest = min(
                (channel for channel in self._channels if channel.held), key=lambda channel: channel.since
            )
            longest.let_go()
            longest.abort()

    def unread_by(self, channel: Channel) -> None:
        """The client does not take its answer as fast as it comes, so that it waits in memory."""
        now = self.reactor.seconds()
        self.unread.setdefault(channel, now)
        longest, since = next(iter(self.unread.items()))
        if len(self.unread) > MAX_UNREAD and now - since > UNREAD_GRACE:
            del self.unread[longest]
            longest.abort()

    def gone(self, channel: Channel) -> None:
        """A connection has ended."""
        self._channels.discard(channel)
        self.unread.pop(channel, None)
        self._end()

    def enter(self) -> None:
        """A request is being answered that has no channel."""
        self._bare += 1

    def leave(self) -> None:
        """It is answered, or has got one."""
        self._bare -= 1
        self._end()

    def _end(self) -> None:
        if self._empty is not None and not self._channels and not self._bare and not self._empty.called:
            self._empty.callback(None)

    def finish(self) -> Deferred[None]:
        """Close every connection as soon as its answer is out; fires when none is left."""
        self.finishing = True
        self._empty = Deferred()
        for channel in list(self._channels):
            if channel.is_awaited:
                channel.setTimeout(SHUTDOWN_GRACE)
            elif not channel.handling:
                channel.loseConnection()
        self._end()
        return self._empty

    def abort(self) -> None:
        """Reset what is still open."""
        for channel in list(self._channels):
            channel.abort()
        self._refusals.flush()

    def note_refusal(self, refused: Refused, peer: str, line: bytes) -> None:
        """Log that a request was refused before a route saw it; throttled."""
        self._refusals.note(refused.reason, text=refused.text, peer=peer, line=line.decode("latin-1"))

    def log(self, request: Any) -> None:
        """Write the access log, if there is to be one."""
        if self._access_log:
            super().log(request)

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1, also where the h2 package is installed."""
        return [b"http/1.1"]
