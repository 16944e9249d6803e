"""A tool that reports all the time, beside a test."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from support.daemon import BROWSER


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


class KeyedTool(SteadyTool):
    """Reports each event under a key until it is answered, at one daemon after the other.

    :param urls: of the daemons.
    :ivar refused: attempts without a connection or an answer, or answered 503.
    """

    def __init__(self, *urls: str) -> None:
        super().__init__()
        self.refused = 0
        self._urls = urls

    def post(self, number: int, query: str, *, attempts: int, timeout: float) -> None:
        """Report the event of this number; return when it is stored.

        :param timeout: seconds of an attempt.
        :raises AssertionError: it was not accepted.
        """
        for attempt in range(attempts):
            request = urllib.request.Request(
                f"{self._urls[(number + attempt) % len(self._urls)]}/event?{query}",
                method="POST",
                headers={"Idempotency-Key": f'"steady-{number}"'},
            )
            try:
                with BROWSER.open(request, timeout=timeout):
                    return
            except urllib.error.HTTPError as answer:
                with answer:
                    if answer.code != 503:
                        raise
            except OSError:
                pass
            self.refused += 1
            time.sleep(0.1)  # the pause of a client that tries again
        raise AssertionError(f"event {number} was not accepted in {attempts} attempts")
