"""Daemons that share a database, and a scraper that chooses one of them for each scrape."""

from __future__ import annotations

import re
import socket
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.daemon import Daemon
from support.postgresql_server import PostgreSQLServer
from support.processes import free_port

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s
_EVENT = re.compile(rb'^events_to_metrics\{n="(\d+)"[^}]*\} (\d+)', re.MULTILINE)
_LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.MULTILINE | re.IGNORECASE)
_FIGURE = re.compile(r"^oneshotd_scraper_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)


def daemon(
    folder: Path,
    server: PostgreSQLServer,
    database: str,
    *more: str,
    variables: Mapping[str, str] | None = None,
) -> Daemon:
    """Return a daemon on this database; its folder is new."""
    port = free_port()
    folder.mkdir()
    options = (
        f"--http=localhost:{port}",
        f"--udp=127.0.0.1:{port}",
        f"--store=postgresql:{server.address(database)}",
        *more,
    )
    return Daemon(folder, options=options, port=port, variables=variables)


def post(one: Daemon, numbers: Sequence[int], size: int = 0) -> None:
    """Report events, with so many bytes of padding each."""
    lines = "\n".join(f"n={number}" + (f"&pad={'x' * size}" if size else "") for number in numbers)
    connection = one.connection(30)
    try:
        connection.request("POST", "/events", lines.encode(), {"Content-Type": "text/plain"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
    finally:
        connection.close()


class Response:
    """A scrape on a socket, whose response is read as the test says."""

    def __init__(self, one: Daemon, path: str, timeout: float, buffer: int | None) -> None:
        self.sock = socket.socket()
        if buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(30)
        self.sock.connect(("127.0.0.1", one.port))
        header = f"X-Prometheus-Scrape-Timeout-Seconds: {timeout:g}"
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: oneshotd\r\n{header}\r\n\r\n".encode())

    def await_some(self) -> None:
        """Wait until the first bytes have arrived, and leave them unread."""
        assert self.sock.recv(1, socket.MSG_PEEK)

    def await_all(self) -> None:
        """Wait until all bytes have arrived, and leave them unread; the buffer must be large enough."""
        size = 1 << 22
        head = b""
        while b"\r\n\r\n" not in head:
            head = self.sock.recv(size, socket.MSG_PEEK)
        start = head.index(b"\r\n\r\n") + 4
        found = _LENGTH.search(head[:start])
        assert found
        end = start + int(found[1])
        while len(self.sock.recv(size, socket.MSG_PEEK)) < end:
            pass  # the rest is on its way over loopback

    def read(self) -> Counter[int]:
        """Read to the end and close; return how often each event was in it."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        start = data.index(b"\r\n\r\n") + 4
        assert data.startswith(b"HTTP/1.1 200 "), data[:start]
        found = _LENGTH.search(data[:start])
        assert found
        while len(data) < start + int(found[1]):
            data += self._more()
        self.sock.close()
        return Counter({int(number): int(count) for number, count in _EVENT.findall(data[start:])})

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.sock.close()

    def _more(self) -> bytes:
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the connection ended in the middle of a response")
        return data


def ask(
    one: Daemon, *, timeout: float = 10, query: str = "", buffer: int | None = None, name: str = "p"
) -> Response:
    """Send a scrape of a named scraper.

    :param timeout: seconds, as its header says.
    """
    return Response(one, f"/metrics?scraper={name}{query}", timeout, buffer)


def scrape(one: Daemon, *, timeout: float = 10, query: str = "", name: str = "p") -> Counter[int]:
    """Scrape; return how often each event was in the response."""
    return ask(one, timeout=timeout, query=query, name=name).read()


def figure(one: Daemon, name: str, scraper: str = "p", reason: str | None = None) -> float:
    """Return a figure of a scraper, as a look at this daemon shows it; 0 if there is none."""
    wanted = {f'scraper="{scraper}"'} | ({f'reason="{reason}"'} if reason is not None else set())
    for kind, labels, number in _FIGURE.findall(one.look()):
        if kind == name and set(labels.split(",")) == wanted:
            return float(number)
    return 0.0
