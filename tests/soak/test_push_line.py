"""The line before a campaign's receiver does what its record says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from soak import push_line
from soak.ledger import Books
from soak.push_line import (
    ANSWER_HALF,
    ANSWER_LATE,
    ANSWER_LOST,
    HALF,
    LOST,
    PUSHED,
    REQUEST_LATE,
    SLOW,
    PushLine,
)
from support.exchange_line import is_whole
from support.processes import until

REQUEST = b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
TIMEOUT = 0.2


class Receiver:
    """Answers each whole request, and keeps what came.

    :ivar came: bytes of each connection.
    """

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                data = b""
                while more := client.recv(1000):
                    data += more
                    if is_whole(data):
                        client.sendall(ANSWER)
                self.came.append(data)

    def close(self) -> None:
        with suppress(OSError):  # it is closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


def ask(port: int) -> tuple[bytes, float]:
    """Send a request; return what came until the end or a whole answer, and the seconds that it took."""
    began, data = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(REQUEST)
        while not is_whole(data) and (more := client.recv(1000)):
            data += more
    return data, time.monotonic() - began


@pytest.mark.parametrize(
    ("fault", "came", "answer", "slow"),
    [
        (None, REQUEST, ANSWER, False),
        (LOST, b"", b"", False),
        (HALF, REQUEST[: len(REQUEST) // 2], b"", False),
        (ANSWER_LOST, REQUEST, b"", False),
        (ANSWER_HALF, REQUEST, ANSWER[: len(ANSWER) // 2], False),
        (SLOW, REQUEST, ANSWER, False),
        (REQUEST_LATE, REQUEST, ANSWER, True),
        (ANSWER_LATE, REQUEST, ANSWER, True),
    ],
)
def test_each_fault(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    fault: str | None,
    came: bytes,
    answer: bytes,
    slow: bool,
) -> None:
    """A campaign would count faults that it does not make."""
    monkeypatch.setattr(push_line, "DRAWN", (fault,))
    monkeypatch.setattr(push_line, "SHARE", 0.0 if fault is None else 1.0)
    monkeypatch.setattr(push_line, "TIMEOUT", TIMEOUT)
    monkeypatch.setattr(push_line, "LATE", 0.1)
    books = Books([])
    with PushLine(receiver.port, books=books, seed=1) as line:
        line.calm = fault is None
        got, seconds = ask(line.port)
    assert got == answer
    assert not slow or seconds > TIMEOUT
    receiver.close()
    assert receiver.came == [came]
    assert books.faults == ({} if fault is None else {fault: 1})
    [pushed] = line.pushed
    assert (pushed.body, pushed.fault) == (b"body", fault or "")
    assert pushed.status == ("204" if came == REQUEST else "")
    assert (pushed.ended is not None) == (answer == ANSWER)


def test_an_exchange_is_held_at_a_moment(receiver: Receiver) -> None:
    """A kill between two steps would come when they are over."""
    books = Books([])
    with PushLine(receiver.port, books=books, seed=1) as line:
        line.calm = True
        with line.holding(PUSHED):
            asking = threading.Thread(target=ask, args=(line.port,))
            asking.start()
            until(lambda: line.pushed, 10, "the request")
            time.sleep(0.1)
            assert line.pushed[0].status == ""
        asking.join(10)
        assert line.pushed[0].status == "204"
