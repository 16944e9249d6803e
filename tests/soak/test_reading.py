"""How the campaign's scrapers read: strictly, or they would take a broken response for a whole one."""

from __future__ import annotations

import pytest
from soak.line import WrongAnswer, body_of
from soak.marks import Mark, Reading, Unreadable, read

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
    own += b'oneshotd_scraper_uncertain_events_total{scraper="ann"} 6.0\n'
    assert read(text + OWN + own, at=1.0) == Reading(
        process="1.5e+09",
        amounts={marks[0].identity: 3, marks[1].identity: 1},
        kernel_drops=4,
        uncertain={"ann": 6},
        at=1.0,
    )


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'soak{n="7",sender="a"} 1\n' * 2 + OWN, id="a series twice"),
        pytest.param(b'soak{n="7"} 1\n' + OWN, id="a sample that was never sent"),
        pytest.param(OWN.strip(), id="the last line cut"),
        pytest.param(b"up 1\n", id="no process"),
    ],
)
def test_what_cannot_be_accounted_for(body: bytes) -> None:
    """It ends up in the report, and fails the campaign."""
    with pytest.raises(Unreadable):
        read(body, at=0.0)
