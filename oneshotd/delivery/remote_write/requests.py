"""One request to a receiver: send it, read the verdict, and choose the pause before the next attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from oneshotd.delivery.remote_write import encoding
from oneshotd.delivery.remote_write.exchange import Answer, NotSent, Post
from oneshotd.delivery.remote_write.figures import NO_ANSWER, Figures, State
from oneshotd.delivery.remote_write.log import ReceiverLog
from oneshotd.delivery.remote_write.retry import RetrySchedule
from oneshotd.delivery.remote_write.verdicts import Verdict, verdict_of


@frozen(kw_only=True)
class Outcome:
    """What became of a request.

    :param answer: None: there was none.
    :param was_sent: bytes of it may have left.
    :param trouble: why it was not accepted; empty if it was.
    """

    verdict: Verdict
    answer: Answer | None = None
    was_sent: bool = True
    trouble: str = ""

    @property
    def may_be_stored(self) -> bool:
        """Whether the receiver may have stored it, and the answer does not say so."""
        return self.was_sent and self.verdict in (Verdict.AGAIN, Verdict.DOUBTFUL)


class Requests:
    """Sends the requests of one receiver, one at a time.

    :param timeout: seconds for one request.
    :param dice: returns a number from 0 to 1.
    """

    def __init__(
        self,
        post: Post,
        clock: IReactorTime,
        timeout: float,
        figures: Figures,
        log: ReceiverLog,
        dice: Callable[[], float],
    ) -> None:
        self._post = post
        self._clock = clock
        self._timeout = timeout
        self._figures = figures
        self._log = log
        self._retry = RetrySchedule(dice)
        self._under_way: Deferred[Answer] | None = None
        self._has_paused = False  # since the last request that was accepted

    async def send(self, fields: Sequence[bytes]) -> Outcome:
        """Send one request."""
        self._figures.state = State.SENDING
        request = self._under_way = maybeDeferred(self._post, encoding.request(fields))
        request.addTimeout(self._timeout, self._clock)
        try:
            answer = await request
        except Exception as error:
            return self._unanswered(error)
        finally:
            self._under_way = None
        verdict = verdict_of(answer.status)
        self._figures.status = answer.status
        self._figures.requests[verdict.value] += 1
        if verdict is Verdict.ACCEPTED:
            self._accepted()
            return Outcome(verdict=verdict, answer=answer)
        return self._not_accepted(
            Outcome(verdict=verdict, answer=answer, trouble=f"HTTP {answer.status} {answer.text}".rstrip())
        )

    def nothing_waits(self) -> None:
        """Note that there is nothing to send: the receiver does not fail, whatever its last answer was."""
        self._figures.state = State.IDLE
        self._figures.trouble, self._figures.failing_since = "", None

    def abort(self) -> None:
        """Close the connection of the request that is under way."""
        if self._under_way is not None:
            self._under_way.cancel()

    def pause(self, outcome: Outcome) -> float:
        """Return the seconds before the next attempt after a request that was not accepted."""
        self._has_paused = True
        if outcome.verdict is Verdict.MISCONFIGURED:
            self._figures.state = State.MISCONFIGURED
            self._log.misconfigured(outcome.trouble)
            return self._retry.misconfigured()
        self._figures.state = State.RETRYING
        self._log.again(outcome.trouble)
        if outcome.answer is not None:
            return self._retry.failed(outcome.answer.retry_after)
        return self._retry.unanswered() if outcome.was_sent else self._retry.failed()

    def _accepted(self) -> None:
        self._retry.succeeded()
        if self._has_paused:
            self._has_paused = False
            self._log.accepts_again()
        self._figures.trouble, self._figures.failing_since = "", None
        self._figures.accepted_at = self._clock.seconds()

    def _unanswered(self, error: Exception) -> Outcome:
        self._figures.status = None
        self._figures.requests[NO_ANSWER] += 1
        was_sent = not isinstance(error, NotSent)
        trouble = f"{type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, TimeoutError):
            trouble = f"no answer within {self._timeout:g} s"
        elif isinstance(error, NotSent | ConnectionError) and str(error):
            trouble = str(error)
        return self._not_accepted(Outcome(verdict=Verdict.AGAIN, was_sent=was_sent, trouble=trouble))

    def _not_accepted(self, outcome: Outcome) -> Outcome:
        self._figures.trouble = outcome.trouble
        if self._figures.failing_since is None:
            self._figures.failing_since = self._clock.seconds()
        return outcome
