"""The line that the cluster campaign cuts: it must look like a cut network, not like a closed socket."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.cut_line import CutLine


@pytest.fixture
def line(tmp_path: Path) -> Iterator[CutLine]:
    """A line to a server that answers each piece with the same."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=echo, args=(client,), daemon=True).start()

    def echo(client: socket.socket) -> None:
        with client, suppress(OSError):
            while data := client.recv(100):
                client.sendall(data)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / ".s.PGSQL.5432"))
    listener.listen()
    thread = threading.Thread(target=serve)
    thread.start()
    made = CutLine(tmp_path)
    yield made
    made.close()
    listener.shutdown(socket.SHUT_RDWR)  # ends the wait of `accept`
    thread.join(10)
    listener.close()
    assert not thread.is_alive()


def client(line: CutLine) -> socket.socket:
    """A connection through the line that gives up after half a second without an acknowledgement."""
    made = socket.create_connection(("127.0.0.1", line.port), timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
    return made


def exchange(sock: socket.socket, data: bytes) -> bytes:
    sock.sendall(data)
    return sock.recv(100)


def test_a_cut_line_acknowledges_nothing_and_accepts_nothing(line: CutLine) -> None:
    """A daemon would otherwise be told of each cut at once, and its timeouts never be tried."""
    with closing(client(line)) as sock:
        assert exchange(sock, b"a") == b"a"
        line.cut()
        with pytest.raises(OSError, match="imed out") as found:
            exchange(sock, b"b")
        assert found.value.errno == errno.ETIMEDOUT
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", line.port), timeout=0.3)


def test_what_was_under_way_arrives_when_the_line_is_joined(line: CutLine) -> None:
    """A request that is delayed by the network, which a daemon must not take for lost."""
    with closing(client(line)) as sock:
        assert exchange(sock, b"a") == b"a"
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)
        line.cut()
        sock.sendall(b"b")
        line.join()
        assert sock.recv(100) == b"b"


def test_answers_alone_can_be_lost(line: CutLine) -> None:
    """The server has done it, and the client does not hear of that."""
    with closing(client(line)) as sock:
        assert exchange(sock, b"a") == b"a"
        line.lose_answers()
        sock.sendall(b"b")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        line.join()
        sock.settimeout(10)
        assert sock.recv(100) == b"b"
