"""Read an answer of the daemon, and schedule the next attempt, at one address or at several.

The blocking and the Twisted emitter share this module; it has no clock and no socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from oneshotd.emit.settings import Target

#: The first pause before another attempt, in seconds; each further one is twice as long.
FIRST_PAUSE = 0.1
#: The longest pause, in seconds; a longer ``Retry-After`` is not waited for.
LONGEST_PAUSE = 5.0

#: Statuses that say "later", of the daemon or of a proxy in front (RFC 9110 section 15, RFC 6585).
_LATER = frozenset((408, 425, 429, 500, 502, 503, 504))
#: Statuses that refuse the client, not the event (RFC 9110 section 15.5).
_DENIED = frozenset((401, 403))
#: Characters of an unexpected answer that are shown.
_SHOWN = 300
#: Too many requests of this client (RFC 6585 section 4): the rate holds at each daemon.
_TOO_MANY = 429


class EmitError(Exception):
    """The event is not known to be stored; the text says why, in one line."""


class EmitRefused(EmitError):
    """The daemon refuses the event; another attempt would get the same answer.

    :param status: the HTTP status; 0 where nothing was sent.
    """

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class EmitDenied(EmitRefused):
    """The daemon refuses the credential: there is none, it is wrong, or it may not do this (401, 403).

    `status` is 0 where TLS refuses the client's certificate.
    """


class EmitUnavailable(EmitError):
    """The daemon could not be reached, was busy or did not answer in time.

    If the connection broke after the request was sent, the event may be stored all the same.

    :param retry_after: seconds to wait before the next attempt, as the daemon asks.
    :param status: the HTTP status; 0 without an answer.
    """

    def __init__(self, text: str, *, retry_after: float = 0.0, status: int = 0) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.status = status


E = TypeVar("E", bound=EmitError)


def check(status: int, retry_after: str | None, body: bytes, sent_with: str = "") -> bytes:
    """Return the body of a successful answer.

    :param retry_after: the header's text.
    :param sent_with: which credential the request had, for `EmitDenied`.
    :raises EmitUnavailable: the status asks for another attempt, as 503 does.
    :raises EmitDenied: 401 or 403.
    :raises EmitRefused: any other status that is not 2xx.
    """
    if 200 <= status < 300:
        return body
    said = _first_line(body) or "without a reason"
    if status in _LATER:
        # The header's other form, a date, is for waits longer than LONGEST_PAUSE.
        seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
        raise EmitUnavailable(f"not now ({status}): {said}", retry_after=seconds, status=status)
    if status in _DENIED:
        raise EmitDenied(f"refused ({status}): {'; '.join(filter(None, [said, sent_with]))}", status=status)
    raise EmitRefused(f"refused ({status}): {said}", status=status)


def check_ok(body: bytes) -> None:
    """Check the body of an answer to ``POST /event``.

    :raises EmitRefused: oneshotd does not answer this: another program has the port.
    """
    if body.strip() != b"ok":
        raise _not_oneshotd(body)


def check_tally(body: bytes) -> tuple[int, int]:
    """Return how many events were stored, and how many were duplicates.

    :raises EmitRefused: oneshotd does not answer this to ``POST /events``.
    """
    import json  # here: only batches need it, and a single event starts faster

    try:
        tally = json.loads(body)
        return int(tally["stored"]), int(tally["duplicates"])
    except (ValueError, TypeError, KeyError):
        raise _not_oneshotd(body) from None


def _not_oneshotd(body: bytes) -> EmitRefused:
    return EmitRefused(f"this is not oneshotd, its answer: {_first_line(body)}")


def _first_line(body: bytes) -> str:
    """Return the first line, unprintable characters replaced: they could move a terminal's cursor."""
    text = body.strip().partition(b"\n")[0].decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"


class RetrySchedule:
    """When an event is sent again: exponential backoff within a limit.

    :param retry: seconds, from `now` on, in which another attempt may begin.
    :param now: seconds of a monotonic clock.
    """

    def __init__(self, retry: float, now: float) -> None:
        self._end = now + retry
        self._pause = FIRST_PAUSE

    def pause(self, now: float, error: EmitUnavailable) -> float:
        """Return the seconds until the next attempt; the last attempt is at the end of `retry`.

        :raises EmitUnavailable: `error`; the time for attempts is over.
        """
        if now >= self._end:
            raise error
        seconds = max(self._pause, min(error.retry_after, LONGEST_PAUSE))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return min(seconds, self._end - now)


class Round:
    """One attempt at each address in turn, all within one timeout.

    Each address has an equal share of the time that is left, so that one which does not answer leaves
    time for the next. What one takes beyond its share, to resolve a host's name, is not taken from others.

    :param timeout: seconds for all addresses together.
    """

    def __init__(self, addresses: Sequence[Target], timeout: float) -> None:
        self._several = len(addresses) > 1
        self._untried = len(addresses)
        self._left = timeout
        self._share = self._began = 0.0
        self._failures: list[EmitUnavailable] = []

    def seconds(self, now: float) -> float:
        """Return the time of the next address, which begins.

        :param now: seconds of a monotonic clock.
        """
        self._left -= min(self._share, now - self._began)
        share = self._left / self._untried
        if self._several:
            share = round(share, 2) or share  # a message shows it
        self._share, self._began = share, now
        return share

    def failed(self, address: Target, error: EmitUnavailable) -> None:
        """Note that an address gave no answer, or asks for another attempt; return if another is left.

        :raises EmitUnavailable: this was the last one, or the answer is meant for all.
        """
        self._untried -= 1
        self._failures.append(self.named(address, error))
        if error.status == _TOO_MANY:
            raise error
        if not self._untried:
            raise self._failure()

    def named(self, address: Target, error: E) -> E:
        """Return the error; with several addresses its text says which one it is about."""
        if self._several:
            error.args = (f"{address}: {error}",)
        return error

    def _failure(self) -> EmitUnavailable:
        if not self._several:
            return self._failures[0]
        pause = max(failure.retry_after for failure in self._failures)
        return EmitUnavailable("; ".join(map(str, self._failures)), retry_after=pause)
