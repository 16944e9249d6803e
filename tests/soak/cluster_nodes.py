"""A daemon of a cluster campaign: its ports, its processes, and when each of them lived."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from soak.cluster_books import ClusterBooks
from soak.cluster_deliveries import Life
from soak.receiver import RECEIVER
from support.daemon import Daemon
from support.processes import free_port

#: The metric by which a daemon says whether it leaves the receiver to another one.
STANDING_BY = f'oneshotd_receiver_standing_by{{scraper="{RECEIVER}"}}'


class ClusterDaemon:
    """One daemon, over restarts.

    :param address: of the database, for libpq.
    :param margin: seconds that a lease outlives the timeout of its scrape.
    :param more: further options.
    :ivar daemon: its process, over restarts.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        address: str,
        books: ClusterBooks,
        margin: float,
        more: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.port = free_port()
        self.lives: list[Life] = []
        self._books = books
        self._began = 0.0
        self._paused = 0.0
        self._resuming = threading.Lock()
        folder.mkdir()
        options = (
            f"--http=localhost:{self.port}",
            f"--udp=127.0.0.1:{self.port}",
            f"--store=postgresql:{address}",
            f"--daemon-name={name}",
            f"--lease-margin={margin:g}s",
        )
        self.daemon = Daemon(
            folder, options=options, port=self.port, more=more, variables={"LOG_LEVEL": "debug"}
        )

    def come_back(self, seconds: float) -> bool:
        """Start; again and again while the database keeps it from starting, for so many seconds."""
        since = time.monotonic()
        while True:
            self._began = time.monotonic()
            try:
                self.daemon.start()
            except AssertionError:
                self._note_end(killed=True)
                if time.monotonic() - since > seconds:
                    return False
                time.sleep(0.2)
            else:
                self._books.down(since)
                return True

    def kill(self) -> None:
        """``kill -9``."""
        self.daemon.kill()
        self._note_end(killed=True)

    def stop(self) -> None:
        """Stop it in order, as a rolling upgrade does; without the database that may take too long."""
        began = time.monotonic()
        try:
            self.daemon.stop()
        except AssertionError as error:
            self._note_end(killed=True, stopping=began)
            if not any(t.began < time.monotonic() and t.ended > began for t in self._books.troubles):
                self._books.note_wrong(f"{self.name}: {str(error)[:2000]}")
        else:
            self._note_end(killed=False, stopping=began)

    def pause(self) -> None:
        """Stop its process (SIGSTOP)."""
        self._paused = time.monotonic()
        os.kill(self.daemon.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, if it is still there."""
        with self._resuming:
            self._books.down(self._paused)
            try:
                os.kill(self.daemon.process.pid, signal.SIGCONT)
            except AssertionError:  # it was killed
                return

    def _note_end(self, *, killed: bool, stopping: float = float("inf")) -> None:
        now = time.monotonic()
        self.lives.append(
            Life(daemon=self.name, began=self._began, ended=now, killed=killed, stopping=stopping)
        )
        self._books.down(self._paused if killed and self._paused > self._began else now)

    def look(self) -> str:
        """Return its metrics without consuming events."""
        return self.daemon.look()

    def pushes(self) -> bool:
        """Whether it is the one that sends to the receiver, as far as it knows."""
        try:
            return f"{STANDING_BY} 0.0" in self.daemon.get("/metrics/daemon")
        except OSError:
            return False

    def log(self) -> str:
        """Return its log, over all its processes."""
        return self.daemon.process.log_text()

    def all_lives(self) -> list[Life]:
        """Return its processes, the running one included."""
        running = Life(daemon=self.name, began=self._began, ended=float("inf"), killed=False)
        return [*self.lives, running] if not self.lives or self.lives[-1].began != self._began else self.lives

    def discard(self) -> None:
        """Kill what still runs."""
        self.daemon.process.kill()
