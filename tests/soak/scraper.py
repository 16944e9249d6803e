"""The scrapers of a campaign: they write down what they have read to the last byte, or thrown away."""

from __future__ import annotations

import time

from attrs import evolve, frozen
from soak import marks
from soak.actor import Actor
from soak.ledger import Books
from soak.line import CutShort, Line, WrongAnswer, body_of

#: Where a scrape is broken off.
BEFORE, UNREAD, HALF_READ = (
    f"a scraper cuts its connection: {where}" for where in ("before the answer", "unread", "half-read")
)
STALL = "a scraper stops reading until its timeout is over"
DEATH = "a scraper is gone after reading, before its next scrape"
CUTS = (BEFORE, UNREAD, HALF_READ, STALL, DEATH)

#: Seconds beyond its own timeout for which a scraper that has stalled goes on reading.
PATIENCE = 5.0

#: Bytes that a scraper reads before it stalls.
STALLED_AT = 1000


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
    """

    timeout: float
    cuts: float = 0.0
    dies: float = 0.0
    stalls: int = 0
    piece: int = 1 << 20
    pause: float = 0.0
    window: int | None = None


STEADY = Habit(timeout=2.0, dies=0.2)
CUTTING = Habit(timeout=1.0, cuts=0.4, dies=0.1)
SLOW = Habit(timeout=2.0, stalls=20, piece=1 << 14, pause=0.03, window=8192)

#: Scraper -> its habit.
SCRAPERS = {"ann": STEADY, "bob": CUTTING, "cyd": SLOW}


class Scraper(Actor):
    """One scraper under one name, one scrape a turn."""

    def __init__(self, name: str, habit: Habit, *, books: Books, port: int, seed: int) -> None:
        super().__init__(name, seed)
        self._habit = habit
        self._books = books
        self._port = port
        self._line: Line | None = None
        self._scrapes = 0

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
                self._line = Line(self._port, self._habit.window)
            if cuts:
                self._cut(self._line)
            else:
                self._read(self._line)
        except (OSError, CutShort) as error:
            if isinstance(error, CutShort) and self._line is not None:
                self._throw_away(self._line, error.data)
            self.leave()
            self.over.wait(0.02)  # nobody there, perhaps
        except (WrongAnswer, marks.Unreadable) as error:
            self._books.note_wrong(f"{self.name}: {error}")
            self.leave()
        self.rest(min(0.1, time.monotonic() - began))

    def _read(self, line: Line) -> None:
        habit = self._habit
        self._scrapes += 1
        stalls = habit.stalls and self._scrapes % habit.stalls == 0
        until = time.monotonic() + habit.timeout + (PATIENCE if stalls else 0.0)
        close = self.dice.random() < habit.dies / 2
        line.ask(self.name, habit.timeout, close=close)
        data = line.receive(b"", STALLED_AT if stalls else habit.piece, until)
        if stalls:
            self._books.fault(STALL)
            self.over.wait(habit.timeout + 0.2)
        while (body := body_of(data)) is None:
            self.over.wait(self.dice.uniform(0.0, habit.pause))
            data = line.receive(data, habit.piece, until)
        self._books.read(self.name, marks.read(body, time.monotonic()))
        if close or self.dice.random() < habit.dies:
            if not close:
                self._books.fault(DEATH)
            self.leave()

    def _cut(self, line: Line) -> None:
        """Break off somewhere, at the latest when half of its timeout is over."""
        until = time.monotonic() + self._habit.timeout / 2
        line.ask(self.name, self._habit.timeout)
        data = b""
        where = self.dice.choice([BEFORE, UNREAD, UNREAD, HALF_READ, HALF_READ])
        if where == BEFORE:
            self.over.wait(self.dice.choice([0.0, 0.002, 0.005]))
        else:
            self._await(line, self.dice.choice([0.0, 0.1, 0.3]))
            there = len(line.peek())
            if where == HALF_READ and there > 1:
                data = line.receive(data, self.dice.randrange(1, there), until)
                self.over.wait(self.dice.choice([0.0, 0.02]))
        self._books.fault(where)
        self._throw_away(line, data)
        line.close(reset=self.dice.random() < 0.3)
        self._line = None

    def _await(self, line: Line, patience: float) -> None:
        """Wait for the first byte and, with patience (seconds), for the last; read nothing."""
        line.await_answer(time.monotonic() + self._habit.timeout / 4)
        until = time.monotonic() + patience
        while body_of(line.peek()) is None and time.monotonic() < until:
            self.over.wait(0.005)

    def _throw_away(self, line: Line, data: bytes) -> None:
        """Leave what has come, and what is still to be read of it, to nobody."""
        body = body_of(data + line.peek())
        reading = None if body is None else marks.read(body, time.monotonic())
        self._books.throw_away(self.name, reading)
