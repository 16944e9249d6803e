"""The senders and scrapers of a cluster campaign: each connection goes to a door drawn anew.

A door is a daemon, or the load balancer before all of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from attrs import evolve
from soak import marks
from soak.ledger import Books
from soak.line import Line
from soak.scraper import CUTS_IN_A_ROW, Habit, Scraper
from soak.senders import BulkSender, KeyedSender, PlainSender, Sender

#: The door of the load balancer.
BALANCER = "haproxy"

#: Three ways to read; each is gone after half of its scrapes, so that the door changes often.
CLUSTER_SCRAPERS = {
    "ann": Habit(timeout=2.0, dies=0.5),
    "bob": Habit(timeout=1.0, cuts=0.4, dies=0.4),
    "cyd": Habit(timeout=1.5, dies=0.3, cuts=0.15, stalls=12, piece=1 << 14, pause=0.02, window=8192),
}


class ClusterScraper(Scraper):
    """A scraper that goes to another door with each connection.

    A daemon that has seen three resets in a row searches for a sample that the scraper refuses. So a door
    at which two responses were left unread is one at which the next is read. The balancer's door counts
    for every daemon.

    :param doors: door -> port.
    """

    def __init__(self, name: str, habit: Habit, *, books: Books, doors: Mapping[str, int], seed: int) -> None:
        super().__init__(name, habit, books=books, port=0, seed=seed)
        self._doors = doors
        self._unread_at: Counter[str] = Counter()
        self._before = 0

    def calm_down(self) -> None:
        super().calm_down()
        self._habit = evolve(self._habit, dies=0.5)

    def _open(self) -> Line:
        self._door = self.dice.choice(list(self._doors))
        return self._connect(self._doors[self._door], self._habit.window)

    def _reached(self) -> list[str]:
        """Return the daemons that a response may come from."""
        if self._door != BALANCER:
            return [self._door]
        return [door for door in self._doors if door != BALANCER]

    def _may_cut(self) -> bool:
        return all(self._unread_at[door] < CUTS_IN_A_ROW for door in self._reached())

    def _was_read(self) -> None:
        if self._door != BALANCER:
            self._unread_at[self._door] = 0

    def turn(self) -> None:
        before = self._unread
        super().turn()
        if self._unread > before:
            self._unread_at.update(self._reached())

    def _understand(self, body: bytes) -> marks.Reading:
        return marks.read(body, time.monotonic(), names_process=False)


class _AtAnyDoor(Sender):
    """Connects to a door drawn anew, after each answer that was a refusal, and now and then.

    :param doors: door -> port.
    """

    def __init__(self, name: str, *, books: Books, doors: Mapping[str, int], seed: int) -> None:
        super().__init__(name, books=books, port=0, seed=seed)
        self._ports = list(doors.values())

    def _choose_port(self) -> int:
        return self.dice.choice(self._ports)

    def _was_answered(self, status: int) -> None:
        if status != 200 or self.dice.random() < 0.2:
            self._client.close()


class ClusterKeyed(_AtAnyDoor, KeyedSender):
    """Events with keys, repeated at another door until one has stored them."""


class ClusterPlain(_AtAnyDoor, PlainSender):
    """Events without keys, sent once."""


class ClusterBulk(_AtAnyDoor, BulkSender):
    """Bodies with many events, with and without a key."""
