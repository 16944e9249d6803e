"""The factory of HTTP connections: limits of their number and memory, and their shutdown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.web import http, server

from oneshotd.core.parsing.formats import MAX_BODY_BYTES
from oneshotd.core.text import without_secrets
from oneshotd.errors import Refused
from oneshotd.web.transport.channel import SHUTDOWN_GRACE, Channel, Progress
from oneshotd.web.transport.head_channel import refusal_log

#: Seconds from the first byte of a request until it is complete, and between two requests.
#: Prometheus keeps a connection for 5 minutes; Apache and nginx allow a request 20 to 60 s.
REQUEST_TIMEOUT, IDLE_TIMEOUT = 30.0, 600.0

#: Open connections; half of 2048, a common limit of descriptors (setrlimit(2)).
MAX_CONNECTIONS = 1000

#: Answers that wait in memory because their clients do not read them (an answer may have 8 MiB).
#: Beyond this number, the connection of the oldest one is reset if it has waited for `UNREAD_GRACE`
#: seconds. Deliveries have another bound: one for each scraper.
MAX_UNREAD, UNREAD_GRACE = 16, 5.0

#: Bytes of all bodies that are not complete yet; beyond these, the connection that has been longest
#: without a complete request is reset. Of each body the first MiB counts.
MAX_HELD = 64 << 20

#: Further bytes of all larger bodies, complete or not, and of what they are inflated to; beyond these, the
#: request that has been arriving for longest is refused.
MAX_LARGE = 64 << 20

NO_ROOM = Refused("too many large bodies are here: try again in a moment", reason="busy", status=503)


class Limit(Protocol):
    """A rate that requests have to keep (`access.token_bucket`)."""

    def take(self, n: int, now: float, /) -> float:
        """Count `n` requests, or return the seconds until they can be.

        :param now: reactor seconds.
        """


class Site(server.Site):
    """The factory of channels, and the set of open ones.

    :param max_connections: beyond these, one without a request in hand is reset (`_dispensable`).
    :param request_timeout: seconds from the first byte of a request until it is complete.
    :param idle_timeout: seconds between two requests.
    :param access_log: whether every request is logged.
    :param wall: returns Unix seconds, for the access log; the reactor's clock is monotonic.
    :param body_limit: returns how many bytes a body may have at a path, as it is sent and without its query;
        it is asked for bodies that may have more than 1 MiB.
    :ivar finishing: no further request is accepted; each connection closes after its answer.
    :ivar unread: connections whose answer waits for the client to read it -> since when.
    :ivar matcher: the matcher of `web.fastpath`, or None.
    :ivar headers: names and values that each answer has, from the web configuration.
    :ivar limit: the rate of all requests together, from the web configuration; the health checks do not
        count. None: any rate.
    """

    matcher: Any = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    limit: Limit | None = None

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
        body_limit: Callable[[bytes], int] = lambda path: MAX_BODY_BYTES,
        **kwargs: Any,
    ) -> None:
        def access_line(_: str | None, request: Any) -> str:
            # twisted.web passes the reactor's time.
            line = http.combinedLogFormatter(http.datetimeToLogString(wall()), request)
            return without_secrets(str(line))

        super().__init__(*args, logFormatter=access_line, **kwargs)
        self.request_timeout = request_timeout
        self.idle_timeout = idle_timeout
        self.body_limit = body_limit
        self.finishing = False
        self._max_connections = max_connections
        self._access_log = access_log
        self._channels: set[Channel] = set()
        self.unread: dict[Channel, float] = {}
        self._held = self._large = 0
        self._without_channel = 0
        self._empty: Deferred[None] | None = None
        self._refusals = refusal_log(self.reactor)

    def admit(self, channel: Channel) -> None:
        """Add a new connection; if there are too many, reset another one, or it if none can be."""
        if len(self._channels) >= self._max_connections:
            others = [other for other in self._channels if not other.handling]
            oldest = self._dispensable(others) if others else channel
            self._channels.discard(oldest)  # its connectionLost is called in the next turn of the reactor
            oldest.abort()
            if oldest is channel:
                return
        self._channels.add(channel)

    def _dispensable(self, idle: list[Channel]) -> Channel:
        """Return which of these to reset: of those with the least progress, the oldest.

        A burst of new connections would otherwise end those of scrapers between two scrapes, and each
        handshake before its client can answer. A kind that has less than half of the connections is
        spared, so that connections which are kept without use cannot keep new clients out.
        """
        for progress in (Progress.CONNECTED, Progress.GREETED):
            fewer = [channel for channel in idle if channel.progress <= progress]
            if len(fewer) > self._max_connections / 2:
                idle = fewer
                break
        return min(idle, key=lambda channel: channel.since)

    def hold(self, size: int) -> None:
        """Count bytes of bodies that are not complete; reset a connection beyond the limit."""
        self._held += size
        if self._held > MAX_HELD:
            longest = min(
                (channel for channel in self._channels if channel.held), key=lambda channel: channel.since
            )
            longest.let_go()
            longest.abort()

    def hold_large(self, channel: Channel, size: int) -> bool:
        """Count bytes of a large body; refuse others that arrive for longer, as there is no room for all.

        :returns: whether there is room; if not, the channel's own request is to be refused.
        """
        self._large += size
        while self._large > MAX_LARGE:
            arriving = [other for other in self._channels if other.large and not other.handling]
            oldest = min(arriving, key=lambda other: other.began, default=channel)
            if oldest is channel:
                return False
            oldest.refuse(NO_ROOM)
        return True

    def let_go_large(self, size: int) -> None:
        """Count bytes of large bodies off."""
        self._large -= size

    def unread_by(self, channel: Channel) -> None:
        """Note that a client reads its answer more slowly than it is written; reset one beyond the limit."""
        now = self.reactor.seconds()
        self.unread.setdefault(channel, now)
        longest, since = next(iter(self.unread.items()))
        if len(self.unread) > MAX_UNREAD and now - since > UNREAD_GRACE:
            del self.unread[longest]
            longest.abort()

    def gone(self, channel: Channel) -> None:
        """Remove a connection that has ended."""
        self._channels.discard(channel)
        self.unread.pop(channel, None)
        self._end()

    def enter(self) -> None:
        """Note that a request without a channel is being answered."""
        self._without_channel += 1

    def leave(self) -> None:
        """Note that such a request is answered, or has got a channel."""
        self._without_channel -= 1
        self._end()

    def _end(self) -> None:
        if (
            self._empty is not None
            and not self._channels
            and not self._without_channel
            and not self._empty.called
        ):
            self._empty.callback(None)

    def finish(self) -> Deferred[None]:
        """Close each connection as soon as its answer is sent; fires when none is left."""
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
        """Reset all open connections."""
        for channel in list(self._channels):
            channel.abort()
        self._refusals.flush()

    def note_refusal(self, refused: Refused, peer: str, line: bytes) -> None:
        """Log that a request was refused before a route; throttled."""
        self._refusals.note(
            refused.reason, text=refused.text, peer=peer, line=without_secrets(line.decode("latin-1"))
        )

    def log(self, request: Any) -> None:
        """Write a line to the access log, if it is enabled."""
        if self._access_log:
            super().log(request)

    def acceptableProtocols(self) -> list[bytes]:
        """Return HTTP/1.1, even if the h2 package is installed."""
        return [b"http/1.1"]
