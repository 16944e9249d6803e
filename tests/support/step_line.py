"""A line to a receiver of remote write that holds one exchange at a step, until the test goes on."""

from __future__ import annotations

import threading
from enum import Enum

from support.exchange_line import ExchangeLine, Peer, body_of
from support.remote_write_reader import STALE

_MARKER = STALE.to_bytes(8, "little")

#: Seconds until a test that has broken off is not waited for any more.
PATIENCE = 60.0


class Step(Enum):
    """Where an exchange is held."""

    ASKED = "the request has come, and nothing of it is passed on"
    HALF = "half of the request is passed on"
    STORED = "the receiver has answered, and the daemon has not got the answer"
    ANSWERED = "the daemon has got the answer"


class StepLine(ExchangeLine):
    """Holds the next exchange of a kind at a step.

    :ivar held: set when an exchange is held.
    :ivar answers: number of answers that were passed on whole.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.held = threading.Event()
        self.answers = 0
        self._lock = threading.Lock()
        self._wanted: tuple[Step, bool] | None = None
        self._released = threading.Event()
        self._goes_on = False

    def hold(self, step: Step, *, markers: bool = False) -> None:
        """Hold the next exchange of events, or of stale markers."""
        self.held.clear()
        self._released.clear()
        self._wanted = step, markers

    def release(self, *, goes_on: bool) -> None:
        """Let the held exchange go on, or close its connections."""
        self._goes_on = goes_on
        self._released.set()

    def exchange(self, request: bytes, receiver: Peer) -> bytes:
        """Pass a request on, and hold it where that is wanted."""
        if not self._passes(Step.ASKED, request):
            return b""
        if self._is_wanted(Step.HALF, request):
            receiver.send(request[: len(request) // 2])
            self._passes(Step.HALF, request)
            return b""
        receiver.send(request)
        answer = receiver.message()
        return answer if self._passes(Step.STORED, request) else b""

    def answered(self, request: bytes) -> None:
        """Hold the line once the daemon has the answer."""
        self.answers += 1
        self._passes(Step.ANSWERED, request)

    def _is_wanted(self, step: Step, request: bytes) -> bool:
        return self._wanted == (step, _MARKER in body_of(request))

    def _passes(self, step: Step, request: bytes) -> bool:
        """Hold an exchange if that is wanted; return whether it goes on."""
        with self._lock:
            if not self._is_wanted(step, request):
                return True
            self._wanted = None
        self.held.set()
        self._released.wait(PATIENCE)
        return self._goes_on
