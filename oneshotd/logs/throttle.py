"""Say it at most once a second, and say how often it happened.

Whoever can send a datagram could otherwise fill the disk with log lines.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

from oneshotd.core.text import escape_unprintable

#: A quoted text is cut here, in characters; enough to find the sender by.
EXAMPLE_CHARS = 200


@define
class _Silence:
    """A reason that was just spoken of: what has come since, and when to say so."""

    call: IDelayedCall
    count: int = 0
    example: dict[str, Any] | None = None


class ThrottledLog:
    """A log line per reason and interval; what comes in between is counted, never forgotten.

    The first occurrence is logged at once. Those of the following interval come out together
    at its end, also when nothing further happens.

    :param text: format of the line; it may use ``{count}``, ``{reason}`` and the fields that
        `note` is given. With several occurrences the fields are those of the first.
    :param interval: seconds of silence after a line.
    """

    def __init__(
        self,
        clock: IReactorTime,
        log: Logger,
        text: str,
        *,
        level: Any = LogLevel.warn,
        interval: float = 1.0,
    ) -> None:
        self._clock = clock
        self._log = log
        self._text = text
        self._level = level
        self._interval = interval
        self._silences: dict[str, _Silence] = {}

    def note(self, reason: str, n: int = 1, **example: Any) -> None:
        """It happened, `n` times.

        :param reason: of a bounded set: each has its own count and its own line.
        :param example: fields of the line that show one case; text is cut and made printable.
        """
        silence = self._silences.get(reason)
        if silence is None:
            self._say(reason, n, example)
        else:
            silence.count += n
            if silence.example is None:
                silence.example = example

    def flush(self) -> None:
        """Say what is still unsaid, now; for the end of the daemon."""
        silences, self._silences = self._silences, {}
        for reason, silence in silences.items():
            silence.call.cancel()
            if silence.count:
                self._emit(reason, silence.count, silence.example or {})

    def _say(self, reason: str, count: int, example: dict[str, Any]) -> None:
        # The silence begins first: a log observer that fails must not open the flood gate.
        self._silences[reason] = _Silence(self._clock.callLater(self._interval, self._end, reason))
        self._emit(reason, count, example)

    def _end(self, reason: str) -> None:
        silence = self._silences.pop(reason)
        if silence.count:
            self._say(reason, silence.count, silence.example or {})

    def _emit(self, reason: str, count: int, example: dict[str, Any]) -> None:
        fields = {key: _quoted(value) for key, value in example.items()}
        self._log.emit(self._level, self._text, reason=reason, count=count, **fields)


def _quoted(value: Any) -> Any:
    """Somebody else's text, short and without control characters; anything else as it is."""
    if not isinstance(value, str):
        return value
    cut = value if len(value) <= EXAMPLE_CHARS else f"{value[:EXAMPLE_CHARS]}…"
    return escape_unprintable(cut)
