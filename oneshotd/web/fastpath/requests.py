"""The fast path of a plain ``POST /event``. A reader of the rest may skip this file.

It compares bytes instead of parsing HTTP: a request line ``POST /event?… HTTP/1.1`` of printable ASCII; a
block of headers that was examined once and changes nothing about the answer; no body; an event that
`core/parsing/templates.py` takes; a client that is known to be allowed to send it (`blocks.py`), within the
rate of its rule, which is asked for each batch. Every other request goes to `twisted.web` unread and in its
order, as does a request whose event the store refuses: the routes answer it as if there were no fast path.
`channel.py` does this for connections; `listener.py` for one that brings one event and ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import ISSLTransport
from twisted.web.http import datetimeToString

from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Rule
from oneshotd.core.networks import UNIX
from oneshotd.core.parsing.formats import Rules
from oneshotd.core.parsing.templates import TemplateParser
from oneshotd.ingest.pipeline import Ingest
from oneshotd.web import error_responses as problems
from oneshotd.web.fastpath.blocks import NO_SANS, Block, Caller, Known, KnownBlocks, without_users

_START = b"POST /event?"
_LINE_END = b" HTTP/1.1\r\n"
_BLANK = b"\r\n\r\n"

#: Longest request that is compared; within twisted.web's own bounds for lines and headers.
MAX_REQUEST = 8192

#: Most pipelined requests of one connection whose events are submitted together.
MAX_TOGETHER = 64

_PRINTABLE = bytes(range(0x21, 0x7F))

#: Returns the subject alternative names of the verified certificate at the other end of a TLS transport.
PeerSans = Callable[[Any], frozenset[str]]

#: The series of a request, and the rule by which its client may send it (None: an address alone decides).
Found = tuple[str, Rule | None]

_NOTHING: tuple[list[str], int, bool, Rule | None] = ([], 0, False, None)


class Bounds(Protocol):
    """The interface of `oneshotd.access.event_bounds.EventBounds`."""

    def take(self, rule: Rule | None, count: int) -> bool:
        """Return whether so many events are within the rate of a rule, and count them."""

    def give_back(self, rule: Rule | None, count: int) -> None:
        """Undo `take` for events that were not stored."""


class RequestMatcher:
    """Recognizes requests for the fast path; one object for all connections of a site.

    :param access: which client may send events; the routes ask it, too.
    :param wall: Unix time in seconds, for the date of an answer; the reactor's time is another.
    :param known: finds the client of a request.
    :param bounds: are asked for each batch of requests of a rule; None: there are none.
    :param peer_sans: is asked once for each connection with TLS.
    """

    def __init__(
        self,
        ingest: Ingest,
        rules: Rules,
        access: AccessPolicy,
        wall: Callable[[], float] = time.time,
        *,
        known: Known = without_users,
        bounds: Bounds | None = None,
        peer_sans: PeerSans = lambda transport: NO_SANS,
    ) -> None:
        self.ingest = ingest
        self._wall = wall
        self._access = access
        self._bounds = bounds
        self._peer_sans = peer_sans
        self._ordinary = TemplateParser(rules)
        self._blocks = KnownBlocks(access, known)
        # The bytes behind the query of the last request; at first, bytes with which no request ends.
        self._tail = _LINE_END + bytes(MAX_REQUEST)
        self._tail_block = Block(False, None)
        self._second = -1
        self._answers = {False: b"", True: b""}

    def admits(self, host: str) -> bool:
        """Return whether the option --allow-emit admits an address."""
        return self._access.emit.admits(host)

    def caller(self, transport: Any) -> Caller:
        """Return the other end of a connection; with TLS, after the handshake."""
        is_tls = ISSLTransport.providedBy(transport)
        host: str = getattr(transport.getPeer(), "host", UNIX)
        return host, self._peer_sans(transport) if is_tls else NO_SANS

    def recognize(
        self, data: bytes, caller: Caller, single: bool = False
    ) -> tuple[list[str], int, bool, Rule | None]:
        """Find the plain requests at the beginning of the data that their client may send.

        All that are found are of one rule, and are taken from its rate.

        :param single: find one request that asks for a close and is followed by nothing, or none.
        :returns: their series, their length in bytes, whether the last one asks for a close, and the rule
            (None: an address alone decides).
        """
        blocks = self._blocks
        if blocks.version != self._access.version:
            blocks.renew()
        rule: Rule | None = None
        query = self._query(data)
        series = None if query is None else self._ordinary.parse_line(query)
        if series is not None:
            closes = self._tail_block.closes
            if (single and not closes) or not (
                blocks.is_open or self._takes(1, rule := blocks.rule(self._tail_block, caller))
            ):
                return _NOTHING
            return [series], len(data), closes, rule
        found: list[str] = []
        at, closes = 0, False
        while not closes and data.startswith(_START, at) and len(found) < MAX_TOGETHER:
            end = data.find(_BLANK, at, at + MAX_REQUEST)
            line = data.find(_LINE_END, at, end + 2)
            if end < 0 or line < 0:
                break
            query = data[at + len(_START) : line]
            block = blocks.find(data[line + len(_LINE_END) : end + 2])
            if block is None or query.translate(None, _PRINTABLE):
                break
            if not blocks.is_open:
                its_rule = blocks.rule(block, caller)
                if its_rule is None or (rule is not None and its_rule.number != rule.number):
                    break
                rule = its_rule
            series = self._ordinary.parse_line(query)
            if series is None:
                break
            found.append(series)
            at = end + len(_BLANK)
            closes = block.closes
            self._tail, self._tail_block = data[line:at], block
        if single and not (closes and at == len(data) and len(found) == 1):
            return _NOTHING
        if found and not (blocks.is_open or self._takes(len(found), rule)):
            return _NOTHING
        return found, at, closes, rule

    def _query(self, data: bytes) -> bytes | None:
        """Return the query of a request that differs from the last one in its query only, else None."""
        if len(data) > MAX_REQUEST or not (data.endswith(self._tail) and data.startswith(_START)):
            return None
        query = data[len(_START) : -len(self._tail)]
        return None if b" " in query else query

    def recognize_each(self, requests: Sequence[tuple[bytes, Caller]]) -> Sequence[Found | None]:
        """Find the requests that are plain, ask for a close, are followed by nothing, and may be sent.

        :param requests: the first bytes of connections, and their other ends.
        :returns: one item for each; None for one that is to go to the routes.
        """
        queries = [query for query in [self._query(data) for data, _ in requests] if query is not None]
        if self._tail_block.closes and len(queries) == len(requests) > 1:
            alike = self._ordinary.parse_uniform(b"\n".join(queries))
            if alike is not None and len(alike) == len(requests):
                is_taken, rule = self._take_alike([caller for _, caller in requests])
                if is_taken:
                    return [(series, rule) for series in alike.series]
        each: list[Found | None] = []
        for data, caller in requests:
            series, _, _, rule = self.recognize(data, caller, single=True)
            each.append((series[0], rule) if series else None)
        return each

    def _take_alike(self, callers: Sequence[Caller]) -> tuple[bool, Rule | None]:
        """Take an event of each caller, with the last request's headers, from the rate of their one rule."""
        blocks = self._blocks
        if blocks.version != self._access.version:
            blocks.renew()
        if blocks.is_open:
            return True, None
        rules = [blocks.rule(self._tail_block, caller) for caller in callers]
        rule = rules[0]
        is_one = all(
            other is not None and rule is not None and other.number == rule.number for other in rules
        )
        return is_one and self._takes(len(callers), rule), rule

    def _takes(self, events: int, rule: Rule | None) -> bool:
        """Take events from the rate of a rule; return whether there is one, and it allows them."""
        return rule is not None and (self._bounds is None or self._bounds.take(rule, events))

    def give_back(self, rule: Rule | None, events: int = 1) -> None:
        """Give events back to the rate of their rule: they are not stored, and the routes take them again."""
        if rule is not None and self._bounds is not None:
            self._bounds.give_back(rule, events)

    def answers(self, count: int, closes: bool) -> bytes:
        """Return the answers to so many requests whose events are on disk.

        :param closes: whether the last answer says that the connection is closed.
        """
        second = int(self._wall())
        if second != self._second:
            self._second = second
            date = datetimeToString(self._second)
            for last, connection in ((False, b""), (True, b"Connection: close\r\n")):
                self._answers[last] = _ANSWER % (connection, date, problems.TEXT)
        if closes:
            return self._answers[False] * (count - 1) + self._answers[True]
        return self._answers[False] * count


_ANSWER = (
    b"HTTP/1.1 200 OK\r\n%bServer: oneshotd\r\nDate: %b\r\nContent-Type: %b\r\nContent-Length: 3\r\n"
    b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\nok\n"
)
