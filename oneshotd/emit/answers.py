"""What became of an event: stored, refused, or not known; and when to try again.

Shared by the blocking and the Twisted emitter; nothing here waits or has a socket.
"""

from __future__ import annotations

#: The first pause before another attempt, in seconds; each further one is twice as long.
FIRST_PAUSE = 0.1
#: The longest pause, in seconds; a longer ``Retry-After`` is not waited for.
LONGEST_PAUSE = 5.0

#: Statuses that say "later", of the daemon or of a proxy in front (RFC 9110 section 15, RFC 6585).
_LATER = frozenset((408, 425, 429, 500, 502, 503, 504))
#: Characters of an unexpected answer that are shown.
_SHOWN = 300


class EmitError(Exception):
    """The event is not known to be stored; the text says why, in one line."""


class EmitRefused(EmitError):
    """The daemon will not have it, and another attempt would not change that.

    :param status: the HTTP status; 0 where nothing was sent.
    """

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class EmitUnavailable(EmitError):
    """The daemon was not there, had no time or did not answer in time.

    If the connection broke after the request was sent, the event may be stored all the same.

    :param retry_after: seconds for which the daemon asks to be left alone.
    """

    def __init__(self, text: str, *, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def check(status: int, retry_after: str | None, body: bytes) -> bytes:
    """The body, if the answer is a good one.

    :param retry_after: the header, as it came.
    :raises EmitUnavailable: 503 and the like.
    :raises EmitRefused: every other status but 2xx.
    """
    if 200 <= status < 300:
        return body
    said = _first_line(body) or "without a reason"
    if status in _LATER:
        # The header's other form, a date, is for robots that come back tomorrow.
        seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
        raise EmitUnavailable(f"not now ({status}): {said}", retry_after=seconds)
    raise EmitRefused(f"refused ({status}): {said}", status=status)


def check_ok(body: bytes) -> None:
    """:raises EmitRefused: this is not what oneshotd says to ``POST /event``: the port is another's."""
    if body.strip() != b"ok":
        raise _stranger(body)


def check_tally(body: bytes) -> tuple[int, int]:
    """How many events were stored and how many were known already.

    :raises EmitRefused: this is not what oneshotd says to ``POST /events``.
    """
    import json  # here: a single event does without, and starts faster

    try:
        tally = json.loads(body)
        return int(tally["stored"]), int(tally["duplicates"])
    except (ValueError, TypeError, KeyError):
        raise _stranger(body) from None


def _stranger(body: bytes) -> EmitRefused:
    return EmitRefused(f"this is not oneshotd, its answer: {_first_line(body)}")


def _first_line(body: bytes) -> str:
    """The first line, without what could move a terminal's cursor."""
    text = body.strip().partition(b"\n")[0].decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"


class Patience:
    """How often an event is tried.

    :param retry: seconds, from `now` on, in which another attempt may begin.
    :param now: seconds of a clock that does not jump.
    """

    def __init__(self, retry: float, now: float) -> None:
        self._end = now + retry
        self._pause = FIRST_PAUSE

    def pause(self, now: float, error: EmitUnavailable) -> float:
        """Seconds to wait before the next attempt; the last one is at the very end.

        :raises EmitUnavailable: `error`, as the time is over.
        """
        if now >= self._end:
            raise error
        seconds = max(self._pause, min(error.retry_after, LONGEST_PAUSE))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return min(seconds, self._end - now)
