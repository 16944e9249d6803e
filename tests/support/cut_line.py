"""A line to a PostgreSQL server that can be cut as a network is: segments get lost, nobody is told.

While it is cut, a socket filter (socket(7), SO_ATTACH_FILTER) drops each segment before the kernel
acknowledges it, so that a client sees retransmissions and timeouts, not a closed connection. That takes
no privileges. What was under way arrives after the line is joined, unless the client has given up.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

#: asm-generic/socket.h, and the filter that drops every segment (linux/filter.h: BPF_RET | BPF_K, 0).
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)

#: Seconds until the server's side takes a silent client for gone: idle, interval, and their number.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))

_SOCKET = ".s.PGSQL.5432"
_PIECE = 1 << 18


class CutLine:
    """Forwards TCP connections from a port on 127.0.0.1 to a server's Unix socket, two threads for each.

    :param server: folder of the server's socket.
    :ivar port: where clients connect.
    """

    def __init__(self, server: Path) -> None:
        self._server = server
        self._open = threading.Event()  # requests pass
        self._answers = threading.Event()  # answers pass
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._is_closed = False
        self._open.set()
        self._answers.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def lead_to(self, server: Path) -> None:
        """Lead new connections to another server."""
        self._server = server

    def cut(self) -> None:
        """Drop everything, in both directions, new connections included."""
        with self._lock:
            self._open.clear()
            self._answers.clear()
            for each in (self._listener, *self._clients):
                _drop_all(each)

    def lose_answers(self) -> None:
        """Let requests pass, and no answer."""
        self._answers.clear()

    def join(self) -> None:
        """Let everything pass again."""
        with self._lock:
            for each in (self._listener, *self._clients):
                with suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            self._open.set()
            self._answers.set()

    def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        self.join()
        with self._lock:
            for each in (self._listener, *self._clients):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                client.setsockopt(socket.IPPROTO_TCP, option, value)
            with self._lock:
                self._clients.add(client)
                if not self._open.is_set():
                    _drop_all(client)
            threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(self._server / _SOCKET))
            back = threading.Thread(
                target=self._forward, args=(server, client, self._answers), name="line", daemon=True
            )
            back.start()
            self._forward(client, server, self._open)
            back.join()
        except OSError:
            pass
        finally:
            with self._lock:
                self._clients.discard(client)
                client.close()
            server.close()

    def _forward(self, source: socket.socket, target: socket.socket, passes: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(_PIECE):
                passes.wait()
                target.sendall(data)
        passes.wait()  # nor does the end of a connection get through
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _drop_all(sock: socket.socket) -> None:
    program = ctypes.create_string_buffer(_DROP, len(_DROP))
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
