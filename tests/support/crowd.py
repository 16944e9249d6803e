"""Many connections at once that nobody waits for, driven by one thread."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import define, field
from support.siege import need_descriptors

#: Seconds between two rounds through all connections, unless a test wants others.
ROUND = 0.05


@define(eq=False)
class Line:
    """One connection.

    :ivar number: of it; no two of a crowd have the same.
    :ivar opened: when, monotonic seconds.
    :ivar rest: what is still to be sent.
    :ivar spoke: it has sent something.
    :ivar got: the beginning of what has come back.
    """

    number: int
    sock: socket.socket
    opened: float
    rest: memoryview = field(factory=lambda: memoryview(b""))
    spoke: bool = False
    got: bytes = b""


@define
class Crowd:
    """As many connections all the time: one that has ended is opened anew.

    :param says: what a connection sends, over and over, or `once`.
    :param piece: bytes of it in one round at most.
    :param reads: whether answers are read.
    :param pause: seconds between two rounds through all connections.
    :ivar lives: seconds for which each connection lived that was ended by the daemon.
    :ivar answers: the beginnings of what such connections were answered.
    """

    port: int
    size: int
    says: Callable[[int], bytes]
    piece: int = 1 << 20
    reads: bool = True
    once: bool = False
    pause: float = ROUND
    lives: list[float] = field(factory=list)
    answers: list[bytes] = field(factory=list)
    sent: int = 0
    _lines: list[Line] = field(factory=list)
    _opened: int = 0

    @contextmanager
    def gathered(self) -> Iterator[Crowd]:
        """All are there; at the end they hang up."""
        need_descriptors(self.size + 200)
        try:
            for _ in range(self.size):
                self._lines.append(self._open())
            yield self
        finally:
            for line in self._lines:
                line.sock.close()

    def act(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Send and read for so long, or until that is so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            for index, line in enumerate(self._lines):
                if not self._live(line):
                    self.lives.append(time.monotonic() - line.opened)
                    self.answers.append(line.got)
                    line.sock.close()
                    self._lines[index] = self._open()
            time.sleep(self.pause)

    def _open(self) -> Line:
        sock = socket.socket()
        if not self.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", self.port))
        self._opened += 1
        return Line(self._opened, sock, time.monotonic())

    def _live(self, line: Line) -> bool:
        """One round of one connection; false if it has ended."""
        try:
            if not line.rest and not (self.once and line.spoke):
                line.rest, line.spoke = memoryview(self.says(line.number)), True
            if line.rest:
                sent = line.sock.send(line.rest[: self.piece])
                line.rest = line.rest[sent:]
                self.sent += sent
        except BlockingIOError:
            pass
        except OSError:
            return False
        if not self.reads:
            return True
        try:
            data = line.sock.recv(1 << 16)
            line.got = (line.got + data)[:100]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data)
