"""A TCP proxy before a receiver of remote write, which has each request and each answer whole in hand."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
#: Seconds for a connection to the receiver, and for a thread to end.
PATIENCE = 30.0


class Peer:
    """One end of the line.

    :param ends: set when the line is closed.
    """

    def __init__(self, sock: socket.socket, ends: threading.Event) -> None:
        self._sock = sock
        self._ends = ends

    def send(self, data: bytes) -> None:
        """Send it.

        :raises OSError: the peer is gone.
        """
        self._sock.settimeout(PATIENCE)
        self._sock.sendall(data)

    def message(self) -> bytes:
        """Read a request or an answer with its body; nothing if the peer, or the line, has closed."""
        self._sock.settimeout(0.1)
        data = b""
        while not self._ends.is_set():
            if is_whole(data):
                return data
            with suppress(TimeoutError):
                more = self._sock.recv(1 << 20)
                if not more:
                    return b""
                data += more
        return b""


def is_whole(data: bytes) -> bool:
    """Whether these bytes are a message with all of its body."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = _LENGTH.search(data[: end + 2])
    return len(data) >= end + 4 + (int(length[1]) if length else 0)


def body_of(message: bytes) -> bytes:
    """Return the body of a whole message."""
    return message.partition(b"\r\n\r\n")[2]


class ExchangeLine:
    """Listens on a port of 127.0.0.1 for as long as it is entered.

    :param target: the receiver's port on the same address.
    """

    def __init__(self, target: int) -> None:
        self.closing = threading.Event()
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept)
        self._more: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._thread.join(PATIENCE)
        for thread in self._more:
            thread.join(PATIENCE)
        self._listener.close()

    def exchange(self, request: bytes, receiver: Peer) -> bytes:
        """Pass a request on, and return what the daemon gets of the answer.

        After an answer that is not whole the connection is closed.

        :raises OSError: the connection is closed.
        """
        receiver.send(request)
        return receiver.message()

    def answered(self, request: bytes) -> None:
        """The daemon has got a whole answer; its kernel has, at least."""

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        while not self.closing.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._more = [each for each in self._more if each.is_alive()]
                self._more.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        address = ("127.0.0.1", self._target)
        with client, suppress(OSError), socket.create_connection(address, PATIENCE) as server:
            daemon, receiver = Peer(client, self.closing), Peer(server, self.closing)
            while request := daemon.message():
                answer = self.exchange(request, receiver)
                daemon.send(answer)
                if not is_whole(answer):
                    return
                self.answered(request)
