"""End connections on which an answer does not come.

A COMMIT waits for the synchronous standby as long as that takes, and no timeout of the server ends it; nor
does one end the wait for a server process that is stopped. Such a connection counts as lost.
"""

from __future__ import annotations

import threading
import time
from weakref import WeakSet

from twisted.logger import Logger

from oneshotd.store.postgresql.link import Link

#: Seconds for an answer: more than the server's own timeouts (`link.py`).
DEADLINE = 20.0

#: Seconds between two looks at the connections.
INTERVAL = 1.0


class Watchdog:
    """A thread that ends connections which wait for longer than `DEADLINE`."""

    _log = Logger()

    def __init__(self) -> None:
        self._links: WeakSet[Link] = WeakSet()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="oneshotd-pg-watchdog", daemon=True)
        self._thread.start()

    def add(self, link: Link) -> None:
        """Watch a connection, as long as it is used."""
        with self._lock:
            self._links.add(link)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def _work(self) -> None:
        while not self._stopped.wait(INTERVAL):
            with self._lock:
                links = list(self._links)
            for link in links:
                if link.cut_if_waiting_since(time.monotonic() - DEADLINE):
                    self._log.debug("a connection to the database was ended: no answer came")
