"""Reads the kernel's state of a connection: which bytes the peer has not acknowledged.

A duplicate of the socket's descriptor remains readable after Twisted has closed its own. No method
here takes an error or bytes from the socket that Twisted has to see.
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
    """The kernel's state of a connection."""

    OPEN = "open"
    ENDED = "ended in order"
    RESET = "reset"


class SendQueue:
    """The send queue of one connection.

    Call `close` at the end: the object has a descriptor of its own.

    :param sock: a connected stream socket.
    :ivar is_tcp: an empty queue means acknowledged; for a Unix socket it means read, or dropped.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._borrowed = False
        try:
            self._sock = sock.dup()
        except OSError:  # out of descriptors: use Twisted's own as long as it is open
            self._sock, self._borrowed = sock, True

    @classmethod
    def of(cls, handle: object) -> SendQueue | None:
        """Return the queue of a transport's handle; None if the platform does not show it."""
        if not sys.platform.startswith("linux") or not isinstance(handle, socket.socket):
            return None
        queue = cls(handle)
        if queue.unacknowledged() is None:
            queue.close()
            return None
        return queue

    def __str__(self) -> str:
        segments = self.segments_received()
        return f"left {self.unacknowledged()}, peer {self.state().value}, heard {segments} segments"

    def unacknowledged(self) -> int | None:
        """Return the bytes that the peer has not acknowledged; None if the kernel does not tell."""
        try:
            answer = fcntl.ioctl(self._sock, SIOCOUTQ, b"\0\0\0\0")
        except (OSError, ValueError):  # ValueError: a closed socket
            return None
        return int(struct.unpack("i", answer)[0])

    def state(self) -> PeerState:
        """Return the state of the connection; a Unix socket is ENDED unless it was reset.

        Call this after `unacknowledged`: if the peer closes a Unix socket with bytes unread, the kernel
        sets the error first and empties the queue after it.
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

    def segments_received(self) -> int | None:
        """Return the segments with data that the peer has sent, read or not (TCP; 0 for a Unix socket).

        None if the kernel does not tell.
        """
        try:
            return self._tcp_info()[1] if self.is_tcp else 0
        except OSError:
            return None

    def unread(self) -> int:
        """Return the bytes that the peer has sent and this process has not read; 0 if the kernel is silent.

        They can be read after a reset, too.
        """
        try:
            answer = fcntl.ioctl(self._sock, termios.FIONREAD, b"\0\0\0\0")
        except (OSError, ValueError):
            return 0
        return int(struct.unpack("i", answer)[0])

    def set_reset_on_kill(self, yes: bool) -> None:
        """Set whether the kernel resets the connection if this process is killed.

        Otherwise the kernel goes on sending its queue, and the peer gets events whose delivery is not
        stored (TCP).
        """
        with suppress(OSError, ValueError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(yes, 0))

    def close(self) -> None:
        """Close the descriptor; call no other method afterwards."""
        if not self._borrowed:
            self._sock.close()

    def _tcp_info(self) -> tuple[int, int]:
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        state, heard = _TCP_INFO.unpack(info.ljust(_TCP_INFO.size, b"\0"))
        return state, heard
