"""Read the body of an answer: the beginning of its text, and nothing of the rest."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

#: Bytes of the text that are kept.
KEPT_BYTES = 500


class AnswerBody(Protocol):
    """Reads a body; `whole` fires with its first line, printable.

    It fires, too, if the connection breaks in the body: the status, which came before, is the answer.
    """

    def __init__(self) -> None:
        self.whole: Deferred[str] = Deferred()
        self._kept = b""

    def dataReceived(self, data: bytes) -> None:
        if len(self._kept) < KEPT_BYTES:
            self._kept += data[: KEPT_BYTES - len(self._kept)]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.whole.called:
            line = self._kept.decode("utf-8", "replace").strip().partition("\n")[0]
            self.whole.callback("".join(c if c.isprintable() else " " for c in line).strip())
