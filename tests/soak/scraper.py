"""The scrapers of a campaign: they write down what they have read to the last byte, or thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import evolve, frozen
from soak import marks
from soak.actor import Actor, Bag
from soak.exchange import Exchange
from soak.ledger import ASKED, FIRST, REFUSAL, Books
from soak.line import CutShort, Line, WrongAnswer, body_of

#: Where a scrape is broken off.
BEFORE, UNREAD, HALF_READ, LATE, AHEAD = (
    f"a scraper cuts its connection: {where}"
    for where in (
        "before the answer",
        "unread",
        "half-read",
        "unread, as its timeout ends",
        "after its next request",
    )
)
STALL = "a scraper stops reading until its timeout is over"
DEATH = "a scraper is gone after reading, before its next scrape"
CUTS = (BEFORE, UNREAD, HALF_READ, LATE, AHEAD, STALL, DEATH, REFUSAL)

#: How often each comes among those that are drawn for a scrape.
DRAWN = (BEFORE, *(UNREAD,) * 3, *(HALF_READ,) * 3, LATE, AHEAD, AHEAD)

#: Responses in a row that a scraper leaves unread. After a third one with events the daemon takes
#: their samples for suspects (docs/semantics.md, "A sample that a scraper refuses") and might set one
#: aside, which for a scraper that cuts at random would be a loss. Responses without events, and those
#: that end with the daemon, are counted here and not there.
CUTS_IN_A_ROW = 2

#: Seconds beyond its own timeout for which a scraper goes on reading that has stalled, or that has
#: left `CUTS_IN_A_ROW` responses unread: the daemon closes first, and that is no reset.
PATIENCE = 5.0

#: Bytes that a scraper reads before it stalls.
STALLED_AT = 1000

#: Seconds around its timeout in which a scraper closes late; the daemon takes a reset for one until
#: a second after it.
EARLIEST, LATEST = -0.1, 0.4


@frozen(kw_only=True)
class Habit:
    """How a scraper behaves.

    :param timeout: what it says of itself, seconds.
    :param cuts: share of its scrapes that it breaks off.
    :param dies: share of those that it reads, after which it is gone, as when its process is killed.
    :param stalls: each so-and-so-many-th scrape stops being read until the timeout is over; 0 for none.
    :param piece: bytes read at a time.
    :param pause: seconds between two pieces, at most.
    :param window: receive buffer, bytes; None for the kernel's choice.
    :param limit: samples that it takes in one response; 0 for any number.
    :param refuses: at the first line of an odd event it resets the connection, the rest unread.
    """

    timeout: float
    cuts: float = 0.0
    dies: float = 0.0
    stalls: int = 0
    piece: int = 1 << 20
    pause: float = 0.0
    window: int | None = None
    limit: int = 0
    refuses: bool = False


STEADY = Habit(timeout=2.0, dies=0.2)
CUTTING = Habit(timeout=1.0, cuts=0.4, dies=0.1)
SLOW = Habit(timeout=2.0, stalls=10, piece=1 << 14, pause=0.03, window=8192)
LIMITED = Habit(timeout=1.5, dies=0.1, limit=400)
SLOW_AND_CUTTING = Habit(timeout=1.0, cuts=0.3, piece=1 << 13, pause=0.01, window=4096)
#: The pieces are smaller than the daemon's own metrics, which stand last: these are left unread.
PARTICULAR = Habit(timeout=2.0, dies=0.1, piece=2048, refuses=True)

#: Scraper -> its habit.
SCRAPERS = {
    "ann": STEADY,
    "bob": CUTTING,
    "cyd": SLOW,
    "dan": LIMITED,
    "eve": SLOW_AND_CUTTING,
    "fay": PARTICULAR,
}
REFUSING = "fay"


class Refusal(CutShort):
    """One of the lines is not acceptable to the scraper."""


class Scraper(Actor):
    """One scraper under one name, one scrape a turn.

    :param connect: makes its connections, with or without TLS.
    """

    def __init__(
        self,
        name: str,
        habit: Habit,
        *,
        books: Books,
        port: int,
        seed: int,
        connect: Callable[[int, int | None], Line] = Line,
    ) -> None:
        super().__init__(name, seed)
        self._habit = habit
        self._books = books
        self._port = port
        self._connect = connect
        self._line: Line | None = None
        self._door = ""
        self._scrapes = 0
        self._unread = 0  # responses in a row, since one with events was read
        self._cuts = Bag(self.dice, DRAWN)

    def calm_down(self) -> None:
        """From now on read everything."""
        self._habit = evolve(self._habit, cuts=0.0, stalls=0, pause=0.0)

    def leave(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def turn(self) -> None:
        began = time.monotonic()
        cuts = self.dice.random() < self._habit.cuts
        try:
            if self._line is None:
                self._line = self._open()
            if cuts and self._may_cut():
                self._cut(self._line)
            else:
                self._read(self._line)
        except (OSError, CutShort):
            self.leave()
            self.over.wait(0.02)  # nobody there, perhaps
        except (WrongAnswer, marks.Unreadable) as error:
            self._books.note_wrong(f"{self.name}: {error}")
            self.leave()
        self.rest(min(0.1, time.monotonic() - began))

    def _open(self) -> Line:
        """Return a new connection."""
        return self._connect(self._port, self._habit.window)

    def _may_cut(self) -> bool:
        return self._unread < CUTS_IN_A_ROW

    def _understand(self, body: bytes) -> marks.Reading:
        return marks.read(body, time.monotonic())

    # -- reading

    def _ask(self, line: Line, *, close: bool = False) -> Exchange:
        habit = self._habit
        exchange = Exchange(port=line.port, timeout=habit.timeout, asked=time.monotonic(), door=self._door)
        self._books.exchanged(self.name, exchange)
        more = f"&limit={habit.limit}" if habit.limit else ""
        try:
            line.ask(self.name, habit.timeout, close=close, more=more)
        except CutShort as error:
            self._throw_away(line, exchange, error.data, f"not asked: {error}")
            raise
        self._books.moment(ASKED)
        return exchange

    def _read(self, line: Line) -> None:
        """Read a response; sometimes be gone afterwards."""
        habit = self._habit
        self._scrapes += 1
        stalls = bool(habit.stalls) and self._scrapes % habit.stalls == 0
        close = self.dice.random() < habit.dies / 2
        exchange = self._ask(line, close=close)
        self._receive(line, exchange, stalls)
        if close or self.dice.random() < habit.dies:
            if not close:
                self._books.fault(DEATH)
            self.leave()

    def _receive(self, line: Line, exchange: Exchange, stalls: bool = False) -> None:
        habit, data = self._habit, b""
        is_patient = stalls or not self._may_cut()
        until = exchange.asked + habit.timeout + (PATIENCE if is_patient else 0.0)
        try:
            data = line.receive(b"", STALLED_AT if stalls else habit.piece, until)
            exchange.first = time.monotonic()
            self._books.moment(FIRST)
            if stalls:
                self._books.fault(STALL)
                self.over.wait(habit.timeout + 0.2)
            self._check(data)
            while (body := body_of(data)) is None:
                self.over.wait(self.dice.uniform(0.0, habit.pause))
                size = max(habit.piece, len(data) // 32 if habit.refuses else 0)  # joining them takes long
                data = line.receive(data, size, until)
                self._check(data)
        except Refusal as error:
            self._books.fault(REFUSAL)
            self._throw_away(line, exchange, error.data, REFUSAL, reset=True)
            raise
        except CutShort as error:
            self._throw_away(line, exchange, error.data, f"gave up ({error})")
            raise
        reading = self._understand(body)
        self._close_books(exchange, data, "read", reading)
        if habit.limit and reading.samples > habit.limit:
            self._books.note_wrong(f"{self.name}: {reading.samples} samples, and its limit is {habit.limit}")
        self._books.read(self.name, reading)
        if reading.amounts:
            self._was_read()

    def _was_read(self) -> None:
        """Count a response with events as read."""
        self._unread = 0

    def _check(self, data: bytes) -> None:
        """Look at the lines of a response as far as they have come.

        :raises Refusal: the scraper refuses one of them.
        """
        if self._habit.refuses and marks.has_odd_line(data):
            raise Refusal(REFUSAL, data)

    # -- breaking off

    def _cut(self, line: Line) -> None:
        where = self._cuts.draw()
        exchange = self._ask(line)
        if where == AHEAD:
            self._receive(line, exchange)
            exchange = self._ask(line)
            self.over.wait(self.dice.choice([0.0, 0.0, 0.001]))
        data = self._read_some(line, exchange, where)
        self._books.fault(where)
        self._throw_away(line, exchange, data, where, reset=where == AHEAD or self.dice.random() < 0.3)

    def _read_some(self, line: Line, exchange: Exchange, where: str) -> bytes:
        """What is read before the cut; but for `LATE` that is half of the timeout away at the most."""
        until = exchange.asked + self._habit.timeout / 2
        if where == BEFORE:
            self.over.wait(self.dice.choice([0.0, 0.002, 0.005]))
        elif where in (UNREAD, HALF_READ):
            self._await(line, exchange, self.dice.choice([0.0, 0.1, 0.3]))
            there = len(line.peek())
            if where == HALF_READ and there > 1:
                try:
                    data = line.receive(b"", self.dice.randrange(1, there), until)
                except CutShort as error:
                    data = error.data
                self.over.wait(self.dice.choice([0.0, 0.02]))
                return data
        elif where == LATE:
            self._await(line, exchange, 0.0)
            ends = exchange.asked + self._habit.timeout + self.dice.uniform(EARLIEST, LATEST)
            self.over.wait(max(0.0, ends - time.monotonic()))
        return b""

    def _await(self, line: Line, exchange: Exchange, patience: float) -> None:
        """Wait for the first byte and, with patience (seconds), for the last; read nothing."""
        line.await_answer(time.monotonic() + self._habit.timeout / 4)
        if line.peek():
            exchange.first = time.monotonic()
            self._books.moment(FIRST)
        until = time.monotonic() + patience
        while body_of(line.peek()) is None and time.monotonic() < until:
            self.over.wait(0.005)

    def _throw_away(
        self, line: Line, exchange: Exchange, data: bytes, why: str, *, reset: bool = False
    ) -> None:
        """Close, and leave what has come to nobody."""
        self._unread += 1
        unread, finished = line.stop_taking(reset=reset)
        data += unread
        body = body_of(data)
        reading = None if body is None else self._understand(body)
        exchange.finished = finished
        self._books.throw_away(self.name, reading, exchange)
        line.close(reset=reset)
        self._line = None
        self._close_books(exchange, data, why, reading)

    def _close_books(
        self, exchange: Exchange, data: bytes, outcome: str, reading: marks.Reading | None
    ) -> None:
        exchange.ended, exchange.outcome = time.monotonic(), outcome
        exchange.size, exchange.whole = len(data), reading is not None
        exchange.amounts = marks.glimpse(data) if reading is None else reading.amounts
        exchange.process = "?" if reading is None else reading.process
