"""A TCP proxy between a scraper and the daemon that keeps what passes, and cuts one response.

With it in between the receipt is the proxy's: the daemon sees how *it* takes a response.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import zlib
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType

from support.response_reader import EVENT, Response

#: Seconds after which a connection is given up; a scraper that scrapes now and then keeps one.
PATIENCE = 60.0

#: Bytes that come ahead of what was read, some more than this (tcp(7)).
BUFFER = 65536

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_TYPE = re.compile(rb"\r\ncontent-type: *([^\r]+)\r\n", re.IGNORECASE)
_GZIP = re.compile(rb"\r\ncontent-encoding: *gzip\r\n", re.IGNORECASE)


class Fault(Enum):
    """What happens to the next response with events in it."""

    #: half of it is read from the daemon and passed on, then both connections are reset
    CUT = auto()
    #: all of it is passed on, but the connection to the daemon is reset: to the daemon it was
    #: thrown away unread
    THROWN_AWAY = auto()


class CuttingProxy:
    """Listens on a port of 127.0.0.1 for as long as it is entered.

    :param target: the daemon's port on the same address.
    :ivar responses: all that the daemon has answered to its end.
    :ivar faults: how many responses had a fault.
    """

    def __init__(self, target: int) -> None:
        self.responses: list[Response] = []
        self.faults = 0
        self._target = target
        self._fault: Fault | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> CuttingProxy:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)

    def arm(self, fault: Fault) -> None:
        """The next response with events in it has this fault."""
        with self._lock:
            self._fault = fault

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:  # the daemon is gone
            client.close()
            return
        with self._lock:
            self._open |= {client, server}
        client.settimeout(PATIENCE)
        try:
            while request := _until_blank_line(client):
                server.sendall(request)
                if not self._answer(client, server):
                    break
        except OSError:
            pass  # somebody has closed; so do we
        finally:
            with self._lock:
                self._open -= {client, server}
            client.close()
            server.close()

    def _connect(self) -> socket.socket:
        sock = socket.socket()
        try:
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            sock.connect(("127.0.0.1", self._target))
        except OSError:
            sock.close()
            raise
        return sock

    def _answer(self, client: socket.socket, server: socket.socket) -> bool:
        """Pass one response on; False if the connections are to end."""
        head = _until_blank_line(server)
        length = _LENGTH.search(head)
        if length is None:
            return False
        size = int(length[1])
        first = _exactly(server, size // 2)
        fault = self._fault_of(_plain(head, first))
        if fault is Fault.CUT:
            client.sendall(head + first)
            _reset(server)
            _reset(client)
            return False
        body = first + _exactly(server, size - len(first))
        if fault is Fault.THROWN_AWAY:
            _reset(server)
        self._keep(head, body)
        client.sendall(head + body)
        return fault is None

    def _fault_of(self, beginning: bytes) -> Fault | None:
        """The fault of a response that begins so; events come first in it."""
        with self._lock:
            if self._fault is None or not EVENT.search(beginning):
                return None
            fault, self._fault = self._fault, None
            self.faults += 1
            return fault

    def _keep(self, head: bytes, body: bytes) -> None:
        found = _TYPE.search(head)
        kind = found[1].decode() if found else ""
        self.responses.append(Response(kind, _plain(head, body), bool(_GZIP.search(head))))


def _plain(head: bytes, body: bytes) -> bytes:
    """The body, or what its beginning gives, without gzip."""
    return zlib.decompressobj(wbits=31).decompress(body) if _GZIP.search(head) else body


def _until_blank_line(sock: socket.socket) -> bytes:
    """A head, byte by byte so that nothing behind it is taken; empty at the end."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        if not piece:
            return b""
        head += piece
    return bytes(head)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionResetError("the daemon closed in the middle")
        data += piece
    return bytes(data)


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    sock.close()
