"""A tool that reports all the time, beside a test."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager


class SteadyTool(ABC):
    """Reports in a thread of its own, from when it is set to work until it is stopped."""

    def __init__(self) -> None:
        self.sent = 0
        self._done = threading.Event()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work meanwhile."""
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join(30)
        assert not thread.is_alive(), "an event was not accepted for 30 s"

    def stop(self) -> None:
        """Nothing more after what is being sent now."""
        self._done.set()

    def _work(self) -> None:
        while not self._done.wait(0.02):
            self.report()

    @abstractmethod
    def report(self) -> None:
        """Report once, and count it in `sent`."""
