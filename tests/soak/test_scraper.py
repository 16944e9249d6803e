"""The scrapers of the crash campaign, without a daemon: what they leave unread, and how often."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import create_server, socket

from attrs import evolve
from soak.exchange import Exchange
from soak.ledger import REFUSAL, Books
from soak.scraper import CUTS_IN_A_ROW, PARTICULAR, STEADY, Habit, Scraper
from soak.senders import ODD_SCRAPES, OddSender

GOOD, ODD = b'soak{n="1",sender="plain-1"} 1\n', b'soak{n="1",sender="odd-1"} 1\n'

#: The daemon's own metrics, which stand behind the events.
OWN = b"process_start_time_seconds 1.5e+09\n" + b"# HELP a metric\n" * 1000


class Server:
    """Answers each scrape with the same lines.

    :ivar resets: connections that were reset.
    """

    def __init__(self, listener: socket, lines: bytes) -> None:
        self._listener = listener
        body = lines + OWN
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(body)}"
        self._answer = head.encode() + b"\r\n\r\n" + body
        self.port: int = listener.getsockname()[1]
        self.resets = 0

    def serve(self) -> None:
        """Serve one connection after the other until the listener is shut down."""
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    try:
                        while request := connection.recv(1 << 16):
                            connection.sendall(self._answer * request.count(b"GET "))
                    except ConnectionError:
                        self.resets += 1


@contextmanager
def serving(lines: bytes) -> Iterator[Server]:
    with create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener, lines)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(2)
            thread.join()


def turns(habit: Habit, lines: bytes, number: int) -> tuple[list[str], Books, Server]:
    """Outcomes of a scraper's exchanges, the books, and the server."""
    kept = Books(["ann"], ["ann"] if habit.refuses else [])
    with serving(lines) as server:
        scraper = Scraper("ann", habit, books=kept, port=server.port, seed=17)
        for _ in range(number):
            scraper.turn()
        scraper.leave()
    return [exchange.outcome for exchange in kept.accounts["ann"].exchanges], kept, server


def test_a_scraper_reads_after_two_responses_that_it_has_left_unread() -> None:
    """The daemon would search for a sample that is refused, and could set one aside that is not."""
    outcomes, kept, _ = turns(evolve(STEADY, timeout=0.05, cuts=1.0, dies=0.0), GOOD, 30)
    in_a_row = longest = 0
    for outcome in outcomes:
        in_a_row = 0 if outcome == "read" else in_a_row + 1
        longest = max(longest, in_a_row)
    assert longest == CUTS_IN_A_ROW
    assert len(kept.accounts["ann"].readings) >= 10


def test_a_response_without_events_ends_no_row() -> None:
    """The daemon does not take it for a sign that the scraper takes responses."""
    outcomes, _, _ = turns(evolve(STEADY, timeout=0.05, cuts=1.0, dies=0.0), b"", 12)
    cut = [outcome for outcome in outcomes if outcome != "read"]
    assert len(cut) == CUTS_IN_A_ROW


def test_the_particular_scraper_resets_at_an_odd_line() -> None:
    """The daemon would see an orderly end, and nothing would be refused."""
    outcomes, kept, server = turns(PARTICULAR, GOOD + ODD, 3)
    assert outcomes == [REFUSAL] * 3
    assert server.resets == 3
    assert kept.accounts["ann"].readings == []
    assert kept.faults[REFUSAL] == 3


def test_the_particular_scraper_reads_what_has_no_odd_line() -> None:
    """It would refuse innocent events, and the judge would not know."""
    outcomes, kept, server = turns(evolve(PARTICULAR, dies=0.0), GOOD, 3)
    assert outcomes == ["read"] * 3
    assert server.resets == 0
    assert kept.accounts["ann"].total == {"plain-1/1": 3}


def test_the_next_odd_event_waits_for_the_search() -> None:
    """On a slow machine more would be sent than can be searched for."""
    kept = Books(["ann"], ["ann"])
    sender = OddSender("odd-1", books=kept, port=1, seed=17, scraper="ann")
    sender.over.set()  # no pauses
    tried: list[float] = []
    sender._connect = lambda: not tried.append(time.monotonic())  # type: ignore[func-returns-value,method-assign]
    sender.post = lambda *_, **__: 200  # type: ignore[method-assign]
    for outcome in (REFUSAL, *["read"] * ODD_SCRAPES):
        kept.exchanged("ann", Exchange(port=1, timeout=1.0, asked=0.0, outcome=outcome))
        sender.turn()
    assert [sending.amounts for sending in kept.sendings] == [{"odd-1/1": 1}]
