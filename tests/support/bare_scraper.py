"""A scraper on a raw socket for tests with an asynchronous site: the test reads, closes and resets."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPMessage, HTTPResponse
from typing import Any, cast

from attrs import frozen
from support.tls_socket import TLSSocket
from twisted.internet.threads import deferToThread

#: Seconds after which a wait fails.
PATIENCE = 20.0

#: Resets the connection when it is closed (socket(7), SO_LINGER).
AT_ONCE = struct.pack("ii", 1, 0)

_EVENT = re.compile(rb'^seen\{number="(\d+)"[^}]*\} (\d+)$', re.MULTILINE)


@frozen
class Answer:
    """One response; `events` counts how often each event is in it."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def events(self) -> Counter[int]:
        return Counter({int(number): int(count) for number, count in _EVENT.findall(self.body)})


class Scraper:
    """A connection that the test reads.

    :param window: the receive buffer in bytes, as little as the kernel allows.
    """

    def __init__(self, where: Any, *, window: int | None = None) -> None:
        path = getattr(where, "name", None)
        self.sock = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        if window is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.sock.settimeout(PATIENCE)
        self.sock.connect((where.host, where.port) if path is None else path)
        self._file: Any = None

    def __enter__(self) -> Scraper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def handshake(self, *protocols: str) -> str | None:
        """Start TLS without checking the certificate; return the negotiated protocol."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(protocols)
        tls = await deferToThread(context.wrap_socket, self.sock)
        self.sock = tls
        return tls.selected_alpn_protocol()

    async def encrypt(self, version: ssl.TLSVersion) -> TLSSocket:
        """Start TLS as `handshake` does, with records that are read one by one."""
        tls = TLSSocket(self.sock, version)
        await deferToThread(tls.do_handshake)
        self.sock = cast(socket.socket, tls)
        return tls

    def say_goodbye(self) -> None:
        """Send close_notify without waiting for an answer."""
        self.sock.settimeout(0)
        with suppress(ssl.SSLError):
            cast(ssl.SSLSocket, self.sock).unwrap()
        self.sock.settimeout(PATIENCE)

    def ask(self, name: str = "one", *headers: str, times: int = 1, method: str = "GET", **more: str) -> None:
        """Send a scrape, or several in one segment."""
        version = more.get("version", "HTTP/1.1")
        path = more.get("path", f"/metrics?scraper={name}")
        lines = [f"{method} {path} {version}", "Host: oneshot.example", *headers, "", ""]
        self.send("\r\n".join(lines).encode() * times)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    async def answer(self, method: str = "GET") -> Answer:
        """Read one response to its end."""
        return cast(Answer, await deferToThread(self._answer, method))

    def _answer(self, method: str) -> Answer:
        if self._file is None:
            self._file = self.sock.makefile("rb")
        response = HTTPResponse(cast(Any, _Opened(self._file)), method=method)
        response.begin()
        return Answer(response.status, response.headers, response.read())

    async def read(self, size: int) -> bytes:
        """Read this number of bytes."""

        def read() -> bytes:
            data = bytearray()
            while len(data) < size:
                piece = self.sock.recv(size - len(data))
                assert piece, f"the connection ended after {len(data)} bytes"
                data += piece
            return bytes(data)

        return cast(bytes, await deferToThread(read))

    async def rest(self) -> bytes:
        """Read until the connection ends.

        :raises ConnectionResetError: it is reset.
        """

        return cast(bytes, await deferToThread(self._rest, self.sock.recv))

    async def rest_raw(self) -> bytes:
        """Read until the connection ends, below TLS."""
        return cast(bytes, await deferToThread(self._rest, partial(socket.socket.recv, self.sock)))

    @staticmethod
    def _rest(receive: Callable[[int], bytes]) -> bytes:
        data = bytearray()
        while piece := receive(1 << 16):
            data += piece
        return bytes(data)

    def finish_sending(self) -> None:
        """Send a FIN, as ``nc -N`` does."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close: a FIN if all was read, else the kernel resets."""
        if self._file is not None:
            self._file.close()
        self.sock.close()

    def reset(self) -> None:
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.close()


class _Opened:
    """A socket as `HTTPResponse` sees it, whose file outlives the response."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def makefile(self, mode: str) -> _Opened:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """Do nothing: the next response may follow."""
