"""HTTP as a strict scraper speaks it: over a raw socket, every byte accounted for.

Only a raw socket can leave bytes unread, look at what it leaves, and reset in the middle.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from contextlib import suppress
from types import TracebackType

#: Most that is looked at without reading it, bytes.
PEEK = 16 << 20

#: asm-generic/socket.h, and the filter that drops every segment (linux/filter.h: BPF_RET | BPF_K, 0).
SO_ATTACH_FILTER = 26
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)

_CONTENT_TYPE = "text/plain; version=0.0.4"


class CutShort(Exception):
    """The response did not come whole; it counts as not read.

    :ivar data: what came of it.
    """

    def __init__(self, why: str, data: bytes) -> None:
        super().__init__(why)
        self.data = data


class WrongAnswer(Exception):
    """What came is not an answer to a scrape."""


def body_of(data: bytes) -> bytes | None:
    """The body of the response that begins these bytes; None while it is not all there.

    :raises WrongAnswer: it is no response to a scrape, or bytes follow it.
    """
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not status.startswith("HTTP/1.1 200 "):
        raise WrongAnswer(f"{status!r} {body[:200]!r}")
    if "oneshotd-look" in headers:
        raise WrongAnswer("a scrape was answered with a look")
    if not headers.get("content-type", "").startswith(_CONTENT_TYPE):
        raise WrongAnswer(f"Content-Type: {headers.get('content-type')!r}")
    if "content-length" not in headers or "transfer-encoding" in headers:
        raise WrongAnswer(f"no length to read to: {headers}")
    length = int(headers["content-length"])
    if len(body) > length:
        raise WrongAnswer(f"{len(body) - length} bytes after the response")
    return body if len(body) == length else None


class Line:
    """One connection of a scraper.

    :param window: receive buffer, bytes; None for the kernel's choice.
    :ivar port: its own port, by which the daemon knows it.
    :raises OSError: nobody is there.
    """

    def __init__(self, port: int, window: int | None = None) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if window is not None:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            self._sock.settimeout(5.0)
            self._sock.connect(("127.0.0.1", port))
            self.port: int = self._sock.getsockname()[1]
        except OSError:
            self._sock.close()
            raise

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, scraper: str, timeout: float, *, close: bool = False, more: str = "") -> None:
        """Send a scrape request.

        :param timeout: what the scraper says of itself, seconds.
        :param more: further parameters of the query.
        :param close: have the daemon close the connection.
        :raises CutShort: the connection is gone.
        """
        head = (
            f"GET /metrics?scraper={scraper}{more} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: soak/1\r\n"
            f"Accept: text/plain;version=0.0.4\r\nX-Prometheus-Scrape-Timeout-Seconds: {timeout:g}\r\n"
            f"{'Connection: close' if close else 'Connection: keep-alive'}\r\n\r\n"
        )
        try:
            self._sock.settimeout(5.0)
            self._send(head.encode())
        except OSError as error:
            raise CutShort(str(error), b"") from error

    def _send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def receive(self, data: bytes, size: int, until: float) -> bytes:
        """`data` and at most `size` bytes more.

        :param until: monotonic seconds at which the scraper gives up.
        :raises CutShort: the end of the connection, or of the patience.
        """
        try:
            self._sock.settimeout(max(0.001, until - time.monotonic()))
            piece = self._sock.recv(size)
        except OSError as error:
            raise CutShort(str(error), data) from error
        if not piece:
            raise CutShort("closed by the daemon", data)
        return data + piece

    def peek(self) -> bytes:
        """What has come and is unread; it stays unread."""
        return self._in_kernel()

    def _in_kernel(self) -> bytes:
        self._sock.settimeout(0)  # with one, Python waits for bytes in spite of MSG_DONTWAIT
        try:
            return self._sock.recv(PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return b""

    def stop_taking(self, *, reset: bool = False) -> tuple[bytes, bool]:
        """From now on acknowledge nothing; what is unread, and whether the daemon is told so by a FIN.

        What is unread then is all that the daemon's side can take for delivered: between a plain look
        and the close, the kernel might acknowledge the rest of a response. Where nothing is unread
        the close will send a FIN, so the FIN goes here; the kernel answers what comes behind it with
        a reset, as after any close. Otherwise the close will send a reset, and until then all that
        comes is dropped.

        :param reset: the close will send a reset in any case.
        """
        if not reset and not self._in_kernel():
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            return self.peek(), True
        program = ctypes.create_string_buffer(_DROP, len(_DROP))
        with suppress(OSError):  # it is gone, and nothing more can come
            self._sock.setsockopt(
                socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
            )
        return self.peek(), False

    def await_answer(self, until: float) -> None:
        """Wait until there is something to read, and read nothing."""
        with suppress(OSError):
            self._sock.settimeout(max(0.001, until - time.monotonic()))
            self._sock.recv(1, socket.MSG_PEEK)

    def close(self, *, reset: bool = False) -> None:
        """Close: with bytes unread the kernel sends a reset, otherwise a FIN.

        :param reset: a reset in any case.
        """
        if reset:
            with suppress(OSError):  # it is reset already
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
