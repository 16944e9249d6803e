"""A TCP proxy between the daemon and a receiver of remote write, which loses requests and answers."""

from __future__ import annotations

import threading
from enum import Enum
from itertools import cycle

from support.exchange_line import ExchangeLine, Peer


class Fault(Enum):
    """What happens to a request."""

    #: Nothing of it is passed on.
    LOST = "lost"
    #: Half of it is passed on.
    HALF = "half"
    #: It is passed on, and its answer is lost.
    NO_ANSWER = "no answer"


class ReceiverLine(ExchangeLine):
    """Breaks exchanges as often as it is told.

    :param target: the receiver's port on 127.0.0.1.
    :param every: each request of this number has a fault, all kinds in turn; 0: none has.
    :ivar requests: number of requests; `broken`: of those with a fault.
    """

    def __init__(self, target: int, every: int = 0) -> None:
        super().__init__(target)
        self.requests = 0
        self.broken = 0
        self.every = every
        self._faults = cycle(Fault)
        self._lock = threading.Lock()

    def exchange(self, request: bytes, receiver: Peer) -> bytes:
        """Pass a request on, unless it has a fault."""
        fault = self._fault()
        if fault is Fault.LOST:
            return b""
        if fault is Fault.HALF:
            receiver.send(request[: len(request) // 2])
            return b""
        answer = super().exchange(request, receiver)
        return b"" if fault is Fault.NO_ANSWER else answer

    def _fault(self) -> Fault | None:
        with self._lock:
            self.requests += 1
            if not self.every or self.requests % self.every:
                return None
            self.broken += 1
            return next(self._faults)
