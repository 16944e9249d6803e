"""When a request is tried again. Pure, but for the dice that the caller passes."""

from __future__ import annotations

from collections.abc import Callable

#: Seconds before the second attempt, doubling up to the last one; each ± `SPREAD` of it, so that daemons that
#: lost a receiver together do not return together.
FIRST, LAST = 1.0, 60.0
SPREAD = 0.5

#: Seconds that Retry-After may ask for at most.
MAX_RETRY_AFTER = 300.0


class RetrySchedule:
    """The pauses of one receiver.

    :param dice: returns a number from 0 to 1.
    :ivar attempts: failed attempts in a row.
    """

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self.attempts = 0

    def succeeded(self) -> None:
        """The receiver takes requests: start again at the first pause."""
        self.attempts = 0

    def unanswered(self) -> float:
        """Return the pause after a request without an answer.

        The first one is 0: a server closes a resting connection at any time, and another one may do.
        """
        if self.attempts == 0:
            self.attempts = 1
            return 0.0
        return self.failed()

    def failed(self, retry_after: float | None = None) -> float:
        """Return the pause after an answer that asks for a later attempt, or after no connection.

        :param retry_after: seconds that the receiver asks for.
        """
        pause = self._spread(min(LAST, FIRST * 2.0 ** min(self.attempts, 16)))
        self.attempts += 1
        return max(pause, min(retry_after or 0.0, MAX_RETRY_AFTER))

    def misconfigured(self) -> float:
        """Return the pause after an answer that only a change of the configuration can mend."""
        self.attempts += 1
        return self._spread(LAST)

    def _spread(self, pause: float) -> float:
        return pause * (1.0 + SPREAD * (2.0 * self._dice() - 1.0))
