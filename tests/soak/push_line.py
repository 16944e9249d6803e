"""The line before the receiver of a campaign: it loses, cuts and delays in both directions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from attrs import define
from soak.actor import Bag
from soak.ledger import Books
from support.exchange_line import ExchangeLine, Peer, body_of
from support.remote_write_reader import STALE

#: Seconds that the daemon gives to a request, and that a late one comes later, at most.
TIMEOUT, LATE = 2.0, 1.5

#: Moments that are waited for: a request with events has come, or one with stale markers; the receiver has
#: answered, and the daemon has not got the answer; the daemon has got an answer to events.
PUSHED, MARKED, STORED, SETTLING = "pushed", "marked", "stored", "settling"

#: Seconds for which an exchange is held at a moment for which somebody waits.
HELD = 2.0

#: What becomes of an exchange.
LOST, HALF, ANSWER_LOST, ANSWER_HALF, SLOW, REQUEST_LATE, ANSWER_LATE = FAULTS = tuple(
    f"remote write: {what}"
    for what in (
        "the request is lost",
        "half of the request arrives",
        "the answer is lost",
        "half of the answer arrives",
        "request and answer are delayed",
        "the request arrives after the daemon has given it up",
        "the answer comes after the daemon has given it up",
    )
)

#: How often each comes among those that are drawn, and the share of the exchanges with one.
DRAWN = (LOST, LOST, HALF, ANSWER_LOST, ANSWER_LOST, ANSWER_HALF, SLOW, SLOW, REQUEST_LATE, ANSWER_LATE)
SHARE = 0.15

_MARKER = STALE.to_bytes(8, "little")


@define(kw_only=True)
class Pushed:
    """One request.

    :param asked: monotonic seconds at which it had come.
    :param body: as it came.
    :ivar fault: what was done to it; empty: nothing.
    :ivar status: the receiver's answer; empty: none came.
    :ivar ended: monotonic seconds at which its answer was passed on; None: it was not, or not whole.
    """

    asked: float
    body: bytes
    fault: str = ""
    status: str = ""
    ended: float | None = None


class PushLine(ExchangeLine):
    """Draws a fault for a part of the exchanges, and keeps a record of all of them.

    :ivar calm: no faults any more.
    :ivar pushed: all requests.
    """

    def __init__(self, target: int, *, books: Books, seed: int) -> None:
        super().__init__(target)
        self.calm = False
        self.pushed: list[Pushed] = []
        self._books = books
        self._dice = Random(f"{seed}/push-line")
        self._faults = Bag(self._dice, DRAWN)
        self._lock = threading.Lock()
        self._under_way: dict[int, Pushed] = {}
        self._held = ""
        self._released = threading.Event()

    @contextmanager
    def holding(self, moment: str) -> Iterator[None]:
        """Hold an exchange that comes to this moment, until the context ends."""
        self._released.clear()
        self._held = moment
        try:
            yield
        finally:
            self._held = ""
            self._released.set()

    def exchange(self, request: bytes, receiver: Peer) -> bytes:
        """Pass a request on, with or without a fault."""
        pushed = Pushed(asked=time.monotonic(), body=body_of(request))
        fault, delay = self._begin(pushed)
        has_markers = _MARKER in pushed.body
        self._at(MARKED if has_markers else PUSHED)
        if fault == LOST:
            return b""
        if fault == HALF:
            receiver.send(request[: len(request) // 2])
            return b""
        if fault in (SLOW, REQUEST_LATE):
            self.closing.wait(delay)
        receiver.send(request)
        answer = receiver.message()
        pushed.status = answer[9:12].decode("latin-1")
        self._at(STORED)
        if fault in (SLOW, ANSWER_LATE):
            self.closing.wait(delay)
        if fault == ANSWER_LOST:
            return b""
        return answer[: len(answer) // 2] if fault == ANSWER_HALF else answer

    def answered(self, request: bytes) -> None:
        """Note that the daemon has got the answer."""
        with self._lock:
            pushed = self._under_way.pop(threading.get_ident())
        pushed.ended = time.monotonic()
        if _MARKER not in pushed.body:
            self._books.moment(SETTLING)

    def _begin(self, pushed: Pushed) -> tuple[str, float]:
        """Note a request, and draw what becomes of it and the seconds for which it is delayed."""
        with self._lock:
            self.pushed.append(pushed)
            self._under_way[threading.get_ident()] = pushed
            if self.calm or self._dice.random() > SHARE:
                return "", 0.0
            pushed.fault = self._faults.draw()
            if pushed.fault == SLOW:
                delay = self._dice.uniform(0.01, 0.4)
            else:
                delay = TIMEOUT + self._dice.uniform(0.05, LATE)
        self._books.fault(pushed.fault)
        return pushed.fault, delay

    def _at(self, moment: str) -> None:
        self._books.moment(moment)
        if self._held == moment:
            self._released.wait(HELD)
