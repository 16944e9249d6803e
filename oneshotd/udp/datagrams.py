"""Datagrams to events: parsing, access, and counting of what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import groupby

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from oneshotd.access.event_bounds import EventBounds
from oneshotd.access.policy import AccessPolicy
from oneshotd.access.rules import Client, Role, Rule
from oneshotd.core.events import NewEvent
from oneshotd.core.networks import client_address
from oneshotd.core.parsing.formats import (
    Rules,
    line_count,
    parse_datagram,
    parse_plain_datagrams,
)
from oneshotd.core.parsing.grammar import quoted
from oneshotd.core.parsing.templates import TemplateParser
from oneshotd.errors import Refused
from oneshotd.ingest.dialects import dogstatsd
from oneshotd.ingest.pipeline import Ingest
from oneshotd.logs.throttle import ThrottledLog
from oneshotd.metrics.registry import Telemetry
from oneshotd.udp.blocks import Blocks

#: Most datagrams that are parsed together, and most bytes of them.
PORTION, PORTION_BYTES = 2048, 64 * 1024

#: Senders whose access rule is remembered.
MAX_SENDERS = 4096

#: Data of a datagram, and the address of its sender.
_Datagram = tuple[bytes, str]


class Datagrams:
    """Parses datagrams and submits their events; one object for all UDP sockets of the daemon.

    :param access: which client may send events; the HTTP routes ask it, too. With an access file only rules
        with a network alone fit a sender, since a datagram has no credential.
    :param bounds: of the events of these rules.
    """

    log = Logger()

    def __init__(
        self,
        *,
        ingest: Ingest,
        telemetry: Telemetry,
        rules: Rules,
        access: AccessPolicy,
        bounds: EventBounds,
        clock: IReactorTime,
    ) -> None:
        self._ingest = ingest
        self._telemetry = telemetry
        self._rules = rules
        self._ordinary = TemplateParser(rules)
        self._unread: list[_Datagram] = []  # of this turn of the reactor
        self._unread_bytes = 0
        # Of DogStatsD's messages: events in the datagrams that are being parsed, refusals in the last one.
        self._messages: list[NewEvent] = []
        self._refused_messages: Sequence[Refused] = ()
        self._access = access
        self._bounds = bounds
        self._senders: dict[str, Rule | None] = {}  # address -> its rule, of the version below
        self._version = access.version
        self._blocks = Blocks(clock.seconds)
        self._refusals = ThrottledLog(
            clock, self.log, "UDP: {count} refused ({reason}), one of them from {peer}: {text}"
        )
        self._faults = ThrottledLog(
            clock, self.log, "UDP: {count} times the {reason} failed on a datagram", level=LogLevel.critical
        )

    def received(self, data: bytes, host: str, port: Hashable = 0) -> None:
        """Keep a datagram for `hand_over`, or refuse it. Does not raise.

        :param host: the sender's address as the socket has it; "unix" at a UNIX socket.
        :param port: tells senders of one address apart.
        """
        access = self._access
        if data and (access.emit.admits(host) if access.rules is None else self._rule(host) is not None):
            if self._blocks.concerns(data):
                data = self._whole_lines(data, host, port)
                if not data:
                    self._telemetry.datagrams(1, 0)
                    return
            self._unread.append((data, host))
            self._unread_bytes += len(data)
            if self._unread_bytes >= PORTION_BYTES or len(self._unread) >= PORTION:
                self.hand_over()
        else:
            # At little cost: an empty datagram is the cheapest to send.
            self._telemetry.datagrams(1, 0)
            if data:
                self._refuse("forbidden", 1, host, self._forbidden(host))
            else:
                self._refuse("empty", 1, host, "an empty datagram")

    def _whole_lines(self, data: bytes, host: str, port: Hashable) -> bytes:
        """Return the datagram without halves of lines; refuse those."""
        if dogstatsd.begins(data):  # its clients fill a datagram, and write no line end at its end
            return data
        data, halves = self._blocks.whole_lines(data, (host, port))
        for half in halves:
            self._telemetry.datagrams(0, 1)
            shown = quoted(half.decode(errors="replace"))
            text = f"{shown} is a part of a line, as nc -u cuts a file; see docs/emitting.md"
            self._refuse("syntax", 1, host, text)
        return data

    def hand_over(self) -> None:
        """Submit the events of the kept datagrams, and count refused lines. Does not raise."""
        unread, self._unread, self._unread_bytes = self._unread, [], 0
        if unread and self._access.rules is None:
            self._offer(self._events(unread), "udp")
            if self._messages:
                self._offer(self._taken_messages(), "dogstatsd")
        elif unread:
            # Between `received` and this no rule has changed: both are in one turn of the reactor.
            for _, several in groupby(unread, self._rule_number):
                datagrams = list(several)
                self._offer(self._bounded(datagrams), "udp")
                self._offer(self._bounded_messages(datagrams[0][1]), "dogstatsd")

    def _taken_messages(self) -> Sequence[NewEvent]:
        """Return the events of DogStatsD's messages, and forget them."""
        messages, self._messages = self._messages, []
        return messages

    def _bounded_messages(self, host: str) -> Sequence[NewEvent]:
        """Return those that the rule of this sender allows; refuse the others."""
        rule, messages = self._rule(host), self._taken_messages()
        return self._allowed(rule, messages, host) if rule is not None and messages else []

    def _rule_number(self, datagram: _Datagram) -> int:
        rule = self._rule(datagram[1])
        return 0 if rule is None else rule.number

    def _rule(self, host: str) -> Rule | None:
        """Return the access rule that lets this sender send events; None: it may not."""
        if self._version != self._access.version or len(self._senders) >= MAX_SENDERS:
            self._version = self._access.version
            self._senders.clear()
        if host not in self._senders:
            self._senders[host] = self._access.rule(Role.EMIT, Client(address=client_address(host)))
        return self._senders[host]

    def _bounded(self, datagrams: Sequence[_Datagram]) -> Sequence[NewEvent]:
        """Return the events of datagrams of one rule that it allows; refuse the others."""
        rule = self._rule(datagrams[0][1])
        if rule is None:
            return []
        if not rule.changes_events:
            return self._allowed(rule, self._events(datagrams), datagrams[0][1])
        events: list[NewEvent] = []
        for data, host in datagrams:
            events += self._allowed(rule, self._parse_one(data, host), host)
        return events

    def _allowed(self, rule: Rule, events: Sequence[NewEvent], host: str) -> Sequence[NewEvent]:
        allowed, refusals = self._bounds.each(rule, events)
        self._refuse_all(refusals, host)
        return allowed

    def _forbidden(self, host: str) -> str:
        """Return why this sender may not send events."""
        if not self._access.emit.admits(host):
            return "the address may not send events"
        return "no access rule with a network alone lets the address send events"

    def _events(self, unread: Sequence[_Datagram]) -> Sequence[NewEvent]:
        """Parse datagrams with the same labels in one call, others half by half."""
        if len(unread) == 1:
            return self._parse_one(*unread[0])
        plain = self._plain([data for data, _ in unread])
        if plain is None:
            middle = len(unread) // 2
            return [*self._events(unread[:middle]), *self._events(unread[middle:])]
        self._telemetry.datagrams(len(unread), len(plain))
        return plain

    def _parse_one(self, data: bytes, host: str) -> Sequence[NewEvent]:
        before = len(self._messages)
        events, refusals = self._parse(data)
        messages = len(self._messages) - before
        if self._refused_messages:
            messages += len(self._refused_messages)
            self._refuse_all(self._refused_messages, host, "dogstatsd")
            self._refused_messages = ()
        self._telemetry.datagrams(1, len(events) + len(refusals) + messages)
        if refusals:
            self._refuse_all(refusals, host)
        elif not events and not messages:
            self._refuse("empty", 1, host, "nothing but blank lines")
        return events

    def _offer(self, events: Sequence[NewEvent], source: str) -> None:
        if events:
            try:
                self._ingest.submit_nowait(events, source)
            except Exception:  # a bug; the reader has to go on with the next datagram
                self._telemetry.refused("store", len(events))
                self._faults.note("ingest", log_failure=Failure())

    def skip(self, data: bytes, host: str) -> None:
        """Count a datagram that is not parsed, since the daemon ends and its time is over."""
        lines = line_count(data)
        self._telemetry.datagrams(1, lines)
        self._refuse("busy", max(1, lines), host, "the daemon ends, and too much is waiting")

    def flush(self) -> None:
        """Log the counts that the throttled logs hold back; for the end of the daemon."""
        self._refusals.flush()
        self._faults.flush()

    def _plain(self, datagrams: list[bytes]) -> Sequence[NewEvent] | None:
        try:
            return parse_plain_datagrams(datagrams, self._ordinary)
        except Exception:  # a bug; each datagram is parsed alone
            self._faults.note("parser", log_failure=Failure())
            return None

    def _parse(self, data: bytes) -> tuple[Sequence[NewEvent], list[Refused]]:
        try:
            return parse_datagram(
                data, rules=self._rules, ordinary=self._ordinary, others=self._parse_messages
            )
        except Exception:  # a bug; parse line by line, and keep the good ones
            self._faults.note("parser", log_failure=Failure())
        events: list[NewEvent] = []
        refusals: list[Refused] = []
        for line in data.split(b"\n"):
            try:
                good, bad = parse_datagram(line, rules=self._rules)
            except Exception:  # logged above, once for the datagram
                good, bad = [], [Refused("a line on which the parser failed", reason="syntax")]
            events += good
            refusals += bad
        return events, refusals

    def _parse_messages(self, data: bytes) -> tuple[Sequence[NewEvent], list[Refused]] | None:
        """Parse a datagram with messages of DogStatsD; keep their events, and return those of other lines."""
        found = dogstatsd.parse_messages(data, rules=self._rules, parse_lines=self._parse_lines)
        if found is None:
            return None
        self._messages += found.events
        self._refused_messages = found.refusals
        return found.lines

    def _parse_lines(self, data: bytes) -> tuple[Sequence[NewEvent], list[Refused]]:
        return parse_datagram(data, rules=self._rules, ordinary=self._ordinary)

    def _refuse_all(self, refusals: Sequence[Refused], host: str, source: str = "udp") -> None:
        texts = {refused.reason: refused.text for refused in reversed(refusals)}
        for reason, n in Counter(refused.reason for refused in refusals).items():
            self._refuse(reason, n, host, texts[reason], source)

    def _refuse(self, reason: str, n: int, host: str, text: str, source: str = "udp") -> None:
        self._telemetry.refused(reason, n)
        self._telemetry.doors.refuse(source, text)
        self._refusals.note(reason, n, peer=client_address(host), text=text)
