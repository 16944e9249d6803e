"""What the kernel knows of a connection: which bytes the peer has not acknowledged.

A duplicate of the socket's descriptor goes on answering after Twisted has closed its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import termios
from enum import Enum

#: linux/sockios.h: SIOCOUTQ has the number of TIOCOUTQ. For TCP it reads the bytes that the
#: peer has not acknowledged, for a Unix socket those that it has not read (tcp(7), unix(7)).
SIOCOUTQ = termios.TIOCOUTQ

#: net/tcp_states.h
TCP_CLOSE = 7


class PeerState(Enum):
    """How a connection stands, seen from the kernel."""

    OPEN = "open"
    ENDED = "ended in order"
    RESET = "reset by the peer"


class KernelQueue:
    """The send queue of one connection.

    Close it: it holds a descriptor of its own.

    :param sock: a connected stream socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = socket.socket(fileno=os.dup(sock.fileno()))
        self.is_tcp = self._sock.family in (socket.AF_INET, socket.AF_INET6)

    @classmethod
    def of(cls, handle: object) -> KernelQueue | None:
        """For the handle of a transport; None where the platform does not show the queue."""
        if not sys.platform.startswith("linux") or not isinstance(handle, socket.socket):
            return None
        try:
            queue = cls(handle)
        except OSError:  # closed, or out of descriptors
            return None
        if queue.unacknowledged() is None:
            queue.close()
            return None
        return queue

    def unacknowledged(self) -> int | None:
        """Bytes that the peer has not acknowledged; None if the kernel does not say."""
        try:
            answer = fcntl.ioctl(self._sock.fileno(), SIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return None
        return int(struct.unpack("i", answer)[0])

    def state(self) -> PeerState:
        """How the connection stands; reads the socket's error away, so only for us to ask once
        Twisted reads it no more."""
        if not self.is_tcp:
            return PeerState.ENDED
        try:
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            if info[0] != TCP_CLOSE:
                return PeerState.OPEN
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError:
            return PeerState.ENDED
        return PeerState.RESET if error in (errno.ECONNRESET, errno.EPIPE) else PeerState.ENDED

    def close(self) -> None:
        """Give the descriptor back; nothing can be asked afterwards."""
        self._sock.close()
