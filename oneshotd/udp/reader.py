"""A datagram socket, of UDP or UNIX: bounded reading, draining at shutdown, and the kernel's drops.

Twisted's `udp.Port` ends its turn of the reactor after a number of *bytes*: a flood of tiny datagrams holds
the reactor for thousands of them, and one of empty datagrams for ever. `UDPReader` bounds the turn, and reads
the socket empty when the daemon ends.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oneshotd.core.networks import UNIX
from oneshotd.core.parsing.formats import MAX_DATAGRAM_BYTES
from oneshotd.logs.throttle import ThrottledLog
from oneshotd.metrics.registry import Telemetry
from oneshotd.udp.datagrams import Datagrams

#: Budget of a turn of the reactor, in bytes, of which each datagram takes `DATAGRAM_COST` besides its
#: length: 256 empty datagrams, or one of the longest.
TURN_BYTES = 64 * 1024
#: Less than the kernel's own bookkeeping per datagram (a `struct sk_buff` and its shared info),
#: so that a budget of the receive buffer's size is enough for all that can be in it.
DATAGRAM_COST = 256

#: Bytes of the budget that each line takes: 2048 lines in a turn, or as many more as are in one datagram.
LINE_COST = 32

#: Seconds for which `UDPReader.drain` parses what it reads; later datagrams are counted only. Enough for ten
#: receive buffers full of ordinary datagrams.
DRAIN_SECONDS = 2.0

#: Budget of `UDPReader.drain` for a UNIX socket, of which the kernel bounds the number of waiting datagrams
#: (net.unix.max_dgram_qlen): 1024 of the longest, and some seconds of a flood at most.
UNIX_DRAIN_BYTES = 64 * 1024 * 1024

#: linux/asm-generic/socket.h and linux/sock_diag.h (4.12 and later): an array of u32, in which the number of
#: dropped datagrams has this index.
_SO_MEMINFO = 55
_SK_MEMINFO_DROPS = 8
_MEMINFO = struct.Struct("=9I")


@implementer(IReadDescriptor)
class UDPReader:
    """Reads one bound socket, at a bounded number of datagrams per turn of the reactor.

    :param sock: bound; is made non-blocking, and closed by `stop`.
    """

    log = Logger()

    def __init__(
        self, sock: socket.socket, datagrams: Datagrams, *, telemetry: Telemetry, clock: IReactorTime
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._is_unix = sock.family == socket.AF_UNIX
        self._receive = self._receive_unix if self._is_unix else sock.recvfrom
        self._clock = clock
        self._datagrams = datagrams
        self._reactor: IReactorFDSet | None = None
        self._raw_drops = 0
        # From zero, also if the socket has dropped some: one that systemd has kept may have overflowed while
        # no daemon read it.
        self._drops: int | None = None if _drop_counter(sock) is None else 0
        self._overflows = ThrottledLog(
            clock, self.log, "UDP: the kernel dropped {count} datagrams, the receive buffer was full"
        )
        self._errors = ThrottledLog(clock, self.log, "UDP: {count} errors of the socket: {reason}")
        telemetry.watch_drops(self.kernel_drops)

    @property
    def is_open(self) -> bool:
        """Whether the socket is open."""
        return self._sock.fileno() >= 0

    def start(self, reactor: IReactorFDSet) -> None:
        """Start to read in the turns of this reactor."""
        self._reactor = reactor
        reactor.addReader(self)

    def drain(self) -> int:
        """Read all datagrams that are in the socket now, although others may still be arriving.

        The budget is the size of the receive buffer, which bounds what can be in it; a UNIX socket has a
        queue of datagrams instead. Parsing a large buffer may take long, hence `DRAIN_SECONDS`.

        :returns: the number of datagrams.
        """
        if not self.is_open:
            return 0
        if self._is_unix:
            budget = UNIX_DRAIN_BYTES
        else:
            budget = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + TURN_BYTES
        return self._read(budget, 0, until=self._clock.seconds() + DRAIN_SECONDS)

    def stop(self) -> None:
        """Close the socket; unread datagrams are lost (see `drain`). A second call does nothing."""
        if self._reactor is not None:
            self._reactor.removeReader(self)
            self._reactor = None
        self.kernel_drops()
        self._sock.close()
        self._overflows.flush()
        self._errors.flush()

    def kernel_drops(self) -> int | None:
        """Return how many datagrams the kernel has dropped at this socket, or None if it does not tell.

        After `stop` the last number stays: a counter must not fall.
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
        """Return the descriptor; -1 once it is closed."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """Return the name for the reactor's log lines."""
        return "UDP"

    def doRead(self) -> None:
        """Read as much as one turn may; the reactor calls again for the rest."""
        self._read(TURN_BYTES, LINE_COST)
        # The socket was full if it dropped some, so a read follows each drop soon.
        self.kernel_drops()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has removed the socket after an error, or stops."""
        self.log.error("UDP: the socket was lost: {reason}", reason=reason.getErrorMessage())
        self.stop()

    def _receive_unix(self, size: int) -> tuple[bytes, Any]:
        """Receive as `recvfrom` does; the sender's address is that of all clients of UNIX sockets.

        In the place of the port is the sender's own path, which few of them have.
        """
        data, path = self._sock.recvfrom(size)
        return data, (UNIX, path)

    def _read(self, budget: int, line_cost: int, until: float | None = None) -> int:
        receive, received = self._receive, self._datagrams.received
        count = 0
        while budget > 0:
            budget -= DATAGRAM_COST
            try:
                data, address = receive(MAX_DATAGRAM_BYTES + 1)  # a longer one is told by the last byte
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
                self._datagrams.skip(data, address[0])
        self._datagrams.hand_over()
        return count


def _drop_counter(sock: socket.socket) -> int | None:
    """Return the kernel's count of dropped datagrams, modulo 2**32."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        figures = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return None
    return int(_MEMINFO.unpack(figures)[_SK_MEMINFO_DROPS]) if len(figures) == _MEMINFO.size else None
