"""How the campaign's scrapers read: strictly, or they would take a broken response for a whole one."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from soak.line import Line, WrongAnswer, body_of
from soak.marks import Mark, Reading, Unreadable, glimpse, has_odd_line, labels, read

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
OWN = b"process_start_time_seconds 1.5e+09\n"


def test_a_response_is_read_when_its_last_byte_is() -> None:
    """A response that a kill has cut does not count as read."""
    whole = HEAD + b"Content-Length: 5\r\n\r\nabcd\n"
    assert [body_of(whole[:i]) for i in range(len(whole))] == [None] * len(whole)
    assert body_of(whole) == b"abcd\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEAD + b"Content-Length: 1\r\n\r\nab", id="bytes after the end"),
        pytest.param(HEAD + b"\r\nabc", id="no length"),
        pytest.param(HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na", id="two lengths"),
        pytest.param(HEAD.replace(b"200 OK", b"500 Oh") + b"Content-Length: 1\r\n\r\na", id="another status"),
        pytest.param(HEAD + b"Oneshotd-Look: 1\r\nContent-Length: 1\r\n\r\na", id="a look"),
        pytest.param(HEAD.replace(b"plain", b"html") + b"Content-Length: 1\r\n\r\na", id="another type"),
    ],
)
def test_what_is_no_answer_to_a_scrape(data: bytes) -> None:
    """Prometheus would throw it away, too."""
    with pytest.raises(WrongAnswer):
        body_of(data)


def test_an_event_is_known_again() -> None:
    """What is sent under a name is read under the same."""
    text = (
        b'# TYPE soak gauge\nsoak{n="7",pad="xx",sender="bulk-1"} 3\nsoak_value{n="8",sender="keyed-1"} 5\n'
    )
    marks = [Mark(sender="bulk-1", n=7, pad=2), Mark(sender="keyed-1", n=8, value=5)]
    own = b"oneshotd_udp_kernel_drops_total 4.0\n"
    assert read(text + OWN + own, at=1.0) == Reading(
        process="1.5e+09",
        amounts={marks[0].identity: 3, marks[1].identity: 1},
        kernel_drops=4,
        at=1.0,
        samples=4,
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'soak{n="7",sender="a"} 1\n' * 2 + OWN, id="a series twice"),
        pytest.param(b'soak{n="7"} 1\n' + OWN, id="a sample that was never sent"),
        pytest.param(OWN.strip(), id="the last line cut"),
        pytest.param(b"up 1\n", id="no process"),
        pytest.param(b'events_to_metrics{_13_Nov="x"} 2\n' + OWN, id="a foreign line taken for an event"),
    ],
)
def test_what_cannot_be_accounted_for(body: bytes) -> None:
    """It ends up in the report, and fails the campaign."""
    with pytest.raises(Unreadable):
        read(body, at=0.0)


def test_of_half_a_response_the_whole_lines_are_known() -> None:
    """Nobody could tell which events a response had that a scraper gave up."""
    body = HEAD + b'\r\nsoak{n="1",sender="a"} 2\nsoak_value{n="2",sender="a"} 7\nsoak{n="3",sender="a"} 1'
    assert glimpse(body) == {"a/1": 2, "a/2=7": 1}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param(b'soak{n="1",sender="odd-1"} 1\n', True, id="a whole line"),
        pytest.param(b'soak{n="1",sender="odd-1"} 1', False, id="not all of it has come"),
        pytest.param(b'soak{n="1",sender="plain-1"} 1\n' + OWN, False, id="another sender"),
    ],
)
def test_a_line_is_refused_when_it_has_come(lines: bytes, found: bool) -> None:
    """A scraper that parses line by line decides at the end of one."""
    assert has_odd_line(HEAD + b"\r\n" + lines) is found


def test_labels_are_told_in_any_order() -> None:
    """A loss would be put down to another scraper."""
    series = 'oneshotd_scraper_lost_events_total{reason="refused by scraper",scraper="fay"}'
    assert labels(series) == {"scraper": "fay", "reason": "refused by scraper"}


# How a scraper leaves a response unread


@contextmanager
def connected() -> Iterator[tuple[Line, socket.socket]]:
    """A scraper's connection and the daemon's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(listener.getsockname()[1])
        end, _ = listener.accept()
    with line, end:
        end.settimeout(5)
        yield line, end


def ends_with_a_reset(end: socket.socket) -> bool:
    """Whether what the daemon reads last is a reset."""
    try:
        while end.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    return False


@pytest.mark.parametrize("reset", [False, True])
def test_nothing_is_acknowledged_after_the_last_look(reset: bool) -> None:
    """The rest of a response would come between look and close: the daemon would take it for
    delivered, and the books would not know of it."""
    with connected() as (line, end):
        end.sendall(b"head")
        line.await_answer(time.monotonic() + 5)
        assert line.stop_taking(reset=reset) == (b"head", False)
        end.sendall(b"rest")
        assert line.peek() == b"head"
        line.close(reset=reset)
        assert ends_with_a_reset(end)


def test_with_nothing_unread_a_fin_goes_first() -> None:
    """A scraper that hangs up before the answer would be told from a real one."""
    with connected() as (line, end):
        assert line.stop_taking() == (b"", True)
        assert end.recv(1) == b""
        end.sendall(b"answer")
        poll = select.poll()
        poll.register(end, 0)
        assert poll.poll(5000), "the answer is met by a reset"
        assert line.peek() == b""
