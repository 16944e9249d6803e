"""A daemon that says what a test wants it to say, byte by byte, and remembers what it was asked."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from attrs import frozen

#: What `oneshotd.web.app` answers to one event.
STORED = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
#: Hang up instead of answering.
HANG_UP = b""
#: Seconds that anything here may take; a test that waits longer has failed.
PATIENCE = 20.0


def answer(status: int, body: bytes, **headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def tally(stored: int, duplicates: int = 0) -> bytes:
    """What is answered to many events."""
    return answer(200, f'{{"stored": {stored}, "duplicates": {duplicates}}}\n'.encode())


@frozen(kw_only=True)
class Asked:
    """A request as it came; names of headers in lower case."""

    first: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


class Server:
    """Answers one request after the other on 127.0.0.1; a context manager.

    :param answers: one for each request, of one part or of several with 50 ms between them; the
        last one for all that follow.
    :param closes: whether it closes each connection after its answer.
    :param tls: for https.
    """

    def __init__(
        self, *answers: bytes | Sequence[bytes], closes: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self.asked: list[Asked] = []
        self._answers = [[each] if isinstance(each, bytes) else list(each) for each in answers or (STORED,)]
        self._closes = closes
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()

    def bodies(self) -> list[bytes]:
        """The bodies of all requests."""
        return [asked.body for asked in self.asked]

    def _serve(self) -> None:
        self._listener.settimeout(0.02)
        connections = 0
        while not self._ends.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connections += 1
            with self._secured(connection) as connection:
                try:
                    connection.settimeout(PATIENCE)
                    if isinstance(connection, ssl.SSLSocket):
                        connection.do_handshake()
                    connection.settimeout(0.02)
                    while self._one(connection, connections) and not self._closes:
                        pass
                except (ConnectionError, ssl.SSLError):
                    pass

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _one(self, connection: socket.socket, number: int) -> bool:
        """Answer one request; whether there may be another."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            if not (more := self._read(connection)):
                return False
            data += more
        first, *lines = data[:end].decode().split("\r\n")
        headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
        body = data[end + 4 :]
        while len(body) < int(headers["content-length"]):
            if not (more := self._read(connection)):
                return False
            body += more
        self.asked.append(Asked(first=first, headers=headers, body=body, connection=number))
        parts = self._answers[min(len(self.asked), len(self._answers)) - 1]
        for index, part in enumerate(parts):
            if index and self._ends.wait(0.05):
                return False
            connection.sendall(part)
        return any(parts)

    def _read(self, connection: socket.socket) -> bytes:
        deadline = time.monotonic() + PATIENCE
        while not self._ends.is_set() and time.monotonic() < deadline:
            try:
                return connection.recv(65536)
            except TimeoutError:
                continue
        return b""


@contextmanager
def endless(beginning: bytes, again: bytes) -> Iterator[tuple[str, list[int]]]:
    """A server that says `again` until its client hangs up; its URL, and how many bytes it got rid of."""
    sent, ends = [0], threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)
    more = again * max(1, 65536 // len(again))

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                connection.recv(65536)
                connection.sendall(beginning)
                connection.settimeout(0.05)
                view = memoryview(more)
                deadline = time.monotonic() + PATIENCE
                at = 0
                while not ends.is_set() and time.monotonic() < deadline:
                    try:
                        count = connection.send(view[at:])
                    except TimeoutError:
                        continue
                    sent[0] += count
                    at = (at + count) % len(more)
        except OSError:  # the client has had enough
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", sent
    finally:
        ends.set()
        thread.join(PATIENCE)
        listener.close()
        assert not thread.is_alive()
