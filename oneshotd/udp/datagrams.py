"""The UDP door: datagrams in, events to the intake, everything refused counted.

No Twisted `udp.Port`: its turn of the reactor ends after so many *bytes*, so a flood of tiny
datagrams holds the reactor for thousands of them, and one of empty datagrams for ever. Reading
ourselves bounds the turn, and lets the end of the daemon read the socket empty.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import Counter
from collections.abc import Sequence

from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.access.policy import AccessPolicy
from oneshotd.core.events import NewEvent
from oneshotd.core.networks import client_address
from oneshotd.core.parsing.formats import (
    MAX_DATAGRAM_BYTES,
    Rules,
    line_count,
    parse_datagram,
    parse_plain_datagrams,
)
from oneshotd.core.parsing.grammar import quoted
from oneshotd.core.parsing.templates import TemplateParser
from oneshotd.errors import Refused
from oneshotd.ingest.pipeline import Ingest
from oneshotd.logs.throttle import ThrottledLog
from oneshotd.metrics.registry import Telemetry
from oneshotd.udp.blocks import Blocks

#: What a turn of the reactor may read, in bytes, each datagram costing `DATAGRAM_COST` more: 256
#: empty datagrams, or one of the longest.
TURN_BYTES = 64 * 1024
#: Less than the kernel's own bookkeeping per datagram (a `struct sk_buff` and its shared info),
#: so that a budget of the receive buffer's size is enough for all that can be in it.
DATAGRAM_COST = 256

#: What a line adds to that: 2048 lines in a turn, or as many more as are in one datagram.
LINE_COST = 32

#: Datagrams, and bytes of them, that are looked into together at most.
PORTION, PORTION_BYTES = 2048, 64 * 1024

#: Seconds for which `UDPDoor.drain` looks into what it reads: enough for a receive buffer full of
#: ordinary datagrams ten times over.
DRAIN_SECONDS = 2.0

#: linux/asm-generic/socket.h, linux/sock_diag.h (4.12 and later): u32 figures, the datagrams
#: dropped among them.
_SO_MEMINFO = 55
_SK_MEMINFO_DROPS = 8
_MEMINFO = struct.Struct("=9I")


class Datagrams:
    """What to do with a datagram; one for all UDP sockets of the daemon.

    :param access: which client may send events; the HTTP routes ask it, too.
    """

    log = Logger()

    def __init__(
        self,
        *,
        ingest: Ingest,
        telemetry: Telemetry,
        rules: Rules,
        access: AccessPolicy,
        clock: IReactorTime,
    ) -> None:
        self._ingest = ingest
        self._telemetry = telemetry
        self._rules = rules
        self._ordinary = TemplateParser(rules)
        self._unread: list[tuple[bytes, str]] = []  # of this turn of the reactor
        self._unread_bytes = 0
        self._access = access
        self._blocks = Blocks(clock.seconds)
        self._refusals = ThrottledLog(
            clock, self.log, "UDP: {count} refused ({reason}), one of them from {peer}: {text}"
        )
        self._faults = ThrottledLog(
            clock, self.log, "UDP: {count} times the {reason} failed on a datagram", level=LogLevel.critical
        )

    def received(self, data: bytes, host: str, port: int = 0) -> None:
        """Keep it for `hand_over`. Nothing is raised.

        :param host: the sender's address as the socket has it.
        """
        if data and self._access.may_emit(host):
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
            # With next to nothing done: an empty datagram is the cheapest to send.
            self._telemetry.datagrams(1, 0)
            if data:
                self._refuse("forbidden", 1, host, "the address may not send events")
            else:
                self._refuse("empty", 1, host, "an empty datagram")

    def _whole_lines(self, data: bytes, host: str, port: int) -> bytes:
        """The datagram without the halves of lines in it, which are refused."""
        data, halves = self._blocks.whole_lines(data, (host, port))
        for half in halves:
            self._telemetry.datagrams(0, 1)
            shown = quoted(half.decode(errors="replace"))
            text = f"{shown} is a part of a line, as nc -u cuts a file; see docs/emitting.md"
            self._refuse("syntax", 1, host, text)
        return data

    def hand_over(self) -> None:
        """Have the good lines that came since the last time stored, count the others. Nothing is raised."""
        unread, self._unread, self._unread_bytes = self._unread, [], 0
        if unread:
            self._offer(self._events(unread))

    def _events(self, unread: Sequence[tuple[bytes, str]]) -> Sequence[NewEvent]:
        """All at once where they are alike; else half by half, so that one other costs little."""
        if len(unread) == 1:
            return self._look_into(*unread[0])
        plain = self._plain([data for data, _ in unread])
        if plain is None:
            middle = len(unread) // 2
            return [*self._events(unread[:middle]), *self._events(unread[middle:])]
        self._telemetry.datagrams(len(unread), len(plain))
        return plain

    def _look_into(self, data: bytes, host: str) -> Sequence[NewEvent]:
        events, refusals = self._parse(data)
        self._telemetry.datagrams(1, len(events) + len(refusals))
        if refusals:
            texts = {refused.reason: refused.text for refused in reversed(refusals)}
            for reason, n in Counter(refused.reason for refused in refusals).items():
                self._refuse(reason, n, host, texts[reason])
        elif not events:
            self._refuse("empty", 1, host, "nothing but blank lines")
        return events

    def _offer(self, events: Sequence[NewEvent]) -> None:
        if events:
            try:
                self._ingest.submit_nowait(events, "udp")
            except Exception:  # whatever it is, the next datagram must be read
                self._telemetry.refused("store", len(events))
                self._faults.note("intake", log_failure=Failure())

    def passed_over(self, data: bytes, host: str) -> None:
        """Count what comes in a datagram into which there is no time to look."""
        lines = line_count(data)
        self._telemetry.datagrams(1, lines)
        self._refuse("busy", max(1, lines), host, "the daemon ends, and too much is waiting")

    def flush(self) -> None:
        """Log the counts that are still held back; for the end of the daemon."""
        self._refusals.flush()
        self._faults.flush()

    def _plain(self, datagrams: list[bytes]) -> Sequence[NewEvent] | None:
        try:
            return parse_plain_datagrams(datagrams, self._ordinary)
        except Exception:  # a bug; each is looked at alone
            self._faults.note("parser", log_failure=Failure())
            return None

    def _parse(self, data: bytes) -> tuple[Sequence[NewEvent], list[Refused]]:
        try:
            return parse_datagram(data, rules=self._rules, ordinary=self._ordinary)
        except Exception:  # a bug: find the lines that show it, and keep the others
            self._faults.note("parser", log_failure=Failure())
        events: list[NewEvent] = []
        refusals: list[Refused] = []
        for line in data.split(b"\n"):
            try:
                good, bad = parse_datagram(line, rules=self._rules)
            except Exception:  # reported above, once for the datagram
                good, bad = [], [Refused("a line on which the parser failed", reason="syntax")]
            events += good
            refusals += bad
        return events, refusals

    def _refuse(self, reason: str, n: int, host: str, text: str) -> None:
        self._telemetry.refused(reason, n)
        self._refusals.note(reason, n, peer=client_address(host), text=text)


@implementer(IReadDescriptor)
class UDPDoor:
    """Reads one bound socket, at a bounded number of datagrams per turn of the reactor.

    :param sock: bound; from here on ours, non-blocking, and closed by `stop`.
    """

    log = Logger()

    def __init__(
        self, sock: socket.socket, datagrams: Datagrams, *, telemetry: Telemetry, clock: IReactorTime
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._clock = clock
        self._datagrams = datagrams
        self._reactor: IReactorFDSet | None = None
        self._raw_drops = 0
        # From zero, not from what the socket has dropped so far: one that systemd kept for us
        # may have overflowed while nobody read it.
        self._drops: int | None = None if _drop_counter(sock) is None else 0
        self._overflows = ThrottledLog(
            clock, self.log, "UDP: the kernel dropped {count} datagrams, the receive buffer was full"
        )
        self._errors = ThrottledLog(clock, self.log, "UDP: {count} errors of the socket: {reason}")
        telemetry.watch_drops(self.kernel_drops)

    @property
    def is_open(self) -> bool:
        """Whether there is still a socket to read."""
        return self._sock.fileno() >= 0

    def start(self, reactor: IReactorFDSet) -> None:
        """Begin to read."""
        self._reactor = reactor
        reactor.addReader(self)

    def drain(self) -> int:
        """Read all that is in the socket now, however much is still being sent.

        The receive buffer's size bounds what can be waiting, hence the budget. It may be a
        hundred times what anybody sends, and made to take long, hence the time.

        :returns: how many datagrams that was.
        """
        if not self.is_open:
            return 0
        budget = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + TURN_BYTES
        return self._read(budget, 0, until=self._clock.seconds() + DRAIN_SECONDS)

    def stop(self) -> None:
        """Close the socket; what is in it and unread is lost (see `drain`). Twice is fine."""
        if self._reactor is not None:
            self._reactor.removeReader(self)
            self._reactor = None
        self.kernel_drops()
        self._sock.close()
        self._overflows.flush()
        self._errors.flush()

    def kernel_drops(self) -> int | None:
        """How many datagrams the kernel dropped at this socket, or None where it does not say.

        After `stop` the last figure stays, for a counter must not fall.
        """
        raw = _drop_counter(self._sock) if self._drops is not None and self.is_open else None
        if self._drops is not None and raw is not None:
            new = (raw - self._raw_drops) % 2**32  # the kernel's counter has 32 bits
            self._raw_drops = raw
            self._drops += new
            if new:
                self._overflows.note("overflow", new)
        return self._drops

    # IReadDescriptor

    def fileno(self) -> int:
        """For the reactor; -1 once closed."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """For the reactor's log lines."""
        return "UDP"

    def doRead(self) -> None:
        """There is something to read: a turn's worth of it; the rest has the next turn."""
        self._read(TURN_BYTES, LINE_COST)
        # A drop means that the socket was full, so that it is read soon after: here.
        self.kernel_drops()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave up on the socket, or on itself."""
        self.log.error("UDP: the socket was lost: {reason}", reason=reason.getErrorMessage())
        self.stop()

    def _read(self, budget: int, line_cost: int, until: float | None = None) -> int:
        receive, received = self._sock.recvfrom, self._datagrams.received
        count = 0
        while budget > 0:
            budget -= DATAGRAM_COST
            try:
                data, address = receive(MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError as error:  # such as an ICMP message about something else
                if not self.is_open:
                    break
                self._errors.note(error.strerror or type(error).__name__)
                continue
            budget -= len(data) + line_cost * data.count(b"\n")
            count += 1
            if until is None or self._clock.seconds() < until:
                received(data, address[0], address[1])
            else:
                self._datagrams.passed_over(data, address[0])
        self._datagrams.hand_over()
        return count


def _drop_counter(sock: socket.socket) -> int | None:
    """The kernel's count of dropped datagrams, modulo 2**32."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        figures = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return None
    return int(_MEMINFO.unpack(figures)[_SK_MEMINFO_DROPS]) if len(figures) == _MEMINFO.size else None
