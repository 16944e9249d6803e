"""A proxy before a PostgreSQL server that cuts a connection at a chosen request."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path

#: Seconds by which a delayed request arrives after its client was cut.
DELAY = 0.15

_SOCKET = ".s.PGSQL.5432"


class Cut(Enum):
    """What becomes of a request whose client loses its connection."""

    DROPPED = "the server never gets it"
    SWALLOWED = "the server answers, and the answer is lost"
    LINGERS = "the answer is lost, and the server's session stays open"
    DELAYED = "the server gets it when the client has been cut"
    HELD = "the server gets it after `go_on`, long after the client has been cut"
    HALTED = "the server gets half of it, and the rest after `go_on`; the client is not cut"


class CuttingProxy:
    """Forwards connections, each with two threads, from a socket in `folder` to the server's.

    :ivar cuts: number of connections cut so far.
    :ivar done: set when the server has answered a request that was held.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self._server = str(server / _SOCKET)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / _SOCKET))
        self._listener.listen()
        self._lock = threading.Lock()
        self._armed: tuple[Cut, bytes, int] | None = None
        self._sockets: list[socket.socket] = []
        self._late = 0  # one cut is armed at a time
        self.cuts = 0
        self.halted = threading.Event()
        self.go_on = threading.Event()
        self.done = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, cut: Cut, needle: bytes = b"", after: int = 0) -> None:
        """Cut at the next request that has `needle` in it, after so many that had it, too."""
        with self._lock:
            self._armed = (cut, needle, after)

    def disarm(self) -> None:
        """Cut nothing."""
        with self._lock:
            self._armed = None

    @property
    def is_calm(self) -> bool:
        """Whether each delayed request has come to the server."""
        return not self._late

    def close(self) -> None:
        """Close all connections."""
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            answers = threading.Event()
            swallow = threading.Event()
            threading.Thread(
                target=self._requests, args=(client, server, swallow, answers), daemon=True
            ).start()
            threading.Thread(
                target=self._answers, args=(server, client, swallow, answers), daemon=True
            ).start()

    def _struck(self, data: bytes) -> Cut | None:
        with self._lock:
            if self._armed is None or self._armed[1] not in data:
                return None
            cut, needle, after = self._armed
            if after > 0:
                self._armed = (cut, needle, after - 1)
                return None
            self._armed = None
            self.cuts += 1
            return cut

    def _requests(
        self, client: socket.socket, server: socket.socket, swallow: threading.Event, answers: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                cut = self._struck(data)
                if cut is None:
                    server.sendall(data)
                    continue
                if cut is Cut.HALTED:
                    half = len(data) // 2
                    server.sendall(data[:half])
                    self.halted.set()
                    self.go_on.wait(20)
                    server.sendall(data[half:])
                    continue
                swallow.set()
                self._late += cut in (Cut.DELAYED, Cut.HELD)
                if cut in (Cut.SWALLOWED, Cut.LINGERS):
                    server.sendall(data)
                    answers.wait(5)
                client.shutdown(socket.SHUT_RDWR)
                if cut in (Cut.DELAYED, Cut.HELD):
                    if cut is Cut.DELAYED:
                        time.sleep(DELAY)
                    else:
                        self.go_on.wait(20)
                    try:
                        server.sendall(data)
                        answers.wait(5)
                    finally:
                        self._late -= 1
                    if cut is Cut.HELD:
                        self.done.set()
                if cut is Cut.LINGERS:
                    return  # `close` ends the server's session
                break
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _answers(
        self, server: socket.socket, client: socket.socket, swallow: threading.Event, answers: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                if swallow.is_set():
                    answers.set()
                else:
                    client.sendall(data)
        answers.set()
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
