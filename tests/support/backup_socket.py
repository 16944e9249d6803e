"""A UNIX socket that answers each request for a backup with the same bytes."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType

HEAD = b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n"


def answer(status: int, body: bytes) -> bytes:
    """Return the bytes of an answer."""
    return HEAD % (status, len(body)) + body


class BackupSocket:
    """Listens while the context is open.

    :param reply: what each client gets, and then the end of the connection; None: nothing, and no end.
    :ivar path: its file, whose name is short enough.
    :ivar requests: all that clients have sent.
    """

    def __init__(self, reply: bytes | None) -> None:
        self._reply = reply
        self._folder = tempfile.TemporaryDirectory(prefix="oneshotd-")
        self.path = Path(self._folder.name) / "backup.sock"
        self.requests: list[bytes] = []
        self._clients: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> BackupSocket:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._thread.join(30)
        for client in self._clients:
            client.close()
        self._listener.close()
        self._folder.cleanup()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            request = b""
            while b"\r\n\r\n" not in request and (data := client.recv(65536)):
                request += data
            self.requests.append(request)
            if self._reply is not None:
                client.sendall(self._reply)
                client.shutdown(socket.SHUT_RDWR)
