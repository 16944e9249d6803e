"""What the kernel knows of a connection: which bytes the peer has not acknowledged.

A duplicate of the socket's descriptor goes on answering after Twisted has closed its own.
Nothing asked here changes what Twisted gets to see of the socket.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import sys
import termios
from contextlib import suppress
from enum import Enum

#: linux/sockios.h: SIOCOUTQ has the number of TIOCOUTQ. For TCP it reads the bytes that the
#: peer has not acknowledged, for a Unix socket those that it has not read (tcp(7), unix(7)).
SIOCOUTQ = termios.TIOCOUTQ

#: linux/tcp.h, struct tcp_info: tcpi_state, and tcpi_data_segs_in at byte 152 (Linux 4.6).
_TCP_INFO = struct.Struct("=B151xI")

#: socket(7), SO_LINGER: on or off, seconds. On for 0 s means a reset instead of an orderly end.
_LINGER = struct.Struct("ii")

#: net/tcp_states.h
TCP_CLOSE = 7


class PeerState(Enum):
    """How a connection stands, seen from the kernel."""

    OPEN = "open"
    ENDED = "ended in order"
    RESET = "reset"


class SendQueue:
    """The send queue of one connection.

    Close it: it holds a descriptor of its own.

    :param sock: a connected stream socket.
    :ivar is_tcp: empty means acknowledged; for a Unix socket it means read, or thrown away.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._borrowed = False
        try:
            self._sock = sock.dup()
        except OSError:  # out of descriptors: then it can be asked as long as Twisted keeps its own
            self._sock, self._borrowed = sock, True

    @classmethod
    def of(cls, handle: object) -> SendQueue | None:
        """For the handle of a transport; None where the platform does not show the queue."""
        if not sys.platform.startswith("linux") or not isinstance(handle, socket.socket):
            return None
        queue = cls(handle)
        if queue.unacknowledged() is None:
            queue.close()
            return None
        return queue

    def __str__(self) -> str:
        return f"left {self.unacknowledged()}, peer {self.state().value}, heard {self.heard()} segments"

    def unacknowledged(self) -> int | None:
        """Bytes that the peer has not acknowledged; None if the kernel does not say."""
        try:
            answer = fcntl.ioctl(self._sock, SIOCOUTQ, b"\0\0\0\0")
        except (OSError, ValueError):  # ValueError: a closed socket
            return None
        return int(struct.unpack("i", answer)[0])

    def state(self) -> PeerState:
        """How the connection stands; a Unix socket that was not reset cannot be told from a closed one.

        To be asked after the queue: a Unix socket's is empty as well when the peer has closed
        with bytes unread, but only after the error is there.
        """
        try:
            poll = select.poll()
            poll.register(self._sock, 0)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                return PeerState.RESET
            if self.is_tcp and self._tcp_info()[0] != TCP_CLOSE:
                return PeerState.OPEN
        except (OSError, ValueError):
            pass
        return PeerState.ENDED

    def heard(self) -> int | None:
        """Segments with data that the peer has sent, read or not (TCP; 0 for a Unix socket).

        None if the kernel does not say.
        """
        try:
            return self._tcp_info()[1] if self.is_tcp else 0
        except OSError:
            return None

    def perish_with_us(self, yes: bool) -> None:
        """Whether the kernel resets the connection if this process is killed.

        Otherwise it goes on sending what it has, and delivers what nobody will ever note (TCP).
        """
        with suppress(OSError, ValueError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(yes, 0))

    def close(self) -> None:
        """Give the descriptor back; nothing can be asked afterwards."""
        if not self._borrowed:
            self._sock.close()

    def _tcp_info(self) -> tuple[int, int]:
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        state, heard = _TCP_INFO.unpack(info.ljust(_TCP_INFO.size, b"\0"))
        return state, heard
