"""A TCP proxy between the daemon and a receiver of remote write, which loses requests and answers."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from enum import Enum
from itertools import cycle
from types import TracebackType

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
#: Seconds that an answer may take.
PATIENCE = 30.0


class Fault(Enum):
    """What happens to a request."""

    #: Nothing of it is passed on.
    LOST = "lost"
    #: Half of it is passed on.
    HALF = "half"
    #: It is passed on, and its answer is lost.
    NO_ANSWER = "no answer"


class ReceiverLine:
    """Listens on a port of 127.0.0.1 for as long as it is entered.

    :param target: the receiver's port on the same address.
    :param every: each request of this number has a fault, all kinds in turn; 0: none has.
    :ivar requests: number of requests; `broken`: of those with a fault.
    """

    def __init__(self, target: int, every: int = 0) -> None:
        self.requests = 0
        self.broken = 0
        self.every = every
        self._target = target
        self._faults = cycle(Fault)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._accept)
        self._more: list[threading.Thread] = []

    def __enter__(self) -> ReceiverLine:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join(PATIENCE)
        for thread in self._more:
            thread.join(PATIENCE)
        self._listener.close()

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        while not self._ends.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._more.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        address = ("127.0.0.1", self._target)
        with client, suppress(OSError), socket.create_connection(address, PATIENCE) as server:
            while request := self._message(client):
                fault = self._fault()
                if fault is Fault.LOST:
                    return
                server.sendall(request if fault is not Fault.HALF else request[: len(request) // 2])
                if fault is Fault.HALF:
                    return
                answer = self._message(server)
                if fault is Fault.NO_ANSWER or not answer:
                    return
                client.sendall(answer)

    def _fault(self) -> Fault | None:
        with self._lock:
            self.requests += 1
            if not self.every or self.requests % self.every:
                return None
            self.broken += 1
            return next(self._faults)

    def _message(self, peer: socket.socket) -> bytes:
        """Read a request or an answer with its body; nothing if the peer has closed."""
        peer.settimeout(0.1)
        data = b""
        while not self._ends.is_set():
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                length = _LENGTH.search(data[: end + 2])
                if len(data) >= end + 4 + (int(length[1]) if length else 0):
                    return data
            with suppress(TimeoutError):
                more = peer.recv(1 << 20)
                if not more:
                    return b""
                data += more
        return b""
