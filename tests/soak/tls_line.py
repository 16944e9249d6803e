"""The same over TLS, record by record: what the scraper has not read is left to its kernel.

It ends as a client in Go does: by close_notify, and then by a close or a reset.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from soak.line import CutShort, Line
from support.certificates import Authority
from support.processes import free_port

#: Seconds between two looks for a record that has come in part.
LOOK = 0.002


class TLSLine(Line):
    """One connection of a scraper.

    :raises OSError: nobody is there, or the handshake fails.
    """

    def __init__(self, port: int, window: int | None = None) -> None:
        super().__init__(port, window)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._taken = b""  # of a record whose rest is in the kernel, or has not come
        self._seen = 0  # bytes of `_taken` and the kernel's queue that are decrypted
        self._ahead: list[tuple[bytes, int]] = []  # records that were not asked for, and their sizes
        self._ended = False
        try:
            self._handshake()
        except OSError:
            self.close()
            raise

    def _handshake(self) -> None:
        while True:
            with suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                self._flush()
                return
            self._flush()
            piece = self._sock.recv(5)
            while len(piece) < 5 or len(piece) < 5 + int.from_bytes(piece[3:5]):
                more = self._sock.recv((5 if len(piece) < 5 else 5 + int.from_bytes(piece[3:5])) - len(piece))
                if not more:
                    raise ConnectionError("closed in the handshake")
                piece += more
            self._incoming.write(piece)

    def _send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())

    def receive(self, data: bytes, size: int, until: float) -> bytes:
        """`data` and at least one record more, until `size` is reached."""
        got = b""
        while not got:
            self._look()
            while self._ahead and len(got) < size:
                plain, length = self._ahead.pop(0)
                self._take(length)
                got += plain
            if not got:
                self._wait(data, until)
        return data + got

    def _take(self, length: int) -> None:
        """Take the first record out of the kernel; it is decrypted already."""
        rest = length - len(self._taken)
        self._taken = b""
        self._seen -= length
        while rest:
            rest -= len(self._sock.recv(rest))

    def _wait(self, data: bytes, until: float) -> None:
        """Wait for more of a record; take what is there, since a window may be smaller than a record."""
        if self._ended:
            raise CutShort("closed by the daemon", data)
        try:
            self._sock.settimeout(max(0.001, until - time.monotonic()))
            head = self._taken + self._sock.recv(max(0, 5 - len(self._taken)), socket.MSG_PEEK)
            if len(head) < 5:
                piece = self._sock.recv(5 - len(self._taken))
            else:
                piece = self._sock.recv(5 + int.from_bytes(head[3:5]) - len(self._taken))
        except OSError as error:
            raise CutShort(str(error), data) from error
        if not piece:
            raise CutShort("closed by the daemon", data)
        self._taken += piece

    def _look(self) -> None:
        """Decrypt the records that have come, and leave them in the kernel."""
        there = self._taken + self._in_kernel()
        while len(there) >= self._seen + 5:
            size = 5 + int.from_bytes(there[self._seen + 3 : self._seen + 5])
            if len(there) < self._seen + size:
                break
            self._incoming.write(there[self._seen : self._seen + size])
            self._seen += size
            self._ahead.append((self._decrypted(), size))

    def _decrypted(self) -> bytes:
        found = b""
        try:
            while piece := self._tls.read(1 << 16):
                found += piece
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:  # close_notify, or an alert
            self._ended = True
        return found

    def peek(self) -> bytes:
        """What has come and is unread, decrypted; it stays unread."""
        self._look()
        return b"".join(plain for plain, _ in self._ahead)

    def stop_taking(self, *, reset: bool = False) -> tuple[bytes, bool]:
        """Do the same, after close_notify unless a reset is asked for."""
        if not reset:
            with suppress(ssl.SSLError):  # the answer is not there
                self._tls.unwrap()
            with suppress(OSError):
                self._sock.settimeout(5.0)
                self._flush()
        return super().stop_taking(reset=reset)

    def await_answer(self, until: float) -> None:
        """Wait until there is something to read, and read nothing; tickets of TLS 1.3 are nothing."""
        while not self.peek() and not self._ended and time.monotonic() < until:
            time.sleep(LOOK)


@frozen
class Door:
    """Where the scrapers connect, and how.

    :param port: beside the daemon's own, if there is one.
    :param options: of the daemon, for this port.
    """

    port: int | None = None
    options: Sequence[str] = ()
    connect: Callable[[int, int | None], Line] = Line

    @classmethod
    def with_tls(cls, folder: Path) -> Door:
        """Return a door for TLS, with a certificate in a folder of its own."""
        pair, port = Authority(folder / "tls").issue("oneshotd"), free_port()
        where = f"--http=ssl:{port}:interface=127.0.0.1:privateKey={pair.key}:certKey={pair.cert}"
        return cls(port, (where,), TLSLine)
