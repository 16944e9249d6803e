"""The fast path of a plain ``POST /event``. A reader of the rest may skip this file.

It compares bytes instead of parsing HTTP: a request line ``POST /event?… HTTP/1.1`` of printable ASCII; a
block of headers that was examined once and changes nothing about the answer; no body; an event that
`core/parsing/templates.py` takes. Every other request goes to `twisted.web` unread and in its order, as does
a request whose event the store refuses: the routes answer it as if there were no fast path.
`fastpath/listener.py` does the same for a connection that brings one event and ends.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto

from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString

from oneshotd.access.policy import AccessPolicy
from oneshotd.core.networks import UNIX
from oneshotd.core.parsing.formats import Rules
from oneshotd.core.parsing.templates import TemplateParser
from oneshotd.ingest.pipeline import Ingest
from oneshotd.web import error_responses as problems
from oneshotd.web.transport.channel import Channel
from oneshotd.web.transport.request import is_host

_START = b"POST /event?"
_LINE_END = b" HTTP/1.1\r\n"
_BLANK = b"\r\n\r\n"

#: Longest request that is compared; within twisted.web's own bounds for lines and headers.
MAX_REQUEST = 8192

#: Blocks of headers that are remembered; clients may invent them.
MAX_BLOCKS = 1024

#: Most pipelined requests of one connection whose events are submitted together.
MAX_TOGETHER = 64

#: Bytes that a connection may send ahead; beyond them it is not read until its events are stored.
MAX_AHEAD = 65536

#: Tells the kernel that more data follows at once (send(2), Linux).
MORE = getattr(socket, "MSG_MORE", 0)

_DONE = Failure(CONNECTION_DONE)

_PRINTABLE = bytes(range(0x21, 0x7F))
_VALUE = bytes(range(0x20, 0x7F))

#: Headers that change nothing about the answer to a POST of an event.
_HARMLESS = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"content-type",
        b"pragma",
        b"user-agent",
    )
)


class RequestMatcher:
    """Recognizes requests for the fast path; one object for all connections of a site.

    :param access: which client may send events; the routes ask it, too.
    :param wall: Unix time in seconds, for the date of an answer; the reactor's time is another.
    """

    def __init__(
        self, ingest: Ingest, rules: Rules, access: AccessPolicy, wall: Callable[[], float] = time.time
    ) -> None:
        self.ingest = ingest
        self._wall = wall
        self._access = access
        self._ordinary = TemplateParser(rules)
        self._blocks: dict[bytes, _Block] = {}
        # The bytes behind the query of the last request; at first, bytes with which no request ends.
        self._tail = _LINE_END + bytes(MAX_REQUEST)
        self._tail_closes = False
        self._second = -1
        self._answers = {_Block.KEEP: b"", _Block.CLOSE: b""}

    def admits(self, peer: object) -> bool:
        """Return whether this peer may emit; a known block of headers names no other client."""
        return self._access.may_emit(getattr(peer, "host", UNIX))

    def admits_host(self, host: str) -> bool:
        """Return what `admits` does, of an address as the socket has it."""
        return self._access.may_emit(host)

    def recognize(self, data: bytes) -> tuple[list[str], int, bool]:
        """Find the plain requests at the beginning of the data.

        :returns: their series, their length in bytes, and whether the last one asks for a close.
        """
        query = self._query(data)
        series = None if query is None else self._ordinary.parse_line(query)
        if series is not None:
            return [series], len(data), self._tail_closes
        found: list[str] = []
        at, closes = 0, False
        while not closes and data.startswith(_START, at) and len(found) < MAX_TOGETHER:
            end = data.find(_BLANK, at, at + MAX_REQUEST)
            line = data.find(_LINE_END, at, end + 2)
            if end < 0 or line < 0:
                break
            query = data[at + len(_START) : line]
            block = data[line + len(_LINE_END) : end + 2]
            known = self._blocks[block] if block in self._blocks else self._learn(block)
            if known is _Block.ODD or query.translate(None, _PRINTABLE):
                break
            series = self._ordinary.parse_line(query)
            if series is None:
                break
            found.append(series)
            at = end + len(_BLANK)
            closes = known is _Block.CLOSE
            self._tail, self._tail_closes = data[line:at], closes
        return found, at, closes

    def _query(self, data: bytes) -> bytes | None:
        """Return the query of a request that differs from the last one in its query only, else None."""
        if len(data) > MAX_REQUEST or not (data.endswith(self._tail) and data.startswith(_START)):
            return None
        query = data[len(_START) : -len(self._tail)]
        return None if b" " in query else query

    def recognize_each(self, requests: Sequence[bytes]) -> Sequence[str | None]:
        """Return a series for each request that is plain, asks for a close and is followed by nothing.

        :returns: one item for each request; None for one that is to go to the routes.
        """
        queries = [query for query in map(self._query, requests) if query is not None]
        if self._tail_closes and len(queries) == len(requests) > 1:
            alike = self._ordinary.parse_uniform(b"\n".join(queries))
            if alike is not None and len(alike) == len(requests):
                return alike.series
        each: list[str | None] = []
        for data in requests:
            series, end, closes = self.recognize(data)
            each.append(series[0] if closes and len(series) == 1 and end == len(data) else None)
        return each

    def _learn(self, block: bytes) -> _Block:
        if len(self._blocks) >= MAX_BLOCKS:
            self._blocks.clear()
        known = self._blocks[block] = _judge(block)
        return known

    def answers(self, count: int, closes: bool) -> bytes:
        """Return the answers to so many requests whose events are on disk.

        :param closes: whether the last answer says that the connection is closed.
        """
        second = int(self._wall())
        if second != self._second:
            self._second = second
            date = datetimeToString(self._second)
            for block, connection in ((_Block.KEEP, b""), (_Block.CLOSE, b"Connection: close\r\n")):
                self._answers[block] = _ANSWER % (connection, date, problems.TEXT)
        if closes:
            return self._answers[_Block.KEEP] * (count - 1) + self._answers[_Block.CLOSE]
        return self._answers[_Block.KEEP] * count


_ANSWER = (
    b"HTTP/1.1 200 OK\r\n%bServer: oneshotd\r\nDate: %b\r\nContent-Type: %b\r\nContent-Length: 3\r\n"
    b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\nok\n"
)


class _Block(Enum):
    """The request of a block of headers: keep the connection, close it, or something else (ODD)."""

    KEEP = auto()
    CLOSE = auto()
    ODD = auto()


def _judge(block: bytes) -> _Block:
    """Return ODD unless each header is well-formed, known, and changes nothing about the answer."""
    hosts = 0
    closes = False
    for line in block.removesuffix(b"\r\n").split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" ")
        if not colon or value.translate(None, _VALUE):
            return _Block.ODD
        if name == b"host" and is_host(value):
            hosts += 1
        elif name == b"connection" and value.lower() == b"close":
            closes = True
        elif not (
            name in _HARMLESS
            or (name == b"connection" and value.lower() == b"keep-alive")
            or (name == b"content-length" and value == b"0")
        ):
            return _Block.ODD
    lowered = block.lower()
    if hosts != 1 or lowered.count(b"content-length:") > 1 or lowered.count(b"connection:") > 1:
        return _Block.ODD
    return _Block.CLOSE if closes else _Block.KEEP


class FastPathChannel(Channel):
    """A channel that tries the fast path for each request first."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = b""  # requests whose events wait for the disk
        self._count = 0  # of these
        self._closes = False  # the last of these asks for a close
        self._ahead = bytearray()  # data received behind them
        self._paused = False
        self._lost = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._shortcut: RequestMatcher | None = self.site.shortcut
        if isinstance(self._socket_transport(), ProtocolWrapper):
            # With an endpoint such as haproxy:, the client's address is known later.
            self._shortcut = None
        elif self._shortcut is not None and not self._shortcut.admits(self.transport.getPeer()):
            self._shortcut = None
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
        if self._shortcut is not None and self.is_resting:
            series, end, closes = self._shortcut.recognize(data)
            if series and self._shortcut.ingest.submit_series(series, self):
                self._count, self._closes = len(series), closes
                self._taken = data[:end]
                self._ahead += data[end:]
                self.handling = True
                return
        self._socket = None
        super().dataReceived(data)

    def on_stored(self, now: float) -> None:
        """Answer each of the requests."""
        count = self._settle(now)
        if self._lost or self._shortcut is None:
            return
        answer = self._shortcut.answers(count, self._closes)
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
        self._settle(self.clock.seconds())
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
