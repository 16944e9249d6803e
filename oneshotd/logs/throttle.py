"""Throttled logging: one line per reason and interval, with a count of the suppressed ones.

Without it, any client that can send a datagram could fill the disk with log lines.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel

from oneshotd.core.text import escape_unprintable

#: Characters after which quoted text is cut; enough to identify its sender.
EXAMPLE_CHARS = 200


@define
class _Interval:
    """The interval after a line of one reason: the lines suppressed in it."""

    call: IDelayedCall
    count: int = 0
    example: dict[str, Any] | None = None


class ThrottledLog:
    """Writes one line per reason and interval, with a count of the suppressed ones.

    The first occurrence is logged at once. All occurrences of the following interval are logged as one
    line at its end, also if no further one follows.

    :param text: format of the line; it may use ``{count}``, ``{reason}`` and the fields that
        `note` is given. A line for several occurrences has the fields of the first.
    :param interval: seconds between two lines of a reason.
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
        self._seconds = interval
        self._intervals: dict[str, _Interval] = {}

    def note(self, reason: str, n: int = 1, **example: Any) -> None:
        """Log or count `n` occurrences.

        :param reason: of a bounded set: each reason has its own count and its own lines.
        :param example: further fields of the line; text is shortened and made printable.
        """
        interval = self._intervals.get(reason)
        if interval is None:
            self._start(reason, n, example)
        else:
            interval.count += n
            if interval.example is None:
                interval.example = example

    def flush(self) -> None:
        """Write the counts of suppressed lines now; called at shutdown."""
        intervals, self._intervals = self._intervals, {}
        for reason, interval in intervals.items():
            interval.call.cancel()
            if interval.count:
                self._emit(reason, interval.count, interval.example or {})

    def _start(self, reason: str, count: int, example: dict[str, Any]) -> None:
        # Start the interval first: lines stay throttled even if a log observer raises.
        self._intervals[reason] = _Interval(self._clock.callLater(self._seconds, self._end, reason))
        self._emit(reason, count, example)

    def _end(self, reason: str) -> None:
        interval = self._intervals.pop(reason)
        if interval.count:
            self._start(reason, interval.count, interval.example or {})

    def _emit(self, reason: str, count: int, example: dict[str, Any]) -> None:
        fields = {key: _quoted(value) for key, value in example.items()}
        self._log.emit(self._level, self._text, reason=reason, count=count, **fields)


def _quoted(value: Any) -> Any:
    """Shorten text and escape its control characters; return other values unchanged."""
    if not isinstance(value, str):
        return value
    cut = value if len(value) <= EXAMPLE_CHARS else f"{value[:EXAMPLE_CHARS]}…"
    return escape_unprintable(cut)
