"""A rate limit that knows no clock: a bucket of tokens, of which each event or request takes one."""

from __future__ import annotations

from attrs import define, field, validators

#: Seconds by which a client may be early; more than the rounding of clocks and of sums.
SLACK = 1e-6


@define(kw_only=True, eq=False)
class TokenBucket:
    """Grants so many tokens per second in the mean, and `burst` of them at once.

    Several tokens are granted together if there is one: the bucket is then in debt, and nothing is granted
    before the debt is paid. So a large body passes, and the mean rate holds.

    :param rate: tokens per second, above 0.
    :param burst: tokens of a full bucket, at least 1.
    """

    rate: float = field(validator=validators.gt(0))
    burst: float = field(validator=validators.ge(1))
    _full_at: float = field(default=float("-inf"), init=False)  # when the bucket is full again, on that clock

    def wait(self, now: float) -> float:
        """Return the seconds until a token can be taken; 0: now.

        :param now: seconds of a clock that does not go back, the same in all calls.
        """
        wait = self._full_at - now - (self.burst - 1) / self.rate
        return wait if wait > SLACK else 0.0

    def take(self, n: int, now: float) -> float:
        """Take `n` tokens, if there is one; return the seconds until there is one (0: they are taken)."""
        wait = self.wait(now)
        if not wait:
            self._full_at = max(self._full_at, now) + n / self.rate
        return wait

    def take_some(self, n: int, now: float) -> int:
        """Take at most `n` tokens, without debt; return how many."""
        missing = max(0.0, self._full_at - now - SLACK) * self.rate
        taken = max(0, min(n, int(self.burst - missing)))
        if taken:
            self._full_at = max(self._full_at, now) + taken / self.rate
        return taken

    def give_back(self, n: int) -> None:
        """Put back `n` tokens that were taken for something that was not done."""
        self._full_at -= n / self.rate
