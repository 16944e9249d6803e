"""A load balancer for tests: each connection goes to the next daemon, and is closed after its answer.

Prometheus keeps a connection open, so that a real balancer would give it one daemon for hours.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from types import TracebackType

#: Seconds of silence after an answer, after which a connection is closed; less than a scrape interval.
SILENCE = 0.2

#: Seconds within which a daemon begins to answer.
PATIENCE = 30.0


class AlternatingProxy:
    """Listens on a port of 127.0.0.1 for as long as it is entered.

    :param targets: the daemons' ports on the same address.
    :ivar answered: how many connections each daemon has answered.
    """

    def __init__(self, targets: Sequence[int]) -> None:
        self.answered = dict.fromkeys(targets, 0)
        self._targets = cycle(targets)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> AlternatingProxy:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client, next(self._targets)))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, target: int) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", target)) as daemon:
            has_answered = False
            while not self._closing.is_set():
                ready, _, _ = select.select([client, daemon], [], [], SILENCE if has_answered else PATIENCE)
                if not ready:
                    break
                for sock in ready:
                    data = sock.recv(65536)
                    if not data:
                        return
                    if sock is daemon and not has_answered:
                        has_answered = True
                        self.answered[target] += 1
                    (client if sock is daemon else daemon).sendall(data)
