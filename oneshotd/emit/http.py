"""A small HTTP/1.1 client: POST, one request at a time, over a persistent connection.

`http.client` takes 20 ms to import, twice as long as Python takes to start. And the timeout of this
client covers the whole exchange, however slowly the bytes arrive.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from oneshotd.emit.answers import EmitError, EmitUnavailable
from oneshotd.emit.credentials import Reloaded
from oneshotd.emit.settings import NO_CREDENTIALS, Credentials, Target

if TYPE_CHECKING:
    from ssl import SSLContext

#: Bytes of an answer in all: interim answers, head, chunks, trailers and body. The daemon's longest
#: refusal has some 10 KB.
MAX_ANSWER_BYTES = 1024 * 1024


class _TooLong(Exception):
    """The answer is longer than `MAX_ANSWER_BYTES`."""


class _Closed(ConnectionResetError):
    """The server closed the connection in order."""


class Answer(NamedTuple):
    """An answer of the server.

    :param headers: by name in lower case; of two with the same name the last.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """A connection to one daemon, opened by the first request and again after each failure.

    :param credentials: the files for TLS, which are read for each connection.
    """

    def __init__(self, target: Target, credentials: Credentials = NO_CREDENTIALS) -> None:
        self._target = target
        self._credentials = credentials
        self._context = Reloaded(self._load_context)
        self._socket: socket.socket | None = None
        self._unread = bytearray()
        self._received = 0
        self._deadline = 0.0

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._unread.clear()

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
        """Send a request and return its answer.

        :param timeout: seconds for everything but the resolution of the host's name.
        :raises EmitUnavailable: no connection, no answer in time, an answer that is too long, or one
            that is not HTTP.
        :raises EmitRefused: one of the two sides does not accept the other's certificate.
        :raises SettingsError: a file for TLS cannot be used.
        """
        self._deadline = time.monotonic() + timeout
        self._received = 0
        try:
            if self._socket is None or self._unread or _has_news(self._socket):
                self.close()
                self._socket = self._opened()
            return self._exchange(self._head(path, len(body), headers) + body)
        except TimeoutError:
            self.close()
            raise EmitUnavailable(f"no answer within {timeout:g} s") from None
        except OSError as error:
            failure = self._failure(error)
            self.close()
            raise failure from None
        except _TooLong:
            self.close()
            raise EmitUnavailable(f"the answer is longer than {MAX_ANSWER_BYTES} bytes") from None
        except ValueError:
            self.close()
            raise EmitUnavailable("the answer is not HTTP") from None
        except BaseException:
            self.close()
            raise

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _opened(self) -> socket.socket:
        context = self._context() if self._target.scheme == "https" else None
        opened = self._connected()
        if context is None:
            return opened
        try:
            opened.settimeout(self._left())
            return context.wrap_socket(opened, server_hostname=self._target.name)
        except BaseException:
            opened.close()
            raise

    def _connected(self) -> socket.socket:
        """Connect to the first of the host's addresses that accepts."""
        host, port = self._target.host, self._target.port
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        failure: OSError = OSError("the host has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            opening = socket.socket(family, kind, protocol)
            try:
                # The time is shared, so that an address that does not answer leaves time for the next.
                opening.settimeout(self._left() / (len(addresses) - tried))
                opening.connect(address)
                opening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return opening
            except OSError as error:
                opening.close()
                failure = error
        raise failure

    def _load_context(self) -> SSLContext:
        from oneshotd.emit.tls import client_context  # here: only https needs it

        return client_context(self._credentials)

    def _exchange(self, data: bytes) -> Answer:
        assert self._socket is not None
        self._socket.settimeout(self._left())
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise
        except OSError:
            # The server may have refused the request before its end (RFC 9112 section 9.5), or TLS 1.3
            # the client's certificate, after the handshake: its answer or alert says why.
            answer = self._answer()
            self.close()
            if answer.status < 400:
                raise
            return answer
        answer = self._answer()
        while 100 <= answer.status < 200:  # interim, as 103 (RFC 9110 section 15.2)
            answer = self._answer()
        return answer

    def _failure(self, error: OSError) -> EmitError:
        """Return what the error of a connection means."""
        if self._target.scheme == "https":
            from oneshotd.emit.tls import tls_failure  # as above

            return tls_failure(error, self._credentials)
        if isinstance(error, _Closed) and not self._received:
            return EmitUnavailable(f"{error}; a server that expects https:// does so")
        return EmitUnavailable(error.strerror or str(error))

    def _head(self, path: str, length: int, headers: Mapping[str, str]) -> bytes:
        lines = [
            f"POST {self._target.path}{path} HTTP/1.1",
            f"Host: {self._target.address}",
            f"Content-Length: {length}",
            *(f"{name}: {text}" for name, text in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    def _answer(self) -> Answer:
        """Read an answer.

        :raises ValueError: the bytes are not HTTP.
        """
        version, _, status = self._line().partition(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(version)
        headers: dict[str, str] = {}
        for line in iter(self._line, ""):
            name, _, text = line.partition(":")
            headers[name.lower()] = text.strip()
        code = int(status[:3])
        if code < 200 or code in (204, 304):
            return Answer(code, headers, b"")
        stays = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._chunks()
        elif "content-length" in headers:
            body = self._bytes(int(headers["content-length"]))
        else:
            body, stays = self._rest(), False
        if not stays:
            self.close()
        return Answer(code, headers, body)

    def _line(self) -> str:
        searched = 0
        while (end := self._unread.find(b"\n", searched)) < 0:
            searched = len(self._unread)
            self._more()
        line = self._unread[:end]
        del self._unread[: end + 1]
        return line.removesuffix(b"\r").decode("latin-1")

    def _bytes(self, count: int) -> bytes:
        if count < 0:
            raise ValueError(count)
        if count > MAX_ANSWER_BYTES:
            raise _TooLong
        while len(self._unread) < count:
            self._more()
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken

    def _chunks(self) -> bytes:
        """Read a chunked body (RFC 9112 section 7.1); skip extensions and trailers."""
        chunks = []
        while size := int(self._line().partition(";")[0], 16):
            chunks.append(self._bytes(size))
            self._line()
        while self._line():
            pass
        return b"".join(chunks)

    def _rest(self) -> bytes:
        try:
            while True:
                self._more()
        except _Closed:
            taken = bytes(self._unread)
            self._unread.clear()
            return taken

    def _more(self) -> None:
        assert self._socket is not None
        self._socket.settimeout(self._left())
        data = self._socket.recv(65536)
        if not data:
            raise _Closed("the connection was closed before the end of the answer")
        self._received += len(data)
        if self._received > MAX_ANSWER_BYTES:
            raise _TooLong
        self._unread += data


def _has_news(idle: socket.socket) -> bool:
    """Return whether an idle connection is readable, which means that the server closed it."""
    poll = select.poll()
    poll.register(idle, select.POLLIN)
    return bool(poll.poll(0))
