"""A scraper on a raw socket of another host, for tests of networks and crashes with a real daemon.

It has the events of the responses that it has read to the end by Content-Length, as Prometheus does.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ssl import TLSVersion

from attrs import Factory, define, frozen
from support.daemon import Daemon
from support.processes import until
from support.tls_socket import TLSSocket
from support.veth import PATIENCE, Wire

#: Seconds of a scrape's timeout: one that passes in a test, and one that does not.
SHORT, LONG = 2, 60

#: Receive buffers in bytes, which the kernel doubles (tcp(7)): one that bounds the bytes that a slow
#: scraper has not read, and one that is too small for a response of 10 KB.
BUFFER, SMALL_BUFFER = 65536, 2048

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for 0 s
_EVENT = re.compile(rb'^seen\{n="(\d+)"', re.MULTILINE)
_LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.MULTILINE | re.IGNORECASE)
_FIGURE = re.compile(r'^oneshotd_scraper_(\w+)\{scraper="(.*)"\} (\S+)$', re.MULTILINE)
_WITH_EVENTS = re.compile(r'^oneshotd_scrapes_total\{result="events"\} (\S+)$', re.MULTILINE)


@frozen
class Figures:
    """The daemon's counts of a scraper's events."""

    delivered: int = 0
    returned: int = 0
    revoked: int = 0
    uncertain: int = 0


@define(eq=False)
class Connection:
    """A scraper's end of a connection; the responses arrive in the order of the requests."""

    sock: socket.socket | TLSSocket
    got: Counter[str]
    _path: str
    _read: bytes = b""

    def ask(self, *lines: str, timeout: float = LONG, version: str = "1.1", times: int = 1) -> None:
        """Send a scrape, or several at once."""
        timeout_line = f"X-Prometheus-Scrape-Timeout-Seconds: {timeout}"
        self.sock.sendall(_request(f"GET {self._path} HTTP/{version}", timeout_line, *lines) * times)

    def read(self) -> int:
        """Read one response to its end; return the number of its events, which the scraper now has.

        :raises OSError: the connection ends before the response.
        """
        while b"\r\n\r\n" not in self._read:
            self._more()
        head = self._read.partition(b"\r\n\r\n")[0] + b"\r\n"
        assert re.match(rb"HTTP/1\.[01] 200 ", head), head
        found = _LENGTH.search(head)
        assert found, head
        end = len(head) + 2 + int(found[1])
        self.read_some(end)
        events = _EVENT.findall(self._read[len(head) + 2 : end])
        self._read = self._read[end:]
        self.got.update(number.decode() for number in events)
        return len(events)

    def read_some(self, size: int) -> None:
        """Read until this number of bytes of the response has arrived."""
        while len(self._read) < size:
            self._more()

    def read_what_came(self) -> None:
        """Read all bytes that have arrived."""
        self.sock.setblocking(False)
        try:
            while True:
                self._more()
        except BlockingIOError:
            self.sock.settimeout(PATIENCE)

    def is_ended(self) -> bool:
        """Wait for the daemon's close; return whether no bytes came before it."""
        return not self._read and self.sock.recv(1) == b""

    def finish(self) -> None:
        """Send a FIN, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close: a FIN if all bytes were read, else a reset by the kernel; in TLS after close_notify."""
        if isinstance(self.sock, TLSSocket):
            with suppress(OSError):
                self.sock.close_notify()
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.sock.close()

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Give the connection to a process that never reads."""
        child = subprocess.Popen(["sleep", "60"], pass_fds=[self.sock.fileno()])
        with child:
            try:
                self.sock.close()
                yield child
            finally:
                child.kill()

    def _more(self) -> None:
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the connection ended in the middle of a response")
        self._read += data


@define(eq=False)
class Scraper:
    """A scraper on the other host, and the events that are stored for it alone.

    :param port: of the daemon, on every address of its host.
    :param tls_port: the same for TLS; None to scrape without it.
    :ivar got: number of an event -> how often it was in a response read to its end.
    """

    name: str
    wire: Wire
    daemon: Daemon
    port: int
    tls_port: int | None = None
    got: Counter[str] = Factory(Counter)
    sent: int = 0
    _opened: list[Connection] = Factory(list)

    def connect(self, receive_buffer: int = BUFFER, limit: int | None = None) -> Connection:
        """Open a connection.

        :param limit: of the samples in a response.
        """
        path = f"/metrics?scraper={self.name}" + (f"&limit={limit}" if limit else "")
        port = self.port if self.tls_port is None else self.tls_port
        bare = self.wire.theirs.connect(self.wire.ours.address, port, receive_buffer)
        sock: socket.socket | TLSSocket = bare
        if self.tls_port is not None:
            sock = TLSSocket(bare, TLSVersion.TLSv1_3)
            sock.do_handshake()
        self._opened.append(Connection(sock, self.got, path))
        return self._opened[-1]

    def scrape(self) -> int:
        """Scrape on a new connection; return the number of events."""
        connection = self.connect()
        connection.ask()
        count = connection.read()
        connection.close()
        return count

    def post(self, events: int, size: int = 1000) -> None:
        """Store events with about `size` bytes each, from the daemon's host."""
        numbers = range(self.sent, self.sent + events)
        self.sent += events
        lines = "\n".join(f"__name__=seen&n={number}&pad={'x' * size}" for number in numbers)
        answer = self._locally("POST /events HTTP/1.1", body=lines.encode())
        assert json.loads(answer) == {"stored": events, "duplicates": 0}

    def figures(self) -> Figures:
        """Return the counts from the daemon's metrics."""
        own = self._own_metrics()
        return Figures(*(own[f"{what}_events_total"] for what in Figures.__annotations__))

    def await_figures(self, **expected: int) -> None:
        """Wait until the daemon has exactly these counts."""
        goal = Figures(**expected)
        until(lambda: self.figures() == goal, PATIENCE, lambda: f"{goal}, but {self.figures()}")

    @contextmanager
    def until_sent(self) -> Iterator[None]:
        """At the end, wait until the daemon has sent a further response with events."""
        before = self._sent_with_events()
        yield
        until(lambda: self._sent_with_events() > before, PATIENCE, "a response with events")

    def check(self, *, twice: int = 0, **figures: int) -> None:
        """Check that all events have arrived, `twice` of them twice, and that the daemon's counts agree."""
        self.await_figures(**figures)
        assert self.scrape() == 0
        assert set(self.got) == {str(number) for number in range(self.sent)}
        assert sorted(self.got.values()) == [1] * (self.sent - twice) + [2] * twice
        assert self._own_metrics()["pending_events"] == 0
        assert self.daemon.errors() == []

    def close(self) -> None:
        """Close all connections."""
        for connection in self._opened:
            connection.close()

    def _own_metrics(self) -> dict[str, int]:
        found = _FIGURE.findall(self._look())
        return {figure: int(float(number)) for figure, name, number in found if name == self.name}

    def _sent_with_events(self) -> float:
        return sum(float(number) for number in _WITH_EVENTS.findall(self._look()))

    def _look(self) -> str:
        return self._locally("GET /metrics?scraper=nobody HTTP/1.1", "Accept: text/html").decode()

    def _locally(self, *lines: str, body: bytes = b"") -> bytes:
        """Send a request from the daemon's host, past the tested network; return the body of the answer."""
        with self.wire.ours.connect("127.0.0.1", self.port) as sock:
            length = f"Content-Length: {len(body)}"
            sock.sendall(_request(*lines, "Connection: close", "Content-Type: text/plain", length) + body)
            answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        head, _, content = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), answer
        return content


def _request(*lines: str) -> bytes:
    return "\r\n".join([*lines, "Host: oneshotd", "", ""]).encode()
